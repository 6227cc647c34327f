"""The world council: an answer has eight parts, known to different experts of ten; the utility is the
share of right ones (docs/worlds.md).

  python -m experiments.search --config=configs/council.py --workdir=runs/council
"""

from jswarm.tasks.synthetic import council
from jswarm.wiring.defaults import get_config as default


def get_config():
  config = default()
  config.update_from_flattened_dict(council.FIELDS)
  config.task.dev_size = 50
  config.task.test_size = 1000
  config.search.iterations = 8
  config.log.baselines = True
  return config
