"""Writes that a full disk cannot tear: whole or not at all, and again later.

Two rules, `on_full`: "stop" raises, with the bytes that are needed and free; "pause"
waits until somebody has made room, and goes on.
"""

from collections.abc import Callable
import errno
import os
import pathlib
import shutil
import time

from absl import logging

ON_FULL = ("stop", "pause")
# Of a disk, of a user's quota, of the size of a file: and how C++ says the same.
FULL = {
  errno.ENOSPC: "No space left",
  errno.EDQUOT: "quota exceeded",
  errno.EFBIG: "File too large",
}
PAUSE = 10.0  # seconds between two looks at a full disk


def check_rule(on_full: str) -> None:
  """Raises ValueError for a rule that is none."""
  if on_full not in ON_FULL:
    raise ValueError(
      f"checkpoint.on_full={on_full!r}: allowed are {', '.join(ON_FULL)}."
    )


def patiently(
  what: str,
  write: Callable[[], None],
  folder: str | os.PathLike,
  on_full: str,
  needed: int = 0,
) -> None:
  """Calls `write`, which leaves nothing behind where it fails, until there is room.

  Args:
    what: is written, for messages. folder: where. needed: bytes, if known.

  Raises:
    OSError: there is no room, and the rule is to stop. Any other error of `write`.
  """
  while True:
    try:
      return write()
    except Exception as error:
      number = number_of(error)
      if not number:
        raise
      if on_full == "stop":
        raise no_room(what, folder, needed, number) from error
      wait(what, folder, needed)


def number_of(error: BaseException) -> int:
  """The errno of a write that found no room, whatever library raised it; else 0."""
  if isinstance(error, OSError):
    return error.errno if error.errno in FULL else 0
  return next((n for n, words in FULL.items() if words in str(error)), 0)


def wait(what: str, folder: str | os.PathLike, needed: int) -> None:
  """Says what waits for room, and waits a while."""
  logging.warning(
    "%s waits: it needs %d bytes, %d are free in %s.",
    what,
    needed,
    shutil.disk_usage(folder).free,
    folder,
  )
  time.sleep(PAUSE)


def append(path: pathlib.Path, text: str, on_full: str, what: str) -> None:
  """Adds lines to a file, and to the disk before it returns; all of them or none."""
  raw = text.encode("utf-8")

  def write():
    with open(path, "ab", buffering=0) as file:
      size = os.fstat(file.fileno()).st_size
      try:
        left = memoryview(raw)
        while left:
          left = left[file.write(left) :]
        os.fsync(file.fileno())
      except OSError:
        file.truncate(size)
        raise

  patiently(what, write, path.parent, on_full, len(raw))


def no_room(
  what: str, folder: str | os.PathLike, needed: int, number: int = errno.ENOSPC
) -> OSError:
  """The error of a full disk, with all that its reader needs."""
  free = shutil.disk_usage(folder).free
  limit = ", or the limit of a file's size is reached" * (number == errno.EFBIG)
  return OSError(
    number,
    f"no space left for {what}: it needs {needed} bytes, {free} are free{limit}; make"
    " room and give the same command again",
    str(folder),
  )
