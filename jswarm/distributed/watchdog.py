"""Notices that another process is dead, frozen or failing, and ends this one.

A thread writes this process's sign of life into the store of `jax.distributed` and
reads those of the others; a second one, which waits for nobody, judges. jax has
heartbeats too; but they abort the process without a word on what it or the lost one
were doing, and see no process that fails by itself.
"""

from collections.abc import Callable, Iterable
import ctypes
import dataclasses
import faulthandler
import json
import os
import signal
import threading
import time

import jax

LOST = 75  # sysexits EX_TEMPFAIL: start all again, and the search continues
FAILED = 70  # another process failed by itself
_SIGN, _FAILED, _GONE = "jswarm/sign", "jswarm/failed", "jswarm/gone"
_GRACE = 3  # signs that a process has to end by itself, once another has failed
_handlers = []  # what C calls must not be collected


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How long processes wait for each other, in seconds.

  Attributes:
    start: for all of them to come.
    silence: a process that gives no sign of life for so long is lost. Signs come
      from a thread of its own, so work on a device is not silence.
    step: for another's part of a step; ends what is alive and stuck; 0: no limit.
  """

  start: int = 60
  silence: float = 60.0
  step: float = 3600.0

  def __post_init__(self):
    for field, least in (("start", 1), ("silence", 1), ("step", 0)):
      if getattr(self, field) < least:
        raise ValueError(
          f"processes.{field}={getattr(self, field)}: at least {least} second(s)."
        )


class RankError(RuntimeError):
  """Another process is lost or failed; names its rank, and what it was at."""

  def __init__(self, message: str, exit_code: int = FAILED):
    super().__init__(message)
    self.exit_code = exit_code


class Watchdog:
  """Of one process.

  Attributes:
    phase: what this process is at, from coarse to fine.
  """

  def __init__(self, client, rank: int):
    self._client, self._rank = client, rank
    self.phase = ["start"]
    self._heard: dict[int, tuple[int, str, float]] = {}  # rank: (sign, phase, when)
    self._threads, self._ended, self._signs = [], threading.Event(), 0
    self._silence, self._announced, self._answered, self._since = 0.0, False, 0.0, 0.0
    self._failure, self._failed_at = "", 0

  def start(self, silence: float) -> None:
    """Watches from now on: a rank is lost after so many seconds without a sign."""
    self._silence = silence
    if self._threads:
      return
    self._heard.clear()
    self._ended.clear()
    self._since = time.monotonic()
    self._threads = [
      threading.Thread(target=work, daemon=True) for work in (self._talk, self._watch)
    ]
    for thread in self._threads:
      thread.start()

  def stop(self) -> None:
    """Watches no longer, and tells the others not to watch this one."""
    if not self._threads:
      return
    self._ended.set()
    for thread in self._threads:
      thread.join(self._silence)
    self._threads = []
    self._sign(-1)

  def announce(self, error: BaseException) -> None:
    """Tells the others, once, that this process fails."""
    if self._announced:
      return
    self._announced = True
    text = f"{type(error).__name__}: {str(error)[:2000]}"
    # Who only passes on another's failure must not be taken for its cause.
    if not isinstance(error, RankError):
      self._post(_FAILED, f"{self.doing()}: {text}")

  def say_gone(self) -> None:
    """The last that this process does."""
    self._post(_GONE, "")

  def wait_until_gone(self, ranks: Iterable[int], seconds: float) -> None:
    """Returns when these ranks have said that they end, or after so long."""
    deadline, ranks = time.monotonic() + seconds, set(ranks)
    while time.monotonic() < deadline and not ranks <= self._read(_GONE).keys():
      time.sleep(0.1)
    time.sleep(0.2)  # between their word and their end

  def raise_failure(self) -> None:
    """Raises RankError if another process has announced that it fails."""
    if self._failure:
      raise RankError(self._failure)

  def doing(self) -> str:
    return ", ".join(self.phase)

  def where(self, other: int | None = None) -> str:
    """For messages: what this rank is at, and what another last said."""
    theirs = None if other is None else self._heard.get(other)
    return f"(rank {self._rank} is at: {self.doing()}" + (
      f"; rank {other} was at: {theirs[1]})" if theirs else ")"
    )

  def last_words(self) -> str:
    """When rank 0 does not answer, or jax aborts: at once if rank 0 is dead."""
    if self._rank:
      return f"rank 0, which serves the others, is dead or frozen {self.where(0)}"
    others = {r: when for r, (_, _, when) in self._heard.items() if r}
    latest = min(others, key=lambda r: others[r], default=None)
    return f"jax ends rank 0 for the reason above {self.where(latest)}"

  def _talk(self):
    while not self._ended.wait(min(1.0, self._silence / 5)):
      self._signs += 1
      try:
        self._sign(self._signs)
        self._listen()
      except jax.errors.JaxRuntimeError:
        if not self._ended.is_set():
          _die(self.last_words(), LOST)

  def _watch(self):
    last = self._since
    while not self._ended.wait(min(1.0, self._silence / 5)):
      now = time.monotonic()
      if now - last > self._silence / 2:
        self._since = now  # who was stopped itself has not heard the others
      last = now
      self._judge(now)

  def _listen(self):
    now = self._answered = time.monotonic()
    for rank, text in self._read(_SIGN).items():
      sign, phase = json.loads(text)
      if rank not in self._heard or self._heard[rank][0] != sign:
        self._heard[rank] = (sign, phase, now)
    for rank, text in self._read(_FAILED).items():
      if rank != self._rank and not self._failure:
        self._failure = f"rank {rank} failed at {text}"
        self._failed_at = self._signs

  def _judge(self, now):
    """Ends this process if another is lost, or has failed and this one goes on."""
    silent = lambda when: now - max(when, self._since)
    if silent(self._answered) > self._silence:
      _die(self.last_words(), LOST)
    for rank, (sign, _, when) in list(self._heard.items()):
      if sign >= 0 and rank != self._rank and silent(when) > self._silence:
        _die(
          f"rank {rank} has given no sign of life for {silent(when):.0f} s, it is dead"
          f" or frozen {self.where(rank)}",
          LOST,
        )
    if self._failure and self._signs > self._failed_at + _GRACE:
      self.say_gone()
      _die(self._failure, FAILED)

  def _sign(self, number):
    self._post(_SIGN, json.dumps([number, self.doing()]))

  def _post(self, kind, text):
    """A failed write is no news: who serves the store is gone, which is noticed."""
    try:
      self._client.key_value_set(f"{kind}/{self._rank}", text, allow_overwrite=True)
    except jax.errors.JaxRuntimeError:
      if kind == _SIGN and not self._ended.is_set():
        raise

  def _read(self, kind) -> dict[int, str]:
    return {
      int(key.rsplit("/", 1)[1]): text
      for key, text in self._client.key_value_dir_get(f"{kind}/")
    }


def die_of_abort(words: Callable[[], str]) -> None:
  """Has the process say `words()` and end with `LOST` when jax aborts it.

  jax kills a process that loses rank 0 from a thread of C++, which no handler in
  Python sees, and names neither the rank nor what was being done.
  """
  handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: _die(words(), LOST))
  _handlers.append(handler)
  ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)


def _die(message, code):
  faulthandler.dump_traceback(2)  # where it was stuck
  os.write(2, f"\nerror: {message}\n".encode("utf-8", "replace"))
  os._exit(code)
