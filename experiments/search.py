"""Searches the best multi-LLM system; the same command continues a killed run.

  python -m experiments.search --config=configs/quickstart.py --workdir=runs/quickstart

In several processes: see docs/devices.md. --profile=FOLDER writes a trace of the run
that ui.perfetto.dev opens: best with --config.search.iterations=1. --skip_bad_experts
goes on without experts that are refused. --live=8300 serves the report while it grows,
to this machine alone.
"""

import contextlib

from absl import flags
import jax

from jswarm import cli
from jswarm.distributed import processes
from jswarm.report import live, pages, tables
from jswarm.run import loop
from jswarm.wiring import search

_CONFIG = cli.define_config()
_SKIP = cli.define_skipping()
cli.define_processes()
_PROFILE = flags.DEFINE_string("profile", "", "Folder of a trace for Perfetto.")
_LIVE = flags.DEFINE_integer("live", None, "Port of a page that shows the search.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made or continued.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unknown arguments {argv[1:]}: fields are set by --config.x.y=.")
  config = cli.without_bad(_CONFIG.value, _SKIP)
  cli.end_on_signal()
  cli.keep_compiled(config)
  cli.join(config)
  progress = cli.Progress(disable=not (config.log.progress and processes.is_writer()))
  plan = search.plan(config, progress=progress, workdir=_WORKDIR.value)
  progress.expect(cli.planned_calls(plan))
  if _LIVE.value is not None and processes.is_writer():
    live.start(_WORKDIR.value, _LIVE.value)
  profile = (
    jax.profiler.trace(_PROFILE.value, create_perfetto_trace=True)
    if _PROFILE.value
    else contextlib.nullcontext()
  )
  with profile:
    result = loop.run(plan, _WORKDIR.value)
  progress.close()
  if not processes.is_writer():
    return
  pages.try_write(_WORKDIR.value)
  print(tables.table(result.results))
  print(
    f"{_WORKDIR.value}/results.json: {result.results['finish_reason']} after"
    f" {result.results['iterations']} iterations,"
    f" {result.results['timing']['seconds']:.0f} s."
  )


if __name__ == "__main__":
  cli.launch(main, "config", "workdir")
