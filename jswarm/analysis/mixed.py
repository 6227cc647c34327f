"""Pools of two sizes of models: all of one, half of each; graphs alone are searched."""

from collections.abc import Mapping
from typing import Any

from jswarm.analysis import series

POOLS = ("first", "half", "second")


def halves(first: int, second: int) -> tuple[list[int], list[int]]:
  """Which experts of two pools make one of the first's size, half of it from each."""
  from_second = min(second, first // 2)
  return list(range(first - from_second)), list(range(from_second))


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Test scores by pool, and of the best single expert of each.

  Args:
    gathered: "rows", each with "pool" of `POOLS`, "seed", "test" and "best".
  """
  found = series.by(series.scored(gathered["rows"]), "pool")
  return {
    pool: {
      "test": series.spread([r["test"] for r in found[pool,]]),
      "best": series.spread([r["best"] for r in found[pool,]]),
    }
    for pool in POOLS
    if (pool,) in found
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Test score of the found system and of the best single expert, by pool."""
  axes = figure.subplots()
  for shift, what, label in (
    (-0.2, "test", "found system"),
    (0.2, "best", "best single expert"),
  ):
    axes.bar(
      [place + shift for place in range(len(numbers))],
      [found[what]["mean"] or 0 for found in numbers.values()],
      0.4,
      yerr=[found[what]["sd"] or 0 for found in numbers.values()],
      label=label,
    )
  axes.set_xticks(range(len(numbers)), list(numbers))
  axes.set_ylabel("test score, mean and deviation over seeds")
  axes.legend(fontsize="small")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers:
    return "No search has a test score, so nothing is said of mixed sizes."
  parts = [
    f"{pool} pool {series.told(found['test'])} (best single"
    f" {series.told(found['best'])})"
    for pool, found in numbers.items()
  ]
  return "With graphs alone searched: " + "; ".join(parts) + "."
