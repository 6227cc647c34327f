"""GAIA (text): exact match over 10 context chunks, 13 dev, 28 test.

  python -m experiments.search --config=configs/gaia.py:gemma_7b \
    --config.task.path=data/eval/gaia.json --workdir=runs/gaia

A node reads the chunk of its place in the order; dev moves in steps of 1/13.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("gaia", pool)
  return config
