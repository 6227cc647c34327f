"""AgentBench-KG: multiple choice, 50 dev, 120 test.

  python -m experiments.search --config=configs/abkg.py:gemma_7b \
    --config.task.path=data/eval/abkg.json --workdir=runs/abkg

Scores accuracy; 50 new tokens, no chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("abkg", pool)
  return config
