"""Pools of one size with more and more distinct experts: 1 x 10, 2 x 5, 5 x 2, 10 x 1.

  size -> layouts -> places (which experts, how often) -> rows -> means, change

In a pool of copies no two experts differ, so nothing that moves experts by their
differences moves: only graphs are searched there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jswarm.analysis import series


def layouts(size: int) -> list[tuple[int, int]]:
  """All (distinct, copies of each) that make a pool of that size, fewest first."""
  return [(a, size // a) for a in range(1, size + 1) if size % a == 0]


def places(size: int, distinct: int, seed: int) -> list[int]:
  """Experts of a pool: `distinct` of them, drawn by the seed, each as often, copies
  side by side."""
  chosen = np.random.default_rng(seed).permutation(size)[:distinct]
  return [int(e) for e in np.repeat(np.sort(chosen), size // distinct)]


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Scores by the number of distinct experts.

  Args:
    gathered: "rows", each with "distinct", "copies", "seed", "test", "dev", "calls".
  """
  rows = series.scored(gathered["rows"])
  levels = series.levels(rows, "distinct")
  most, least = levels[-1:], levels[:1]
  return {
    "levels": levels,
    "change": series.change(
      most[0]["test"]["mean"] if most else None,
      least[0]["test"]["mean"] if least else None,
    ),
    "trend": series.spearman([r["distinct"] for r in rows], [r["test"] for r in rows]),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Test score by the number of distinct experts."""
  axes = figure.subplots()
  line(axes, numbers["levels"], "distinct", "test", "found system")
  axes.set_xlabel("distinct experts in a pool of constant size")
  axes.set_ylabel("test score, mean and deviation over seeds")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["levels"]:
    return "No pool has a test score, so there is nothing to say of diversity."
  told = "; ".join(
    f"{level['distinct']} distinct {series.told(level['test'])}"
    for level in numbers["levels"]
  )
  trend = numbers["trend"]
  return (
    f"Test score by distinct experts: {told}. From the least to the most diverse pool"
    f" it changes by {series.percent(numbers['change'])}; Spearman's rho over runs is"
    f" {series.figure(trend['rho'], 2)} (n = {trend['n']}). With copies alone there are"
    " no differences to move weights by, so there only graphs are searched."
  )


def line(
  axes: Any,
  levels: Sequence[Mapping[str, Any]],
  by: str,
  value: str,
  label: str,
) -> None:
  """One line of means with deviations over the levels that have a mean."""
  known = [level for level in levels if level[value]["mean"] is not None]
  axes.errorbar(
    [level[by] for level in known],
    [level[value]["mean"] for level in known],
    yerr=[level[value]["sd"] or 0 for level in known],
    marker="o",
    capsize=3,
    label=label,
  )
  if known:
    axes.set_xticks([level[by] for level in known])
