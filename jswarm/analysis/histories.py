"""What the rows of iterations of finished runs say: moves, and the noise of credit.

histories (rows an iteration, as in metrics.jsonl) -> curves -> trends
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jswarm.analysis import series

CURVES = ("best", "role/mean", "role/max", "weight/mean", "weight/max")
LABELS = (
  "best system",
  "graphs, mean",
  "graphs, best",
  "weights, mean",
  "weights, best",
)


def curve(history: Sequence[Mapping[str, Any]], field: str) -> np.ndarray:
  """float [T + 1], by iteration; NaN where a row has none."""
  found = np.full(1 + max((row["iteration"] for row in history), default=-1), np.nan)
  for row in history:
    value = row.get(field)
    found[row["iteration"]] = np.nan if value is None else value
  return found


def moves(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Utility of graphs and of weights over iterations.

  Args:
    gathered: "histories", one list of rows a seed.

  Returns:
    "curves" {field: means over the seeds that reached the iteration}, and "trends"
    {field: Spearman's rho with the iteration, over seeds}.
  """
  curves, trends = {}, {}
  for field in CURVES:
    mine = [curve(history, field) for history in gathered["histories"]]
    mine = [c for c in mine if np.isfinite(c).any()]
    if not mine:
      continue
    stacked = np.full((len(mine), max(map(len, mine))), np.nan)
    for row, values in zip(stacked, mine):
      row[: len(values)] = values
    curves[field] = [series.spread(column)["mean"] for column in stacked.T]
    rhos = [series.spearman(np.arange(len(c)), c)["rho"] for c in mine]
    trends[field] = series.spread(rhos)
  return {"curves": curves, "trends": trends}


def draw_moves(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Utilities over iterations."""
  axes = figure.subplots()
  for field, label in zip(CURVES, LABELS):
    if field in numbers["curves"]:
      values = np.array(numbers["curves"][field], float)
      axes.plot(np.arange(len(values)), values, marker=".", label=label)
  axes.set_xlabel("iteration")
  axes.set_ylabel("dev utility, mean over seeds")
  if numbers["curves"]:
    axes.legend(fontsize="small")


def tell_moves(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  parts = []
  for field, label in zip(CURVES, LABELS):
    values = [v for v in numbers["curves"].get(field, []) if v is not None]
    if values:
      rho = numbers["trends"][field]["mean"]
      parts.append(
        f"{label} from {values[0]:.3f} to {values[-1]:.3f} (Spearman's rho with the"
        f" iteration {series.figure(rho, 2)})"
      )
  if not parts:
    return "No run has a history, so nothing is said of its moves."
  return f"Dev utility, from the first to the last iteration: {'; '.join(parts)}."


def noise(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Do JFK-scores tell experts apart, or is it the draw of assignments?

  Args:
    gathered: "histories" and "singles", {name: dev utility alone}, one each a seed.

  Returns:
    "spread" and "noise" over iterations, means over seeds: the deviation of the
    JFK-scores over experts, and their typical standard error; "clear", the share of
    iterations whose spread is more than twice the noise; "with_singles", rank
    correlation of the first JFK-scores with the experts' scores alone; "repeat", of the
    scores of one iteration with those of the next.
  """
  spreads, noises, clear, alone, repeat = [], [], [], [], []
  for history, singles in zip(gathered["histories"], gathered["singles"], strict=True):
    rows = [row for row in history if row.get("weight/jfk_noise") is not None]
    scores = [_array(row["weight/jfk"]) for row in rows]
    wide = [float(np.nanstd(s, ddof=1)) for s in scores]
    error = [float(row["weight/jfk_noise"]) for row in rows]
    spreads.append(wide)
    noises.append(error)
    clear += [w > 2 * e for w, e in zip(wide, error)]
    if scores:
      alone.append(series.spearman(scores[0], _array(list(singles.values())))["rho"])
    repeat += [series.spearman(a, b)["rho"] for a, b in zip(scores, scores[1:])]
  return {
    "spread": _means(spreads),
    "noise": _means(noises),
    "clear": series.spread(clear)["mean"],
    "iterations": len(clear),
    "with_singles": series.spread(alone),
    "repeat": series.spread(repeat),
  }


def draw_noise(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Spread of the JFK-scores beside their standard error."""
  axes = figure.subplots()
  for name, label in (
    ("spread", "deviation of JFK-scores over experts"),
    ("noise", "their typical standard error"),
  ):
    axes.plot(np.array(numbers[name], float), marker=".", label=label)
  axes.set_xlabel("weight-step")
  axes.set_ylabel("dev utility, mean over seeds")
  axes.legend(fontsize="small")


def tell_noise(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["iterations"]:
    return (
      "No weight-step of these runs credits by JFK-scores (search.credit, search.steps,"
      " or a pool whose experts share no base), so nothing is said of their noise."
    )
  wide, error = (series.spread(numbers[n]) for n in ("spread", "noise"))
  return (
    f"JFK-scores deviate by {series.told(wide, 4)} over experts, with a typical"
    f" standard error of {series.told(error, 4)}: in"
    f" {series.percent(numbers['clear'])} of {numbers['iterations']} weight-steps the"
    " deviation is more than twice the error."
    f" The first scores rank experts as their dev scores alone with rho"
    f" {series.told(numbers['with_singles'], 2)}, and those of successive steps agree"
    f" with rho {series.told(numbers['repeat'], 2)}."
  )


def _array(values):
  return np.array([np.nan if v is None else v for v in values], float)


def _means(lists):
  longest = max(map(len, lists), default=0)
  return [
    series.spread([mine[t] for mine in lists if t < len(mine)])["mean"]
    for t in range(longest)
  ]
