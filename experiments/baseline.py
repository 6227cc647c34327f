"""Runs one method on the pool and task of a search, for an equal budget.

  python -m experiments.baseline --baseline=greedy_soup --config=configs/relay.py
  ... --calls=20000 --seed=3 --variant=original   or   --method=pkg.module:METHOD
  ... --option=merge=ties --option=density=.2, options of the method
  ... --pool_config=configs/relay_pool.py, how the pool was made, to train with

Chooses on dev, scores on test, prints one JSON row. --baseline=help lists all.
"""

import json

from absl import flags
from ml_collections import config_flags

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
_OPTION = flags.DEFINE_multi_string("option", [], "name=value, of the method.")
_TRAINED = config_flags.DEFINE_config_file(
  "pool_config", None, "The config that made the experts, for methods that train."
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
  bench = methods.bench(_CONFIG.value, trained=_TRAINED.value)
  options = methods.options(_OPTION.value)
  setting = bench.setting(_SEED.value, _CALLS.value, _VARIANT.value, options)
  row = bench.row(name, setting, known)
  row.pop("scores", None)  # of every question: too long to read
  print(json.dumps(files.clean(row)))


if __name__ == "__main__":
  cli.launch(main, "config", listing="baseline")
