"""Ten experts on SmolLM2-135M-Instruct, each tuned on a generator of reasoning-gym.

  pip install -e ".[gym]"
  python -m experiments.download_model --model=smollm2-135m-instruct
  python -m experiments.train_experts --config=configs/gym_pool.py --out=pools/gym

Generators of short questions and answers, made easy by their options: 20 to 70 tokens
and mostly one to three. The base answers them at length, which their scorers count as
wrong. Rank 8 on q and v, in bfloat16: 0.9 MB an expert.
"""

from ml_collections import ConfigDict

EXPERTS = {
  "adder": "chain_sum(max_terms=2, max_digits=2)",
  "alice": "aiw",
  "divisor": "gcd(min_value=1, max_value=200)",
  "family": "family_relationships",
  "legs": "leg_counting(min_animals=1, max_animals=2, max_instances=9)",
  "letters": "letter_counting(min_words=3, max_words=6)",
  "logician": "syllogism",
  "reverser": "word_sequence_reversal(max_words=4)",
  "seeker": "needle_haystack(min_num_statements=3, max_num_statements=6)",
  "speller": "spell_backward(max_word_len=4)",
}
BASE = "models/smollm2-135m-instruct"
TEMPLATE = "{prompt}\nAnswer:"
LIMIT = 12  # new tokens of a reply


def get_config():
  config = ConfigDict()
  config.base = BASE
  config.max_tokens = 128
  config.save_dtype = "bfloat16"
  config.settings = ConfigDict(
    dict(
      steps=400,
      batch=16,
      multiple=8,
      lr=2e-3,
      warmup=20,
      rank=8,
      alpha=16.0,
      targets=("q", "v"),
      seed=0,
      eval_every=100,
      save_every=50,
    )
  )
  config.experts = ConfigDict(
    {
      name: dict(
        records="jswarm.tasks.gym:records",
        count=2000,
        dev_count=100,
        arguments={"name": generator, "template": TEMPLATE},
        limit=LIMIT,
        score="jswarm.tasks.gym:score",
      )
      for name, generator in EXPERTS.items()
    }
  )
  return config
