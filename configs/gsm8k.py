"""GSM8K: arithmetic word problems, exact match, 200 dev, 1000 test.

  python -m experiments.search --config=configs/gsm8k.py:smollm2 \
    --config.task.path=data/eval/gsm8k.json --workdir=runs/gsm8k

Scores the last number; 100 new tokens, chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("gsm8k", pool)
  return config
