"""The pool of configs/skills.py: a base from scratch and six experts on it.

  python -m experiments.train_experts --config=configs/tiny_pool.py --out=pools/tiny

About a quarter of an hour on two CPU cores. The base learns all eight skills a
little, alone and with the replies of others before it; each expert goes on with two
or three skills of its own, the others now and then, and keeps listening. pools/tiny
is what ships as jswarm/data/tiny_pool.
"""

from ml_collections import ConfigDict

from jswarm.tasks.synthetic import words

EXPERTS = {  # skills of its own, one that it practises, share of records with replies
  "arithmetic": (("add", "gap"), "max", 0.3),
  "letters": (("next", "odd"), "pick", 0.5),
  "mixed": (("add", "pick", "count"), "next", 0.5),
  "order": (("max", "mid"), "gap", 0.3),
  "reader": (tuple(words.SKILLS), "", 0.9),
  "tally": (("count", "pick"), "odd", 0.5),
}
EVEN = {name: 1.0 for name in words.SKILLS}


def mixture(own, practised):
  """Weights of the skills: 0.4 its own, 0.1 the practised one, 0.03 the rest."""
  if len(own) == len(EVEN):
    return EVEN
  return {s: 0.4 if s in own else 0.1 if s == practised else 0.03 for s in EVEN}


def source(weights, talk, count):
  return dict(
    records="jswarm.tasks.synthetic.words:records",
    count=count,
    dev_count=256,
    arguments={"skills": weights, "talk": talk, "crowd": (2, 8)},
    score="jswarm.tasks.synthetic.words:score",
    limit=8,
  )


def get_config():
  config = ConfigDict()
  config.max_tokens = 128
  config.base = ConfigDict(
    dict(
      config=dict(
        width=96,
        layers=3,
        heads=4,
        kv_heads=4,
        head_dim=24,
        hidden=256,
        max_positions=256,
      ),
      tokenizer="jswarm.tasks.synthetic.words:tokenizer",
      source=source(EVEN, 0.7, 64 * 300),
      settings=dict(steps=300, batch=64, lr=3e-3, warmup=50, weight_decay=0.01),
    )
  )
  config.settings = ConfigDict(
    dict(steps=450, batch=48, lr=3e-3, warmup=20, rank=8, alpha=16.0, seed=0)
  )
  config.experts = ConfigDict(
    {
      name: source(mixture(own, practised), talk, 48 * 450)
      for name, (own, practised, talk) in EXPERTS.items()
    }
  )
  return config
