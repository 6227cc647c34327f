"""Every call that was paid for since the last checkpoint, on disk as soon as it came.

A killed search goes on from its checkpoint and walks the same way again: what it had
been told on that way stands here, counts as made, and is not asked twice. At most the
batch that was under way is lost.
"""

from collections.abc import Mapping
import json
import os
import pathlib

from jswarm.core.types import Reply
from jswarm.distributed import processes

_NAME = "{:06d}.jsonl"  # of the calls after iteration n


class Ledger:
  """The calls after one iteration; rank 0 alone writes, all know the same.

  Attributes:
    known: replies by the memo's key, from an earlier life of the search.
  """

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)
    self._file = None
    self.known: dict[str, tuple[Reply, float]] = {}

  def open(self, after: int) -> None:
    """Takes up the calls after iteration `after`; forgets those of all others."""
    rows = None
    if processes.is_writer():
      self.close()
      self._folder.mkdir(parents=True, exist_ok=True)
      path = self._folder / _NAME.format(after + 1)
      for other in self._folder.glob("*.jsonl"):
        if other != path:
          other.unlink()
      rows = _read(path)
      self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    rows = processes.exchange("the ledger", rows)[0]
    self.known = {key: (Reply(*reply), seconds) for key, reply, seconds in rows}

  def put(self, made: Mapping[str, Reply], seconds: float) -> None:
    """Keeps what was said, and how long all of it took."""
    if not self._file or not made:
      return
    share = seconds / len(made)
    lines = [json.dumps([key, list(reply), share]) for key, reply in made.items()]
    self._file.write("\n".join(lines) + "\n")
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    if self._file:
      self._file.close()
      self._file = None


def _read(path):
  """The whole lines of a ledger; one that a kill cut off is cut off here too."""
  if not path.is_file():
    return []
  raw = path.read_bytes()
  whole = raw[: raw.rfind(b"\n") + 1]
  if len(whole) < len(raw):
    with open(path, "r+b") as file:
      file.truncate(len(whole))
  rows = []
  for line in whole.splitlines():
    try:
      key, reply, seconds = json.loads(line)
    except ValueError:
      continue  # damaged: it is asked again
    rows.append([key, reply, seconds])
  return rows
