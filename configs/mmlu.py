"""AbstainQA on MMLU: answer, check yourself, abstain; 200 dev, 1000 test.

  python -m experiments.search --config=configs/mmlu.py:gemma_7b \
    --config.task.path=data/eval/mmlu.json --workdir=runs/mmlu

Scores effective reliability in [-1, 1]; 100 new tokens, then 10 for the check.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("mmlu", pool)
  return config
