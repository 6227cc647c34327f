"""Finds what is wrong with a search before it starts: seconds, no weights are loaded.

  python -m experiments.validate --config=configs/quickstart.py --workdir=runs/a

All problems stand in one list, each with its file and line or field and what to change;
the exit code is then 65. --workdir: also whether it can be used and has room.
--skip_bad_experts: what is wrong with experts is no problem as long as one is left.
"""

import sys

from absl import flags

from jswarm import cli
from jswarm.wiring import validate

_CONFIG = cli.define_config()
_SKIP = cli.define_skipping()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder that the run would have.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unknown arguments {argv[1:]}: fields are set by --config.x.y=.")
  report = validate.check(cli.without_bad(_CONFIG.value, _SKIP), _WORKDIR.value)
  if report.problems:
    count = len(report.problems)
    print(f"{count} problem{'s' * (count > 1)}:")
    for problem in report.problems:
      print(f"- {problem}")
    sys.exit(cli.EXIT_DATA)
  print("no problems:")
  for line in report.summary:
    print(f"  {line}")


if __name__ == "__main__":
  cli.launch(main, "config")
