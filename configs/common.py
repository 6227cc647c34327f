"""Overlays: --config=configs/nlgraph.py:smollm2 is a task over a pool."""

import importlib

from ml_collections import ConfigDict

POOLS = ("gemma_7b", "smollm2", "skills")


def on_pool(pool: str) -> ConfigDict:
  """The configuration of a pool, which a task then completes.

  Raises:
    ValueError: an unknown pool; lists the known ones.
  """
  if pool not in POOLS:
    raise ValueError(
      f"unknown pool {pool!r} after the colon of --config: allowed are"
      f" {', '.join(POOLS)}."
    )
  return importlib.import_module(f"configs.{pool}").get_config()


def world_base(max_positions: int) -> dict[str, int]:
  """The shape of the base on which the experts of a world stand."""
  return dict(
    width=64,
    layers=2,
    heads=4,
    kv_heads=4,
    head_dim=16,
    hidden=128,
    max_positions=max_positions,
  )


def published_task(name: str, pool: str) -> ConfigDict:
  """One of the paper's tasks, read from the published file."""
  config = on_pool(pool)
  config.task.name = name
  config.task.path = f"data/eval/{name}.json"
  return config
