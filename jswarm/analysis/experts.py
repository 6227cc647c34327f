"""Two to all experts, against the best of them asked as often as the system asks.

size -> counts -> nested subsets -> rows of searches and of votes -> means, change
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jswarm.analysis import series
from jswarm.analysis.diversity import line


def counts(size: int) -> list[int]:
  """2, 4, ... up to the size, which is always among them."""
  return sorted({*range(2, size, 2), size})


def subset(size: int, count: int, seed: int) -> list[int]:
  """`count` experts, in the pool's order; those of a smaller count are among them."""
  return sorted(np.random.default_rng(seed).permutation(size)[:count].tolist())


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Scores and calls by the number of experts.

  Args:
    gathered: "rows" of searches and "votes" (self-consistency of the best single
      expert at as many calls a question as the found system makes), each with
      "experts", "seed", "test", "calls" and "calls_question".
  """
  rows = series.scored(gathered["rows"])
  fields = ("test", "calls", "calls_question")
  levels = series.levels(rows, "experts", fields)
  votes = series.levels(gathered["votes"], "experts", ("test", "calls_question"))
  vote = {
    (r["experts"], r["seed"]): r["test"] for r in series.scored(gathered["votes"])
  }
  pairs = [(r["test"], vote.get((r["experts"], r["seed"]))) for r in rows]
  return {
    "levels": levels,
    "votes": votes,
    "change": series.change(
      levels[-1]["test"]["mean"] if levels else None,
      levels[0]["test"]["mean"] if levels else None,
    ),
    "trend": series.spearman([r["experts"] for r in rows], [r["test"] for r in rows]),
    "over_votes": series.spread([a - b for a, b in pairs if b is not None]),
    "without_votes": sorted(
      {r.get("failed", "") for r in gathered["votes"] if r.get("test") is None} - {""}
    ),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Test score and calls by the number of experts."""
  axes = figure.subplots()
  line(axes, numbers["levels"], "experts", "test", "found system")
  if numbers["votes"]:
    line(axes, numbers["votes"], "experts", "test", "self-consistency, equal calls")
  axes.set_xlabel("experts in the pool")
  axes.set_ylabel("test score, mean and deviation over seeds")
  cost = axes.twinx()
  known = [v for v in numbers["levels"] if v["calls"]["mean"] is not None]
  cost.plot(
    [v["experts"] for v in known],
    [v["calls"]["mean"] for v in known],
    ":",
    color="grey",
    label="calls of the search",
  )
  cost.set_ylabel("node executions of a search (dotted)")
  axes.legend(fontsize="small")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["levels"]:
    return "No search has a test score, so there is nothing to say of pool sizes."
  told = "; ".join(
    f"{v['experts']} experts {series.told(v['test'])}" for v in numbers["levels"]
  )
  text = (
    f"Test score by pool size: {told}. From the smallest to the largest pool it changes"
    f" by {series.percent(numbers['change'])}; Spearman's rho over runs is"
    f" {series.figure(numbers['trend']['rho'], 2)}."
  )
  over = numbers["over_votes"]
  if over["mean"] is not None:
    text += (
      " Over self-consistency of the best single expert, asked as often as the found"
      f" system asks, it gains {series.told(over)} ({over['n']} pairs)."
    )
  for why in numbers["without_votes"]:
    text += f" No self-consistency: {why}"
  return text
