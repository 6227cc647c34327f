"""A function in a process of its own, which a time limit can end: fn(...) -> Killable.

    call -> pickle -> process: fn -> pickle -> value
         -> the limit passes -> the process and all below it are killed -> `TimeLimit`

The process is started by the first call, serves the next ones too, and is started anew
after it was killed. It imports what the function needs and nothing of the models. When
whoever started it is gone, however that happened, it ends itself.
"""

from collections.abc import Callable
import multiprocessing
from multiprocessing import connection, spawn
import os
import pathlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from typing import Any
import weakref

from absl import logging

from jswarm.tasks import custom

_START = 120.0  # seconds in which a process has to import the function
_CODE = "from jswarm.systems import killable; killable.work(*map(int, {!r}))"


class TimeLimit(RuntimeError):
  """A call took longer than it may, and its process was killed."""


class _Remote(Exception):
  """The traceback of the process, as the cause of what is raised here."""


class Killable:
  """A function with a time limit, which calls like the function itself.

  Args:
    fn: a function of a module, or "pkg.module:function".
    seconds: each call may take so long; the start of the process does not count.
    field: where the limit is set, for the message.

  Raises:
    ValueError: the function cannot be named in another process (a lambda, a closure),
      or the limit is none. A call raises what the function raises, `TimeLimit`, or
      RuntimeError where the process ended by itself.
  """

  def __init__(self, fn: Callable | str, seconds: float, field: str = "seconds"):
    if not seconds > 0:
      raise ValueError(f"{field}={seconds!r}: allowed is more than 0.")
    self._fn, self._seconds, self._field = fn, seconds, field
    self._process: subprocess.Popen | None = None
    self._link: Any = None  # to the process, while there is one
    called = custom.imported(fn) if isinstance(fn, str) else fn
    # A record of a run names the function, not what it is wrapped in.
    kind = called if hasattr(called, "__qualname__") else type(called)
    self.__module__, self.__qualname__ = kind.__module__, kind.__qualname__
    self.__wrapped__ = called
    try:
      self._pickled = pickle.dumps(fn)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
      raise ValueError(
        f"{custom.name_of(fn)} is to run in a process of its own ({field}={seconds:g})"
        f" and cannot be sent there ({error}): define it in a module, by name, or set"
        f" {field}=0."
      ) from error

  def __reduce__(self):
    return type(self), (self._fn, self._seconds, self._field)

  def __call__(self, *arguments: Any) -> Any:
    if self._process is None or self._process.poll() is not None:
      self._start()
    return self._answer(arguments, self._seconds)

  def close(self) -> None:
    """Ends the process, and whatever it has started."""
    if self._process is not None:
      _end(self._process)
      self._link.close()
      self._process = None

  def _start(self):
    """A process that has imported the function."""
    self.close()
    ours, theirs = multiprocessing.Pipe()
    fds = [theirs.fileno(), os.getpid()]
    process = subprocess.Popen(
      [sys.executable, "-c", _CODE.format(fds)],
      stdin=subprocess.DEVNULL,
      pass_fds=[theirs.fileno()],
      start_new_session=True,  # a group of its own, which is killed as one
      env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    theirs.close()
    self._process, self._link = process, ours
    weakref.finalize(self, _end, process)
    prepared = spawn.get_preparation_data("killable")
    if self.__module__ != "__main__":  # a script is only run again where it is needed
      for name in ("init_main_from_name", "init_main_from_path"):
        prepared.pop(name, None)
    prepared.pop("authkey")  # is not for pipes
    self._answer((prepared, self._pickled), max(_START, self._seconds))

  def _answer(self, sent, seconds):
    """What comes back within so many seconds; on every other path nothing survives."""
    try:
      self._link.send(sent)
      if not self._link.poll(seconds):
        raise TimeLimit(
          f"it took longer than {seconds:g} s ({self._field}) and was killed"
        )
      value, error, trace = self._link.recv()
    except (EOFError, OSError) as gone:
      code = self._process.wait() if self._process else None
      self.close()
      raise RuntimeError(f"its process ended by itself, with code {code}") from gone
    except BaseException:  # also the end of this program
      self.close()
      raise
    if error is not None:
      raise error from _Remote(f"\n{trace}")
    return value


def work(fd: int, parent: int) -> None:
  """The process: hears arguments, answers (value, error, traceback)."""
  link, heard = connection.Connection(fd), queue.Queue()
  threading.Thread(target=_listen, args=(link, heard), daemon=True).start()
  if os.getppid() != parent:  # it was gone before this began
    _end_group()
  fn = None
  while True:
    arguments = heard.get()
    try:
      if fn is None:
        prepared, pickled = arguments
        spawn.prepare(prepared)
        fn = pickle.loads(pickled)
        fn = custom.imported(fn) if isinstance(fn, str) else fn
        answer = (None, None, "")
      else:
        answer = (fn(*arguments), None, "")
      sent = pickle.dumps(answer)
    except Exception as error:
      sent = _failure(error)
    link.send_bytes(sent)


def _failure(error):
  trace = traceback.format_exc()
  try:
    sent = pickle.dumps((None, error, trace))
    pickle.loads(sent)
  except Exception:  # an exception of a make of its own
    told = RuntimeError(f"{type(error).__name__}: {error}")
    sent = pickle.dumps((None, told, trace))
  return sent


def _listen(link, heard):
  """Beside the function, so that the end of who listens is noticed while it runs."""
  try:
    while True:
      heard.put(link.recv())
  except (EOFError, OSError):
    _end_group()


def _end_group():
  for pid in _below(os.getpid()):
    _kill(os.kill, pid)
  _kill(os.killpg, os.getpgrp())


def _end(process):
  """Kills the process, its group, and what has left the group."""
  if process.poll() is None:
    below = _below(process.pid)
    _kill(os.killpg, process.pid)
    for pid in below:
      _kill(os.kill, pid)
    logging.debug("killed process %d and %d below it.", process.pid, len(below))
  process.wait()


def _kill(how, pid):
  try:
    how(pid, signal.SIGKILL)
  except ProcessLookupError:
    return


def _below(pid):
  """Children of a process, theirs, and so on; () where the system does not say."""
  parents = {}
  for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = stat.read_text().rsplit(")", 1)[1].split()
    except OSError:
      continue  # it ended
    parents[int(stat.parent.name)] = int(fields[1])
  found = [pid]
  for one in found:  # grows on the way
    found += [child for child, parent in parents.items() if parent == one]
  return found[1:]
