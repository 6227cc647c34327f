"""The world relay: what a graph of its experts can find (docs/worlds.md).

  python -m experiments.search --config=configs/relay.py --workdir=runs/relay

An answer needs three or four stages in order, each known to two of ten experts, and
the utility is how far it has come.
"""

from jswarm.tasks.synthetic import relay
from jswarm.wiring.defaults import get_config as default


def get_config():
  config = default()
  config.update_from_flattened_dict(relay.FIELDS)
  config.task.dev_size = 50
  config.task.test_size = 1000
  config.search.iterations = 20
  config.role.patience = config.weight.patience = 20
  config.log.baselines = True
  return config
