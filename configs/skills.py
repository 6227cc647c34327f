"""Six tiny experts, a task that needs several skills at once, and little to find.

  python -m experiments.search --config=configs/skills.py --workdir=runs/skills

No download. About a minute on two CPU cores. A question has four parts, each of one
of eight skills; each expert was tuned on a mixture of its own (configs/tiny_pool.py);
the utility is the share of right parts. Most graphs of these experts are equally good,
and the best of as many random ones is as good as what a search finds: a pool to see
that on, and for tests. The quickstart stands on a world in which there is more to find.
"""

from jswarm.tasks.synthetic import words
from jswarm.wiring.defaults import get_config as default

NAMES = ("arithmetic", "letters", "mixed", "order", "reader", "tally")


def get_config():
  config = default()
  config.pool.base = "builtin:tiny_pool/base"
  config.pool.experts = tuple(f"builtin:tiny_pool/experts/{name}" for name in NAMES)
  config.task.name = "skills"
  config.task.records = "jswarm.tasks.synthetic.words:splits"
  config.task.utility = "jswarm.tasks.synthetic.words:score"
  config.task.dev_size = 60
  config.task.test_size = 400
  config.task.limit = 8
  config.task.chat = False
  config.update_from_flattened_dict(words.MESSAGES)
  config.search.graphs = 6
  config.search.assignments = 6
  config.search.iterations = 6
  config.log.baselines = True
  return config
