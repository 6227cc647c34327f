"""Four experts on SmolLM2-135M-Instruct, each tuned on one self-generated skill.

  python -m experiments.download_model --model=smollm2-135m-instruct
  python -m experiments.train_experts --config=configs/smollm2_pool.py \
    --out=pools/smollm2

A few minutes an expert on two CPU cores. Rank 8 on q and v, 32 updates of 4 records:
enough to learn the form of the answers, not much more.
"""

from ml_collections import ConfigDict

SKILLS = {"arithmetic": True, "choice": False, "extraction": True, "graph": True}


def get_config():
  config = ConfigDict()
  config.base = "models/smollm2-135m-instruct"
  config.max_tokens = 256
  config.settings = ConfigDict(
    dict(
      steps=32,
      batch=4,
      multiple=64,
      lr=2e-3,
      warmup=6,
      rank=8,
      alpha=16.0,
      targets=("q", "v"),
      seed=0,
      eval_every=32,
      save_every=32,
    )
  )
  config.experts = ConfigDict(
    {
      skill: dict(
        records="jswarm.tasks.synthetic.stories:records",
        count=512,
        dev_count=48,
        arguments={"skills": {skill: 1.0}},
        chat=chat,
        limit=48,
        score="jswarm.tasks.synthetic.stories:score",
      )
      for skill, chat in SKILLS.items()
    }
  )
  return config
