"""What may be asked again: a utility, or a judge, whose server is busy or out of reach.

an error -> later? -> wait, longer every time -> again, but not for ever
"""

from collections.abc import Callable, Sequence
import dataclasses
import email.utils
import random
import time
import urllib.error

TRIES = 6
_FIRST, _LONGEST = 0.5, 30.0  # seconds of the first wait; of any that nobody asked for
_LATER = (408, 409, 425, 429)  # and 5xx: the same request may succeed


class TryAgain(Exception):
  """Raised by a utility that cannot say everything now: it is called again.

  Args:
    why: for the message, if it never can.
    after: seconds to wait, such as a server's Retry-After; None: longer every time.
    scores: one an example, None where it is not known yet: the next call is about those
      alone. Those that never become known are missing. None: nothing is known.
  """

  def __init__(
    self,
    why: str = "",
    after: float | None = None,
    scores: Sequence[float | None] | None = None,
  ):
    super().__init__(why)
    self.after, self.scores = after, scores


@dataclasses.dataclass(frozen=True)
class Patience:
  """How long something is asked again: at most `TRIES` times within so many seconds."""

  seconds: float = 120.0
  sleep: Callable[[float], None] = time.sleep
  clock: Callable[[], float] = time.monotonic

  def __post_init__(self):
    if not self.seconds >= 0:
      raise ValueError(
        f"task.retry_seconds={self.seconds!r}: allowed is 0, ask once, or more."
      )

  def deadline(self) -> float:
    """The clock's time at which nothing more is tried."""
    return self.clock() + self.seconds

  def waits(self, attempt: int, after: float | None, deadline: float) -> bool:
    """Waits after the failed try `attempt`, from 0, `after` seconds or as long as is
    fit; False, at once, if no other try is left."""
    if after is None:
      after = min(_LONGEST, _FIRST * 2**attempt) * random.uniform(1.0, 1.5)
    if attempt + 1 >= TRIES or self.clock() + after >= deadline:
      return False
    self.sleep(after)
    return True


PATIENCE = Patience()


def later(error: Exception) -> TryAgain | None:
  """The error as one that passes; None for one that another try does not mend."""
  if isinstance(error, TryAgain):
    return error
  why = f"{type(error).__name__}: {error}"
  if isinstance(error, urllib.error.HTTPError):
    after = retry_after(error.headers.get("Retry-After")) if error.headers else None
    return TryAgain(why, after) if is_later(error.code) else None
  passing = (urllib.error.URLError, ConnectionError, TimeoutError)
  return TryAgain(why) if isinstance(error, passing) else None


def is_later(status: int) -> bool:
  """May the same request have another status?"""
  return status in _LATER or status >= 500


def retry_after(said: str | None) -> float | None:
  """Seconds of the header, which may also be a date; None: nothing that can be read."""
  if not said:
    return None
  try:
    return max(0.0, float(said))
  except ValueError:
    pass
  try:
    then = email.utils.parsedate_to_datetime(said).timestamp()
  except (TypeError, ValueError, OverflowError):
    return None
  return max(0.0, then - time.time())
