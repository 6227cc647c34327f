"""The pool of the world folio: a base from scratch and ten experts on it.

  python -m experiments.train_experts --config=configs/folio_pool.py --out=pools/folio

The base learns to read a leaf in the hands of its school, to pass on what it hears, to
check an option and to rate an answer; each expert learns its own two hands on top.
pools/folio is what ships as jswarm/data/folio.
"""

from ml_collections import ConfigDict

from configs.common import world_base
from jswarm.tasks.synthetic import folio

BASE, EXPERT = 400, 600  # updates
BATCH = 64


def source(steps, batch, dev_count, **arguments):
  return dict(
    records="jswarm.tasks.synthetic.folio:records",
    count=batch * steps,
    dev_count=dev_count,
    arguments=arguments,
    score="jswarm.tasks.synthetic.folio:score",
    limit=3,
  )


def get_config():
  config = ConfigDict()
  config.max_tokens = 32
  config.save_dtype = "bfloat16"
  config.base = ConfigDict(
    dict(
      config=world_base(128),
      tokenizer="jswarm.tasks.synthetic.folio:tokenizer",
      source=source(BASE, BATCH, 100),
      settings=dict(
        multiple=32, steps=BASE, batch=BATCH, lr=4e-3, warmup=50, weight_decay=0.01
      ),
    )
  )
  config.settings = ConfigDict(
    dict(
      multiple=32,
      steps=EXPERT,
      batch=32,
      lr=5e-3,
      warmup=20,
      rank=8,
      alpha=16.0,
      seed=0,
    )
  )
  config.experts = ConfigDict(
    {name: source(EXPERT, 32, 0, expert=name, own=0.85) for name in folio.NAMES}
  )
  return config
