"""The world council: what a graph of its experts can find (docs/worlds.md).

  python -m experiments.train_experts --config=configs/council_pool.py \
    --out=pools/council
  python -m experiments.search --config=configs/council.py --workdir=runs/council

An answer has eight parts that different experts know, and the utility is the share of
right ones. Its pool is trained first.
"""

from jswarm.tasks.synthetic import council
from jswarm.wiring.defaults import get_config as default


def get_config():
  config = default()
  config.update_from_flattened_dict(council.FIELDS)
  config.task.dev_size = 50
  config.task.test_size = 1000
  config.search.iterations = 20
  config.role.patience = config.weight.patience = 20
  config.log.baselines = True
  return config
