"""NLGraph: graph problems in words, exact match, 200 dev, 1000 test.

  python -m experiments.search --config=configs/nlgraph.py:smollm2 \
    --config.task.path=data/eval/nlgraph.json --workdir=runs/nlgraph

Scores the last number; 80 new tokens, chat template.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("nlgraph", pool)
  return config
