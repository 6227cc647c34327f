"""The pool of the world council: a base from scratch and ten experts on it.

  python -m experiments.train_experts --config=configs/council_pool.py \
    --out=pools/council

The base learns to read and to pass on what it hears and knows nothing by itself; each
expert learns its own tables on top. configs/council.py searches in pools/council.
"""

from ml_collections import ConfigDict

from configs.common import world_base
from jswarm.tasks.synthetic import council

BASE, EXPERT = 900, 150  # updates
BATCH = 48


def source(expert, count):
  return dict(
    records="jswarm.tasks.synthetic.council:records",
    count=count,
    dev_count=100,
    arguments={"expert": expert},
    limit=council.FIELDS["task.limit"],
  )


def get_config():
  config = ConfigDict()
  config.max_tokens = 128
  config.save_dtype = "bfloat16"
  config.base = ConfigDict(
    dict(
      config=world_base(160),
      tokenizer="jswarm.tasks.synthetic.council:tokenizer",
      source=source("", BATCH * BASE // 2),
      settings=dict(
        steps=BASE, batch=BATCH, lr=4e-3, multiple=48, warmup=50, weight_decay=0.01
      ),
    )
  )
  config.settings = ConfigDict(
    dict(
      steps=EXPERT,
      batch=BATCH,
      multiple=48,
      lr=3e-3,
      warmup=10,
      rank=8,
      alpha=16.0,
      seed=0,
    )
  )
  config.experts = ConfigDict(
    {name: source(name, BATCH * EXPERT // 2) for name in council.NAMES}
  )
  return config
