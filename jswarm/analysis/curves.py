"""Dev utility against calls, as a figure: where a method gets to, and how soon."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from absl import logging
import numpy as np

POINTS = 200  # of a curve


def mean_curve(
  curves: Sequence[Sequence[tuple[float, float]]],
) -> tuple[np.ndarray, np.ndarray]:
  """(calls [P], mean best dev utility [P]) of the seeds' curves.

  Between two scores a curve is flat; before the first one it is not there, and the mean
  begins where all of them have begun.
  """
  begin = max(curve[0][0] for curve in curves)
  end = max(curve[-1][0] for curve in curves)
  calls = np.linspace(begin, max(end, begin), POINTS)
  best = []
  for curve in curves:
    spent, value = np.array(curve, float).T
    best.append(value[np.searchsorted(spent, calls, side="right") - 1])
  return calls, np.mean(best, axis=0)


def draw(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
  """Writes the figure; without matplotlib it says so and writes none."""
  try:
    from matplotlib.figure import Figure
  except ImportError:
    logging.warning("no figure: pip install jswarm[figures] for one (matplotlib).")
    return
  by_method: dict[str, list] = {}
  for row in rows:
    if row.get("curve"):
      by_method.setdefault(row["method"], []).append(row["curve"])
  figure = Figure(figsize=(9, 5), layout="constrained")
  axes = figure.subplots()
  for method, curves in by_method.items():
    calls, best = mean_curve(curves)
    axes.plot(calls, best, label=f"{method} ({len(curves)})", drawstyle="steps-post")
  axes.set_xlabel("node executions on dev")
  axes.set_ylabel("best dev utility so far, mean over seeds (their number)")
  if by_method:
    axes.legend(fontsize="small", ncols=2)
  figure.savefig(os.fspath(path))
