"""Fetches public test sets, which tasks read as they are.

  python -m experiments.download_data --source=modelco

takes about half a minute, 14 MB of download and 50 MB of disk, and prints a line a set:
the kind of task that scores it, the sizes of its splits, its own licence. Then

  python -m experiments.search --config=configs/default.py --workdir=runs/gsm8k \
    --config.task.name=mine --config.task.kind=exact_match \
    --config.task.path=data/modelco/gsm8k.json --config.task.problems=drop ...
"""

import json
import os

from absl import app, flags, logging

from jswarm.pool import test_sets

_SOURCE = flags.DEFINE_enum(
  "source", "modelco", sorted(test_sets.SOURCES), "Which package of sets."
)
_OUT = flags.DEFINE_string("out", "data", "Parent folder of the folder of the sets.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}; all settings are flags")
  logging.set_verbosity(logging.INFO)
  try:
    folder = test_sets.install(_SOURCE.value, _OUT.value)
  except (ValueError, RuntimeError) as error:
    raise SystemExit(f"error: {error}") from error
  with open(os.path.join(folder, test_sets.SETS_FILE), encoding="utf-8") as file:
    made = json.load(file)
  print(f"{'set':<25} {'kind':<16} {'dev':>5} {'test':>5}  licence, origin")
  for name, row in made["sets"].items():
    print(
      f"{name:<25} {row['kind']:<16} {row['dev']:>5} {row['test']:>5}"
      f"  {row['licence']}, {row['origin']}"
    )
  print(f"{made['package']}: {made['licence']}")
  print(folder)


if __name__ == "__main__":
  app.run(main)
