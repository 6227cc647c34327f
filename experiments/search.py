"""Searches the best multi-LLM system; the same command continues a killed run.

  python -m experiments.search --config=configs/quickstart.py --workdir=runs/quickstart

In several processes: see docs/devices.md. --profile=FOLDER writes a trace of the run
that ui.perfetto.dev opens: best with --config.search.iterations=1.
"""

import contextlib

from absl import flags
import jax

from jswarm import build, cli, ranks, report, run

_CONFIG = cli.define_config()
cli.define_processes()
_PROFILE = flags.DEFINE_string("profile", "", "Folder of a trace for Perfetto.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made or continued.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unknown arguments {argv[1:]}: fields are set by --config.x.y=.")
  config = _CONFIG.value
  cli.join(config)
  progress = cli.Progress(disable=not (config.log.progress and ranks.is_writer()))
  plan = build.plan(config, progress=progress, workdir=_WORKDIR.value)
  progress.expect(cli.planned_calls(plan))
  profile = (jax.profiler.trace(_PROFILE.value, create_perfetto_trace=True)
             if _PROFILE.value else contextlib.nullcontext())
  with profile:
    result = run.run(plan, _WORKDIR.value)
  progress.close()
  if not ranks.is_writer():
    return
  print(report.table(result))
  print(f"{_WORKDIR.value}/results.json: {result.results['finish_reason']} after"
        f" {result.results['iterations']} iterations,"
        f" {result.results['timing']['seconds']:.0f} s.")


if __name__ == "__main__":
  cli.launch(main, "config", "workdir")
