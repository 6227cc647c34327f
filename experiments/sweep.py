"""The same search over several seeds, or over draws of the paper's hyperparameters.

  python -m experiments.sweep --config=configs/quickstart.py --seeds=10 \
    --workdir=runs/sweep --out=sweep.md

gives a table with paired tests.

  python -m experiments.sweep --config=configs/quickstart.py --draws=50 \
    --workdir=runs/draws --out=draws.md

draws from the grid of the paper, with the seed of the configuration, and chooses the
best on dev. A third of dev (--config.task.held_out) chooses nothing: the chosen draw's
score there stands beside the score that it was chosen for. All draws stand in
draws.json in the workdir.

Every seed and every draw is a run of its own and is continued where it was killed; more
of them go on from those that are there.
"""

from absl import flags, logging

from jswarm import cli
from jswarm.core.files import write_json
from jswarm.report import tables
from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, sweep

_CONFIG = cli.define_config()
_SEEDS = flags.DEFINE_integer("seeds", 10, "Runs, with the seeds 0, 1, ...", 1)
_DRAWS = flags.DEFINE_integer("draws", 0, "Draws from the grid, in place of seeds.", 0)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.")
_OUT = flags.DEFINE_string("out", None, "Markdown table; printed if not given.")


def main(argv):
  del argv
  cli.keep_compiled(_CONFIG.value)
  text = _drawn() if _DRAWS.value else _seeds()
  if _OUT.value:
    with open(_OUT.value, "w", encoding="utf-8") as file:
      file.write(text + "\n")
  print(text)


def _drawn():
  done = sweep.run(_CONFIG.value, _DRAWS.value, _WORKDIR.value)
  write_json(f"{_WORKDIR.value}/draws.json", done)
  return tables.draws_table(done)


def _seeds():
  rows = []
  for seed in range(_SEEDS.value):
    config = config_lib.override(_CONFIG.value, {"seed": seed, "log.baselines": True})
    workdir = f"{_WORKDIR.value}/seed{seed}"
    result = loop.run(search.plan(config, workdir=workdir), workdir)
    rows.append(result.results)
    logging.info("seed %d: %s", seed, tables.test_scores(result.results))
  return tables.sweep_table(rows)


if __name__ == "__main__":
  cli.launch(main, "config", "workdir")
