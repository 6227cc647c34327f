"""WoW: multiple choice in the published format; its file is not among the public ones.

  python -m experiments.search --config=configs/wow.py:gemma_7b \
    --config.task.path=data/eval/wow.json --workdir=runs/wow

Scores accuracy; 50 new tokens, no chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("wow", pool)
  return config
