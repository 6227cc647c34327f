"""Sections of checks, each by itself: what passed, what failed, what went wrong.

    Section -> Check by Check -> Report -> JSON after every check

A section that raises, or takes longer than its budget, has failed; the others go on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import signal
import threading
import time
import traceback
from typing import Any, NamedTuple

from absl import logging


class Check(NamedTuple):
  """One thing that was looked at, and its figures."""

  name: str
  passed: bool
  figures: Mapping[str, Any] = {}
  note: str = ""


class Section(NamedTuple):
  """Checks that belong together; `seconds` is the most that they may take."""

  name: str
  seconds: float
  checks: Callable[[], Iterator[Check]]


@dataclasses.dataclass
class Found:
  """What a section gave: passed if it came to its end and every check did."""

  budget: float
  checks: list[Check] = dataclasses.field(default_factory=list)
  seconds: float = 0.0
  error: str = ""
  ended: bool = False

  @property
  def passed(self) -> bool:
    return self.ended and bool(self.checks) and all(c.passed for c in self.checks)

  def plain(self) -> dict[str, Any]:
    """As JSON has it."""
    return {
      "passed": self.passed,
      "seconds": round(self.seconds, 2),
      "budget": self.budget,
      "error": self.error,
      "checks": [check._asdict() for check in self.checks],
    }


def run(
  sections: Sequence[Section],
  keep: Callable[[dict[str, Found]], None],
  clock: Callable[[], float] = time.monotonic,
) -> dict[str, Found]:
  """All sections in turn; `keep` gets what is known so far after every check."""
  found: dict[str, Found] = {}
  for section in sections:
    logging.info("%s: at most %.0f s.", section.name, section.seconds)
    mine = found[section.name] = Found(section.seconds)
    began = clock()
    try:
      with _at_most(section.seconds, section.name):
        for check in section.checks():
          mine.checks.append(check)
          mine.seconds = clock() - began
          logging.info("%s: %s", section.name, told(check))
          keep(found)
      mine.ended = True
    except Exception as error:  # any: the next section may still tell something
      mine.error = "".join(traceback.format_exception(error))[-4000:]
      logging.error("%s: %s", section.name, mine.error)
    mine.seconds = clock() - began
    outcome = "passed" if mine.passed else "FAILED"
    logging.info("%s: %s in %.1f s.", section.name, outcome, mine.seconds)
    keep(found)
  return found


def told(check: Check) -> str:
  """A check in a line."""
  figures = [f"{name} {_number(value)}" for name, value in check.figures.items()]
  parts = [check.name, "ok" if check.passed else "FAILED", *figures, check.note]
  return "; ".join(filter(None, parts))


def _number(value):
  return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextlib.contextmanager
def _at_most(seconds, name):
  """TimeoutError when the time is over: at the next step of Python, so that a call that
  never returns is not ended. Only in the main thread, where alone signals arrive."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def over(number, frame):
    raise TimeoutError(f"section {name} took more than its budget of {seconds:.0f} s.")

  before = signal.signal(signal.SIGALRM, over)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
