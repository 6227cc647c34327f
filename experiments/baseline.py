"""Runs one method on the pool and task of a search, for an equal budget.

  python -m experiments.baseline --baseline=greedy_soup --config=configs/relay.py
  ... --calls=20000 --seed=3 --variant=original   or   --method=pkg.module:METHOD

Chooses on dev, scores on test, prints one JSON row. --baseline=help lists all.
"""

import json

from absl import flags

from jswarm import cli
from jswarm.core import files
from jswarm.wiring import methods

_CONFIG = cli.define_config()
_BASELINE = flags.DEFINE_string("baseline", "", "Name of a method, or help.")
_METHOD = flags.DEFINE_string("method", "", "A method of your own, pkg.module:METHOD.")
_CALLS = flags.DEFINE_integer("calls", 0, "Most calls on dev; 0: the method's.", 0)
_SEED = flags.DEFINE_integer("seed", 0, "Of what the method draws.")
_VARIANT = flags.DEFINE_enum(
  "variant", "paper", ["paper", "original"], "As the paper ran it, or its authors."
)


def main(argv):
  del argv
  known = methods.known(_METHOD.value)
  if _BASELINE.value == "help":
    for name, method in known.items():
      print(f"{name:<20} {method.family:<16} {', '.join(method.needs)}")
    return
  name = _BASELINE.value or _METHOD.value.partition(":")[2].lower()
  methods.check(name, known)
  cli.keep_compiled(_CONFIG.value)
  bench = methods.bench(_CONFIG.value)
  setting = bench.setting(_SEED.value, _CALLS.value, _VARIANT.value)
  print(json.dumps(files.clean(bench.row(name, setting, known))))


if __name__ == "__main__":
  cli.launch(main, "config")
