"""Qasper: questions on papers in 10 chunks, rated 1-10 by a judge, 100 dev, 100 test.

  python -m experiments.search --config=configs/qasper.py:gemma_7b \
    --config.task.path=data/eval/qasper.json --workdir=runs/qasper

Set task.judge to the expert or model that rates; missing verdicts stay missing.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("qasper", pool)
  config.task.judge = config.pool.experts[0]["name"]  # any expert, or a path
  return config
