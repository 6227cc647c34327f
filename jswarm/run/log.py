"""Writes what a run did: metrics.jsonl, evals/, TensorBoard. Replays cleanly.

A resumed run repeats the iterations after its checkpoint, so their rows are removed
first: whatever was killed, the files end as those of an unbroken run.
"""

from collections.abc import Mapping, Sequence
import json
import math
import os
import pathlib
import shutil
from typing import Any

from absl import logging

from jswarm.core.files import clean, write_jsonl
from jswarm.run import disk
from jswarm.systems.evaluate import Evaluation


class Log:
  """The files of one workdir.

  Args:
    workdir: made when missing.
    after: last iteration that is kept; -1 starts anew.
    tensorboard: also write tb/, where that can be written.
    on_full: see `disk`.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    after: int,
    tensorboard: bool,
    on_full: str = "stop",
  ):
    self._on_full = on_full
    self._metrics = pathlib.Path(workdir) / "metrics.jsonl"
    self._evals = pathlib.Path(workdir) / "evals"
    self._evals.mkdir(parents=True, exist_ok=True)
    self._keep(after)
    self._board = _board(pathlib.Path(workdir) / "tb", after) if tensorboard else None

  def write(self, iteration: int, metrics: Mapping[str, Any]) -> None:
    """One row; numbers also go to TensorBoard."""
    row = {"iteration": iteration, **metrics}
    line = json.dumps(clean(row)) + "\n"
    disk.append(self._metrics, line, self._on_full, f"the row of iteration {iteration}")
    if self._board:
      try:
        for name, value in metrics.items():
          if isinstance(value, (int, float)) and math.isfinite(value):
            self._board.add_scalar(name, value, iteration)
        self._board.flush()
      except OSError as error:
        self._board = _no_board(error)

  def evaluations(
    self,
    iteration: int,
    step: str,
    ids: Sequence[str],
    evaluations: Sequence[tuple[str, Evaluation]],
  ) -> None:
    """Per-example scores and replies of every system scored in a step."""
    path = self._evals / f"{iteration:04d}_{step}.jsonl"
    disk.patiently(
      f"{step} of iteration {iteration}",
      lambda: write_evaluations(path, ids, evaluations),
      self._evals,
      self._on_full,
    )

  def close(self) -> None:
    if self._board:
      try:
        self._board.close()
      except OSError as error:
        self._board = _no_board(error)

  def _keep(self, after):
    rows = []
    if self._metrics.exists():
      for line in self._metrics.read_text(encoding="utf-8").splitlines():
        try:
          row = json.loads(line)
        except json.JSONDecodeError:
          continue  # the line that a kill cut off; its iteration is repeated
        if row["iteration"] <= after:
          rows.append(row)
    write_jsonl(self._metrics, rows)
    for path in self._evals.glob("[0-9]*.jsonl"):
      if int(path.name.split("_")[0]) > after:
        path.unlink()


def write_evaluations(
  path: str | os.PathLike,
  ids: Sequence[str],
  evaluations: Sequence[tuple[str, Evaluation]],
) -> None:
  """A line an example and system; ids need not be unique, the index is."""
  write_jsonl(
    path,
    [
      {
        "system": name,
        "index": x,
        "id": ids[x],
        "score": float(e.scores[x]),
        "reply": e.replies[x],
      }
      for name, e in evaluations
      for x in range(len(ids))
    ],
  )


def _board(folder, after):
  # Imported here: its protobufs take a second that a library user need not pay.
  from tensorboardX import SummaryWriter

  if after < 0:
    shutil.rmtree(folder, ignore_errors=True)
  try:
    return SummaryWriter(str(folder), purge_step=after + 1 if after >= 0 else None)
  except OSError as error:
    return _no_board(error)


def _no_board(error):
  """Pictures are no reason to end a search: metrics.jsonl has the same numbers."""
  logging.warning("TensorBoard cannot be written, the search goes on: %s", error)
