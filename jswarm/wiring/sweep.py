"""Draws of the paper's hyperparameters: each a run of its own, the best chosen on dev.

  GRID -> draws -> config fields -> run.loop in workdir/draw<k> -> choose -> summary

The best of many looks better than it is: its dev score was chosen for being large. So a
part of dev (`task.held_out`) chooses nothing, neither in a search nor among draws, and
the chosen system's score there stands beside the one that it was chosen for.
"""

from collections.abc import Mapping, Sequence
import itertools
from typing import Any

from absl import logging
from ml_collections import ConfigDict
import numpy as np

from jswarm.swarm import problem as problem_lib
from jswarm.wiring import config as config_lib
from jswarm.wiring import once

# Section 4 of the paper; the same values move graphs and adapters.
GRID = {
  "inertia": (0.1, 0.2, 0.3),
  "cognitive": (0.1, 0.2, 0.3, 0.4, 0.5),
  "social": (0.2, 0.3, 0.4, 0.5, 0.6),
  "repel": (0.01, 0.05, 0.1),
  "step_length": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
HELD_OUT = 1 / 3  # of dev, where the configuration says nothing
_SEED = 20250204  # of the draws: another --draws only makes them more or fewer


def draws(count: int) -> list[dict[str, float]]:
  """The first `count` points of the grid in a random order that never changes.

  Raises:
    ValueError: there are not so many.
  """
  points = list(itertools.product(*GRID.values()))
  if not 1 <= count <= len(points):
    raise ValueError(f"draws is {count}; allowed are 1 to {len(points)}.")
  order = np.random.default_rng(_SEED).permutation(len(points))[:count]
  return [dict(zip(GRID, points[i])) for i in order]


def run(config: ConfigDict, count: int, workdir: str, **given: Any) -> dict[str, Any]:
  """Runs or continues every draw in `workdir`/draw<k>; `summary` of them all.

  Args:
    config: of the search; all draws have its seed, and so the same questions.
    count: of draws. given: arguments of `search.plan`, such as a pool.
  """
  if not config.task.held_out:
    config = config_lib.override(config, {"task.held_out": HELD_OUT})
  points = draws(count)
  done = []
  for k, point in enumerate(points):
    fields = {f"{s}.{f}": v for s in ("role", "weight") for f, v in point.items()}
    folder = f"{workdir}/draw{k}"
    done.append(once.searched(config, fields, folder, **given).results)
    row = _row(point, done[-1])
    logging.info("draw %d of %d: %s", k + 1, count, row)
  return summary(points, done)


def summary(
  points: Sequence[Mapping[str, float]], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """What was drawn, found and chosen, JSON-able.

  Returns:
    count of draws, the `chosen` one (the first with the greatest dev score), `rows` of
    all with their scores, and `mean` of each score over the draws that have it.
  """
  rows = [_row(point, found) for point, found in zip(points, results)]
  mean = {s: _mean([row[s] for row in rows]) for s in ("dev", "held_out", "test")}
  return {"count": len(rows), "chosen": choose(rows), "mean": mean, "rows": rows}


def choose(rows: Sequence[Mapping[str, Any]]) -> int:
  """The draw with the greatest dev score; what could not be scored is never it."""
  return problem_lib.argmax(np.array([_known(row["dev"]) for row in rows]))


def _row(point, results):
  """Of one draw: its point, dev score that chose, scores that did not, calls."""
  return {
    **point,
    "dev": results["dev"]["system"],
    "held_out": results["dev"]["held_out"]["score"],
    "test": results["test"]["system"]["score"],
    "calls": results["spend"]["made"],
  }


def _mean(values):
  known = [v for v in map(_known, values) if not np.isnan(v)]
  return float(np.mean(known)) if known else None


def _known(value):
  return float("nan") if value is None else float(value)
