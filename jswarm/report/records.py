"""The files of a run's directory as they are: whole, half written or missing.

run directory -> Records -> sections -> pages
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any


@dataclasses.dataclass(frozen=True)
class Records:
  """What a run has left so far; what is not there is empty.

  Attributes:
    results: results.json. progress: progress.json, of a run under way.
    history: a row an iteration. config: flat. manifest: versions and devices.
    timing: rows of when what was done. random: dev utilities of random graphs.
    test: {contender: [{index, id, score, reply}]}. traces: rows of systems.traces.
    ablations: ablations.json. saved: the description of the saved system.
  """

  folder: pathlib.Path
  results: Mapping[str, Any]
  progress: Mapping[str, Any]
  history: list[dict[str, Any]]
  config: Mapping[str, Any]
  manifest: Mapping[str, Any]
  timing: list[dict[str, Any]]
  random: list[float | None]
  test: dict[str, list[dict[str, Any]]]
  traces: list[dict[str, Any]]
  ablations: Mapping[str, Any]
  saved: Mapping[str, Any]

  @property
  def system(self) -> Mapping[str, Any]:
    """The found system as `artifact.describe` gives it, or the best one so far."""
    return self.results.get("system") or self.progress.get("system") or {}


def read(folder: pathlib.Path) -> Records:
  """Everything of a run's directory that a page shows.

  Raises:
    ValueError: there is no run.
  """
  if not (folder / "config.json").is_file():
    raise ValueError(
      f"{folder} holds no config.json: give the folder of a run, as of --workdir of"
      " experiments.search."
    )
  test: dict[str, list[dict[str, Any]]] = {}
  for row in _lines(folder / "evals" / "test.jsonl"):
    test.setdefault(str(row.get("system")), []).append(row)
  results, progress = (
    _object(folder / "results.json"),
    _object(folder / "progress.json"),
  )
  traces = _lines(folder / "evals" / "traces.jsonl")
  if progress.get("iteration", 0) > results.get("iterations", 0):
    results, test, traces = {}, {}, []  # of before: the run goes on
  return Records(
    folder=folder,
    results=results,
    progress=progress,
    history=results.get("history") or _lines(folder / "metrics.jsonl"),
    config=_object(folder / "config.json"),
    manifest=_object(folder / "manifest.json"),
    timing=_lines(folder / "timing.jsonl"),
    random=_object(folder / "evals" / "random.json").get("utilities", []),
    test=test,
    traces=traces,
    ablations=_object(folder / "ablations.json"),
    saved=_object(folder / "best" / "jswarm_system.json"),
  )


def _object(path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text("utf-8"))
  except (OSError, ValueError):  # not there, or not yet
    return {}
  return value if isinstance(value, dict) else {}


def _lines(path) -> list[dict[str, Any]]:
  try:
    text = path.read_text("utf-8", "replace")
  except OSError:
    return []
  rows = []
  for line in text.splitlines():
    try:
      row = json.loads(line)
    except ValueError:  # the line that is being written
      continue
    if isinstance(row, dict):
      rows.append(row)
  return rows
