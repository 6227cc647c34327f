"""Replies on disk, shared by searches: the engine asks here before it generates.

    store = Store("~/.cache/jswarm/replies.sqlite")
    names = [key(weights, tokens, limit, decoding, tokenizer) for ...]
    known = store.get(names)        # a Reply, or None where there is none
    store.put(new_names, made)      # never raises

One SQLite file in WAL mode; any number of processes may read and write at once, on
one machine (WAL does not work over a network file system). Storing is a convenience:
a full disk or a lock that is held too long ends it for this process, with a warning,
and nothing else.
"""

from collections.abc import Iterable, Sequence
import hashlib
import json
import pathlib
import sqlite3
import time

from absl import logging
import numpy as np

from jswarm.core.types import Reply

_VERSION = "reply-1"  # of key and value; another one never hits
_AT_ONCE = 500  # keys a query; SQLite allows 999 in old builds
_TABLE = (
  "CREATE TABLE IF NOT EXISTS replies"
  " (key BLOB PRIMARY KEY, value BLOB NOT NULL, sum BLOB NOT NULL)"
)
# Codes of what the machine does, not the file; all others say that it is damaged.
_PASSING = {
  sqlite3.SQLITE_BUSY,
  sqlite3.SQLITE_LOCKED,
  sqlite3.SQLITE_FULL,
  sqlite3.SQLITE_IOERR,
  sqlite3.SQLITE_READONLY,
  sqlite3.SQLITE_NOMEM,
}


def key(
  weights_digest: str,
  tokens: Sequence[int],
  limit: int,
  decoding: str,
  tokenizer_digest: str,
) -> bytes:
  """The 32 bytes that name a reply: sha256 of all that it depends on.

  Args:
    weights_digest: of everything that computes: base, adapter, dtype.
    tokens: of the prompt, as the model reads them.
    limit: most new tokens.
    decoding: how tokens are chosen: greedy, or temperature, top-p and seed.
    tokenizer_digest: of what turns new tokens into text.
  """
  head = json.dumps([_VERSION, weights_digest, int(limit), decoding, tokenizer_digest])
  sha = hashlib.sha256(head.encode() + b"\n")  # JSON holds no bare newline
  sha.update(np.asarray(tokens, "<i8").tobytes())
  return sha.digest()


class Store:
  """A file of replies. One thread at a time; not to be carried across a fork."""

  def __init__(self, path: str, timeout: float = 30.0):
    """Opens the file, and makes it and its folder where they lack.

    Args:
      path: of the file; `~` is the home folder.
      timeout: most seconds to wait for another process's lock.

    Raises:
      ValueError: the file cannot be made, or is there and is no store.
    """
    self.path = pathlib.Path(path).expanduser()
    self._reads = self._writes = True
    try:
      self.path.parent.mkdir(parents=True, exist_ok=True)
      self._db = sqlite3.connect(self.path, timeout, check_same_thread=False)
      self._db.text_factory = bytes  # damaged text must not fail to decode
      self._open(time.monotonic() + timeout)
    except (OSError, sqlite3.Error) as error:
      self._reads = False
      self._give_up(error)

  def get(self, keys: Sequence[bytes]) -> list[Reply | None]:
    """A reply a key, in order; None where there is none, or it was damaged.

    Raises:
      ValueError: the file is damaged as a whole.
    """
    found: dict[bytes, Reply | None] = {}
    try:
      for at in range(0, len(keys) if self._reads else 0, _AT_ONCE):
        found.update(self._look_up(keys[at : at + _AT_ONCE]))
    except sqlite3.Error as error:
      self._reads = False
      self._give_up(error)
    return [found.get(name) for name in keys]

  def put(self, keys: Sequence[bytes], replies: Sequence[Reply | None]) -> None:
    """Stores replies; None, a failure, is left out. All of a call or none of it."""
    rows = [
      (name, *_pack(name, reply))
      for name, reply in zip(keys, replies, strict=True)
      if reply is not None
    ]
    if not (self._writes and rows):
      return
    try:
      with self._db:
        self._db.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", rows)
    except sqlite3.Error as error:
      self._stop_writing(error)

  def close(self) -> None:
    self._db.close()
    self._reads = self._writes = False

  def _open(self, deadline):
    while True:
      try:
        self._db.execute("PRAGMA journal_mode=WAL")
        break
      except sqlite3.OperationalError as error:
        # Two processes that make the file at once: SQLite does not wait here.
        if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
          raise
        time.sleep(0.05)
    self._db.execute("PRAGMA synchronous=NORMAL")
    with self._db:
      self._db.execute(_TABLE)
    self._look_up([bytes(32)])

  def _look_up(self, keys: Sequence[bytes]) -> Iterable[tuple[bytes, Reply | None]]:
    places = ", ".join("?" * len(keys))
    rows = self._db.execute(
      f"SELECT key, value, sum FROM replies WHERE key IN ({places})", list(keys)
    )
    return [(name, _unpack(name, value, check)) for name, value, check in rows]

  def _give_up(self, error):
    """A busy or full disk ends the storing, a damaged file is for the user."""
    if _code(error) not in _PASSING:
      raise ValueError(
        f"{self.path} cannot be used as a store of replies ({error}): delete it, with"
        " the files beside it whose names begin like its own, or name another one."
        " A store can always be deleted; what is lost is time."
      ) from error
    self._stop_writing(error)

  def _stop_writing(self, error):
    if self._writes:
      logging.warning("%s: %s. Replies are no longer stored there.", self.path, error)
    self._writes = False


def _code(error: Exception) -> int | None:
  """SQLite's primary code of an error, if it has one."""
  code = getattr(error, "sqlite_errorcode", None)
  return None if code is None else code & 0xFF


def _pack(name: bytes, reply: Reply) -> tuple[bytes, bytes]:
  """(value, checksum) of a row."""
  value = json.dumps([reply.text, int(reply.prompt_tokens), int(reply.new_tokens)])
  return value.encode(), _checksum(name, value.encode())


def _unpack(name, value, check) -> Reply | None:
  """The reply of a row, None if any of its bits has changed."""
  if not isinstance(value, bytes) or check != _checksum(name, value):
    return None
  return Reply(*json.loads(value))


def _checksum(name: bytes, value: bytes) -> bytes:
  return hashlib.sha256(name + value).digest()[:16]
