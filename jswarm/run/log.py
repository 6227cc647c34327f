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

from jswarm.core.files import clean, write_jsonl
from jswarm.systems.evaluate import Evaluation


class Log:
  """The files of one workdir.

  Args:
    workdir: made when missing.
    after: last iteration that is kept; -1 starts anew.
    tensorboard: also write tb/.
  """

  def __init__(self, workdir: str | os.PathLike, after: int, tensorboard: bool):
    self._metrics = pathlib.Path(workdir) / "metrics.jsonl"
    self._evals = pathlib.Path(workdir) / "evals"
    self._evals.mkdir(parents=True, exist_ok=True)
    self._keep(after)
    self._board = _board(pathlib.Path(workdir) / "tb", after) if tensorboard else None

  def write(self, iteration: int, metrics: Mapping[str, Any]) -> None:
    """One row; numbers also go to TensorBoard."""
    row = {"iteration": iteration, **metrics}
    with open(self._metrics, "a", encoding="utf-8") as file:
      file.write(json.dumps(clean(row)) + "\n")
    if self._board:
      for name, value in metrics.items():
        if isinstance(value, (int, float)) and math.isfinite(value):
          self._board.add_scalar(name, value, iteration)
      self._board.flush()

  def evaluations(
    self,
    iteration: int,
    step: str,
    ids: Sequence[str],
    evaluations: Sequence[tuple[str, Evaluation]],
  ) -> None:
    """Per-example scores and replies of every system scored in a step."""
    write_evaluations(self._evals / f"{iteration:04d}_{step}.jsonl", ids, evaluations)

  def close(self) -> None:
    if self._board:
      self._board.close()

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
  return SummaryWriter(str(folder), purge_step=after + 1 if after >= 0 else None)
