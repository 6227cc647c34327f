"""MMLU-pro: multiple choice A-J, 70 dev, 1000 test.

  python -m experiments.search --config=configs/mmlu_pro.py:gemma_7b \
    --config.task.path=data/eval/mmlu_pro.json --workdir=runs/mmlu_pro

Scores accuracy; 50 new tokens, no chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("mmlu_pro", pool)
  return config
