"""Weak beats strong: the pool without its best experts, against the best one alone.

dev scores of experts alone -> groups -> rows of searches -> over the best expert
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jswarm.analysis import series

WITHOUT, LOWER, ALL = "without the best", "lower half", "all experts"


def groups(singles: Mapping[str, float | None]) -> dict[str, list[int]]:
  """Experts of each pool, in the order of the pool.

  Args:
    singles: {name: dev score alone}; None, which could not be scored, is the weakest.
  """
  value = [-np.inf if v is None or v != v else v for v in singles.values()]
  best_first = np.argsort(-np.array(value), kind="stable").tolist()
  half = len(best_first) - len(best_first) // 2
  return {WITHOUT: sorted(best_first[1:]), LOWER: sorted(best_first[half:])}


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Test scores by pool, and what they gain over the best expert of all.

  Args:
    gathered: "rows", each with "pool", "seed", "test", and "best", the test score of
      the expert that is best on dev.
  """
  rows = series.scored(gathered["rows"])
  pools = {}
  for (pool,), mine in series.by(rows, "pool").items():
    gains = [r["test"] - r["best"] for r in mine if r["best"] is not None]
    pools[pool] = {
      "test": series.spread([r["test"] for r in mine]),
      "gain": series.spread(gains),
      "wins": sum(g > 0 for g in gains),
    }
  best = {r["seed"]: r["best"] for r in rows}
  return {"pools": pools, "best": series.spread(list(best.values()))}


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Test score by pool, the best expert as a line."""
  axes = figure.subplots()
  pools = numbers["pools"]
  axes.bar(
    list(pools),
    [p["test"]["mean"] or 0 for p in pools.values()],
    yerr=[p["test"]["sd"] or 0 for p in pools.values()],
  )
  if numbers["best"]["mean"] is not None:
    axes.axhline(numbers["best"]["mean"], ls="--", color="black", label="best expert")
    axes.legend(fontsize="small")
  axes.set_ylabel("test score, mean and deviation over seeds")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["pools"]:
    return "No search has a test score, so nothing is said of weak pools."
  parts = [
    f"{pool} {series.told(found['test'])} ({series.told(found['gain'])} over it, better"
    f" in {found['wins']} of {found['gain']['n']} seeds)"
    for pool, found in numbers["pools"].items()
  ]
  return (
    f"The best expert on dev scores {series.told(numbers['best'])} on test alone."
    f" Systems found in pools: {'; '.join(parts)}."
  )
