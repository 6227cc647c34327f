"""AgentBench lateral thinking: rated 1-10 by a judge, 20 dev, 50 test.

  python -m experiments.search --config=configs/ltp.py:gemma_7b \
    --config.task.path=data/eval/ltp.json --workdir=runs/ltp

Set task.judge to the expert or model that rates; missing verdicts stay missing.
"""

from configs.common import published_task


def get_config(pool: str = "gemma_7b"):
  config = published_task("ltp", pool)
  config.task.judge = config.pool.experts[0]["name"]  # any expert, or a path
  return config
