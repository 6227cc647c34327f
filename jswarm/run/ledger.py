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
from jswarm.run import disk

_NAME = "{:06d}.jsonl"  # of the calls after iteration n


class Ledger:
  """The calls after one iteration; rank 0 alone writes, all know the same.

  Attributes:
    known: replies by the memo's key, from an earlier life of the search.
  """

  def __init__(self, folder: str | os.PathLike, on_full: str = "stop"):
    self._folder, self._on_full = pathlib.Path(folder), on_full
    self._path: pathlib.Path | None = None  # of who writes, while it is open
    self.known: dict[str, tuple[Reply, float]] = {}

  def open(self, after: int) -> None:
    """Takes up the calls after iteration `after`; forgets those of all others."""
    rows = None
    if processes.is_writer():
      self._folder.mkdir(parents=True, exist_ok=True)
      path = self._folder / _NAME.format(after + 1)
      for other in self._folder.glob("*.jsonl"):
        if other != path:
          other.unlink()
      rows = _read(path)
      self._path = path
    rows = processes.exchange("the ledger", rows)[0]
    self.known = {key: (Reply(*reply), seconds) for key, reply, seconds in rows}

  def put(self, made: Mapping[str, Reply], seconds: float) -> None:
    """Keeps what was said, and how long all of it took."""
    if not self._path or not made:
      return
    share = seconds / len(made)
    lines = [json.dumps([key, list(reply), share]) for key, reply in made.items()]
    text = "\n".join(lines) + "\n"
    disk.append(self._path, text, self._on_full, f"{len(made)} calls that were made")

  def close(self) -> None:
    self._path = None


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
