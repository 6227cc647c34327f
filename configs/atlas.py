"""The world atlas: what a search for weights can find (docs/worlds.md).

  python -m experiments.train_experts --config=configs/atlas_pool.py --out=pools/atlas
  python -m experiments.search --config=configs/atlas.py --workdir=runs/atlas

A question asks for two facts of ten fields. Each of ten experts knows two fields and
errs in a third; the utility is the share of right values. Weights move as dense
updates. Its pool is not shipped: means of experts do not yet keep what they know.
"""

from jswarm.tasks.synthetic import atlas
from jswarm.wiring.defaults import get_config as default


def get_config():
  config = default()
  config.update_from_flattened_dict(atlas.FIELDS)
  config.task.dev_size = 50
  config.task.test_size = 1000
  config.search.iterations = 8
  config.log.baselines = True
  return config
