"""A mixed task of ten generators of reasoning-gym over the pool of configs/gym_pool.py.

  pip install -e ".[gym]"
  python -m experiments.download_model --model=smollm2-135m-instruct
  python -m experiments.train_experts --config=configs/gym_pool.py --out=pools/gym
  python -m experiments.search --config=configs/gym.py --workdir=runs/gym

A tenth of the questions is of each generator, and none of them is among the tuning
records of an expert. A node hears replies as lines before the question, which stands as
the experts were tuned to read it. Small sizes: N = M = 4, 4 iterations, 100 dev and 500
test questions; `python -m experiments.estimate --config=configs/gym.py` says what they
take.
"""

from configs import gym_pool
from jswarm.wiring.defaults import get_config as default


def get_config():
  config = default()
  config.pool.base = gym_pool.BASE
  config.pool.experts = tuple(f"pools/gym/experts/{name}" for name in gym_pool.EXPERTS)
  config.task.name = "gym:" + "+".join(gym_pool.EXPERTS.values())
  config.task.dev_size = 100
  config.task.test_size = 500
  config.task.limit = gym_pool.LIMIT
  config.task.chat = False
  config.messages.first = ""
  config.messages.middle = ""
  config.messages.last = ""
  config.messages.question = gym_pool.TEMPLATE
  config.messages.reply_tokens = gym_pool.LIMIT
  config.search.graphs = 4
  config.search.assignments = 4
  config.search.iterations = 4
  config.role.method = "evolution"  # see docs/worlds.md
  config.log.baselines = True
  return config
