"""The analyses of the paper, one command each: JSON, a figure and its findings.

  python -m experiments.analyse --analysis=gain --config=configs/folio.py \
    --seeds=3 --workdir=runs/analyses
  ... --analysis=all, or some by comma; --analysis=help lists them
  ... --analysis=transfer --other=configs/folio.py:abstain   (a second task, or pool)
  ... --analysis=roles --judge=NAME, an expert, pkg.module:function or https://server
  JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=8 ... --analysis=devices

Every search is a run of its own below --workdir and is continued where it was killed;
analyses in one workdir share those that are alike. What each means, and does not:
docs/analyses.md.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from jswarm import cli
from jswarm.analysis import analyses
from jswarm.wiring import analyse, lab

_CONFIG = cli.define_config()
_ANALYSIS = flags.DEFINE_string("analysis", None, "all, help, or names by comma.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all runs and results.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "0, 1, ...", 1)
_JUDGE = flags.DEFINE_string("judge", "", "Of roles; empty: proxies label.")
_OTHER = config_flags.DEFINE_config_file(
  "other",
  None,
  "A second configuration: the task to transfer to, or the mixed-in pool.",
)
_TRAINED = config_flags.DEFINE_config_file(
  "pool_config", None, "The config that made the experts, for methods that train."
)


def main(argv):
  del argv
  if _ANALYSIS.value == "help":
    for name, analysis in analyses.ANALYSES.items():
      print(f"{name:<10} {analysis.question}\n{'':<10} runs {analysis.runs}")
    return
  cli.end_on_signal()
  cli.keep_compiled(_CONFIG.value)
  made = lab.Lab(
    _CONFIG.value,
    pathlib.Path(_WORKDIR.value),
    _SEEDS.value,
    judge=_JUDGE.value,
    other=_OTHER.value,
    trained=_TRAINED.value,
  )
  for name, told in analyse.run(_ANALYSIS.value, made).items():
    print(f"{name}: {told['findings']}")
    for line in told["failed"]:
      print(f"  not run: {line}")


if __name__ == "__main__":
  cli.launch(main, "analysis", "config", "workdir", listing="analysis")
