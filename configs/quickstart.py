"""The embedded default: ten tiny experts, and a text of which each node reads one leaf.

  python -m experiments.search --config=configs/quickstart.py --workdir=runs/quickstart

No download, some two minutes on two CPU cores. Each expert can read two of ten hands,
so who stands where decides what is read (the world folio, docs/worlds.md). The utility
is the share of right answers.
"""

from configs import folio


def get_config():
  config = folio.get_config()
  config.task.dev_size = 60
  config.task.test_size = 300
  config.search.assignments = 4
  config.search.iterations = 8
  return config
