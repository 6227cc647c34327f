"""The world atlas: what a search for weights can find (docs/worlds.md).

  python -m experiments.search --config=configs/atlas.py --workdir=runs/atlas

A question asks for two facts of ten fields. Five of ten experts know three fields each
and the others mislead; the utility is the share of right values. The mean of the right
five knows nearly all.
"""

from jswarm.tasks.synthetic import atlas
from jswarm.wiring.defaults import get_config as default


def get_config():
  config = default()
  config.update_from_flattened_dict(atlas.FIELDS)
  config.task.dev_size = 50
  config.task.test_size = 300  # of 354 that there are
  config.search.iterations = 20
  config.role.patience = config.weight.patience = 20
  config.log.baselines = True
  return config
