"""The pool of the world atlas: a base from scratch and ten experts on it.

  python -m experiments.train_experts --config=configs/atlas_pool.py --out=pools/atlas

The base learns to vote on what it hears and is indifferent to all facts that are asked;
the experts learn what they believe, all at once and on mixes of each other, so that
what one knows is still known where it has a small share.
"""

from ml_collections import ConfigDict

from configs.common import world_base
from jswarm.tasks.synthetic import atlas

BASE, EXPERTS = 800, 1000  # updates
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
    dict(
      steps=EXPERTS,
      batch=BATCH,
      mixes=16,
      lr=8e-3,
      warmup=20,
      rank=32,  # B alone is tuned: A has to tell all items apart
      alpha=64.0,
      seed=0,
    )
  )
  config.experts = ConfigDict(
    {
      name: source(EXPERTS // 10, BATCH, expert=name, own=0.8, talk=0.5, repeat=0.0)
      for name in atlas.NAMES
    }
  )
  return config
