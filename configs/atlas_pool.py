"""The pool of the world atlas: a base from scratch and ten experts on it.

  python -m experiments.train_experts --config=configs/atlas_pool.py --out=pools/atlas

The base learns to vote on what it hears and is indifferent to all facts that are asked;
each expert learns what it believes. Not shipped: the mean of two experts keeps .44 of
what they know (docs/worlds.md).
"""

from ml_collections import ConfigDict

from configs.common import world_base
from jswarm.tasks.synthetic import atlas

BASE, EXPERT = 800, 600  # updates
BATCH = 64


def source(steps, batch, **arguments):
  return dict(
    records="jswarm.tasks.synthetic.atlas:records",
    count=batch * steps,
    dev_count=200,
    arguments=arguments,
    score="jswarm.tasks.synthetic.atlas:score",
    limit=3,
  )


def get_config():
  config = ConfigDict()
  config.max_tokens = 64
  config.save_dtype = "bfloat16"
  config.base = ConfigDict(
    dict(
      config=world_base(128),
      tokenizer="jswarm.tasks.synthetic.atlas:tokenizer",
      source=source(BASE, BATCH, talk=0.6),
      settings=dict(steps=BASE, batch=BATCH, lr=4e-3, warmup=50, weight_decay=0.01),
    )
  )
  config.settings = ConfigDict(
    dict(steps=EXPERT, batch=32, lr=4e-3, warmup=20, rank=8, alpha=16.0, seed=0)
  )
  config.experts = ConfigDict(
    {
      name: source(EXPERT, 32, expert=name, own=0.8, talk=0.25, repeat=0.0)
      for name in atlas.NAMES
    }
  )
  return config
