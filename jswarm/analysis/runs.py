"""A finished run's folder -> what analyses take of it: a row, scores of each question.

results.json -> row;  evals/*.jsonl -> scores [X], by iteration [T + 1, X]
"""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

RESULTS = "results.json"


class Run(NamedTuple):
  """A finished run: its folder, and the content of its results.json."""

  folder: pathlib.Path
  results: Mapping[str, Any]


def read(folder: str | os.PathLike) -> Run | None:
  """The finished run in a folder; None where none was finished."""
  folder = pathlib.Path(folder)
  path = folder / RESULTS
  if not path.is_file():
    return None
  return Run(folder, json.loads(path.read_text("utf-8")))


def row(run: Run) -> dict[str, Any]:
  """What one run scored and cost.

  "test", "dev" of the found system, "best" on test of the expert that is best on dev,
  "calls" of the search, "calls_question" and "nodes", node executions of the found
  system for a question, its "edges", "iterations", "seconds" and "seconds_asking" of
  the run's last life.
  """
  found = run.results
  history, system = found["history"], found["system"]
  return {
    "seed": found["seed"],
    "test": found["test"]["system"]["score"],
    "dev": found["dev"]["system"],
    "best": found["test"]["best_single"]["score"],
    "calls": history[-1]["calls"],
    "calls_question": len(system["nodes"]),
    "nodes": len(system["nodes"]),
    "edges": len(system["edges"]),
    "iterations": found["iterations"],
    "seconds": found["timing"]["seconds"],
    "seconds_asking": found["timing"]["seconds_asking"],
  }


def questions(run: Run) -> int:
  """Test questions of a run."""
  system = run.results["test"]["system"]
  return system["n"] + system["missing"]


def scores(run: Run, name: str = "test") -> dict[str, list[float]]:
  """{system: scores [X]} of a file of evals/; NaN is missing."""
  found: dict[str, list[float]] = {}
  with open(run.folder / "evals" / f"{name}.jsonl", encoding="utf-8") as lines:
    for line in lines:
      record = json.loads(line)
      score = record["score"]
      found.setdefault(record["system"], []).append(np.nan if score is None else score)
  return found


def over_iterations(run: Run) -> list[list[float]]:
  """[T + 1][X]: dev scores of the best system that each iteration scored.

  An iteration that scored nothing, under dropout, is left out.
  """
  found: dict[str, list[float]] = {}
  value: dict[str, float] = {}
  for path in sorted((run.folder / "evals").glob("[0-9]*_*.jsonl")):
    iteration, _, step = path.stem.partition("_")
    if step == "single":
      continue
    for mine in scores(run, path.stem).values():
      mean = float(np.nanmean(mine)) if np.isfinite(mine).any() else -np.inf
      if mean > value.get(iteration, -np.inf):
        found[iteration], value[iteration] = mine, mean
  return [found[iteration] for iteration in sorted(found)]
