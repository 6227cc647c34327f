"""NormAd: social norms, multiple choice, 500 dev, 2000 test.

  python -m experiments.search --config=configs/normad.py:gemma_7b \
    --config.task.path=data/eval/normad.json --workdir=runs/normad

Scores accuracy; 50 new tokens, no chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("normad", pool)
  return config
