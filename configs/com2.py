"""COM2: commonsense reasoning, multiple choice, 317 dev, 1000 test.

  python -m experiments.search --config=configs/com2.py:gemma_7b \
    --config.task.path=data/eval/com2.json --workdir=runs/com2

Scores accuracy; 50 new tokens, no chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("com2", pool)
  return config
