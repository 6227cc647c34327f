"""The same search over several seeds, as a table with paired tests.

  python -m experiments.sweep --config=configs/quickstart.py --seeds=10 \
    --workdir=runs/sweep --out=docs/quickstart.md

Every seed is a run of its own in the workdir and is continued where it was killed.
"""

from absl import flags, logging

from jswarm import cli
from jswarm.report import tables
from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import search

_CONFIG = cli.define_config()
_SEEDS = flags.DEFINE_integer("seeds", 10, "Runs, with the seeds 0, 1, ...", 1)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.")
_OUT = flags.DEFINE_string("out", None, "Markdown table; printed if not given.")


def main(argv):
  del argv
  cli.keep_compiled(_CONFIG.value)
  rows = []
  for seed in range(_SEEDS.value):
    config = config_lib.override(_CONFIG.value, {"seed": seed, "log.baselines": True})
    workdir = f"{_WORKDIR.value}/seed{seed}"
    result = loop.run(search.plan(config, workdir=workdir), workdir)
    rows.append(result.results)
    logging.info("seed %d: %s", seed, tables.test_scores(result.results))
  text = tables.sweep_table(rows)
  if _OUT.value:
    with open(_OUT.value, "w", encoding="utf-8") as file:
      file.write(text + "\n")
  print(text)


if __name__ == "__main__":
  cli.launch(main, "config", "workdir")
