"""Knowledge Crosswords: multiple choice with one solved example, 200 dev, 1000 test.

  python -m experiments.search --config=configs/knowledge_crosswords.py:gemma_7b \
    --config.task.path=data/eval/knowledge_crosswords.json \
    --workdir=runs/knowledge_crosswords

Scores accuracy; 50 new tokens, no chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("knowledge_crosswords", pool)
  return config
