"""Ready for the first accelerator: is it right there, and how near its ceilings?

  python -m experiments.accelerator_check --out=runs/accelerator.json
  python -m experiments.accelerator_check --out=runs/accelerator.json --small

At most eight minutes on one GPU of 80 GB or one TPU host; --small tries the same on any
machine with a toy in place of a model of Gemma-7B's shape. The file is written after
every check, so that what was found is kept whatever happens. The exit code is 1 if
anything failed.
"""

import os
import sys

from absl import flags, logging

from jswarm import cli
from jswarm.benchmarks import accelerator

_OUT = flags.DEFINE_string("out", None, "JSON file of the results.")
_SMALL = flags.DEFINE_bool("small", False, "A toy in place of the large model.")
_ONLY = flags.DEFINE_list("only", [], "Some of the sections; empty: all.")
_MODEL = flags.DEFINE_string("model", accelerator.MODEL, "Of the section speed.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unexpected arguments {argv[1:]}; all settings are flags.")
  logging.set_verbosity(logging.INFO)
  # More than jax takes by itself: weights and the caches of 256 rows fill 60 GB.
  os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
  chosen = accelerator.sections(_SMALL.value, _MODEL.value)
  names = [section.name for section in chosen]
  unknown = sorted(set(_ONLY.value) - set(names))
  if unknown:
    raise ValueError(f"--only={','.join(unknown)}: allowed are {', '.join(names)}.")
  chosen = [s for s in chosen if not _ONLY.value or s.name in _ONLY.value]
  if not accelerator.run(_OUT.value, chosen, _SMALL.value):
    logging.error("Not all passed: see %s.", _OUT.value)
    sys.exit(1)
  logging.info("All passed: see %s.", _OUT.value)


if __name__ == "__main__":
  cli.launch(main, "out")
