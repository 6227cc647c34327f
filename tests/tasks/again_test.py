"""A utility whose server is busy is asked again, within bounds, and lacks the rest."""

import email.message
import math
import urllib.error

import numpy as np
import pytest

from jswarm.systems.killable import Killable
from jswarm.tasks import again
from jswarm.tasks.again import Patience, TryAgain
from jswarm.tasks.base import Example, UtilityError
from jswarm.tasks.custom import custom_utility

EXAMPLES = [
  Example(
    id=str(k),
    question="",
    answer="",
    choices=None,
    chunks=None,
    record={},
    where=f"{k}",
  )
  for k in range(4)
]
REPLIES = ["a", "bb", "ccc", "dddd"]


class _Clock:
  """Time that passes while one waits, and a little with every look."""

  def __init__(self):
    self.now, self.waits = 0.0, []

  def __call__(self):
    self.now += 0.01
    return self.now

  def sleep(self, seconds):
    self.waits.append(seconds)
    self.now += seconds


class _Busy:
  """A utility whose calls each do what a list of errors says, then score lengths."""

  def __init__(self, *errors):
    self.errors, self.asked = list(errors), []

  def __call__(self, examples, replies):
    self.asked.append([example["id"] for example in examples])
    error = self.errors.pop(0) if self.errors else None
    if error is not None:
      raise error
    return [len(reply) for reply in replies]


def _score(utility, seconds=120.0):
  clock = _Clock()
  score = custom_utility(utility, Patience(seconds, clock.sleep, clock))
  return score(EXAMPLES, REPLIES), clock


def _http(status, after=None):
  headers = email.message.Message()
  if after:
    headers["Retry-After"] = after
  return urllib.error.HTTPError("http://judge", status, "no", headers, None)


def test_a_utility_that_asks_for_it_is_called_again_after_the_time_that_it_names():
  utility = _Busy(TryAgain("busy", after=7.0), TryAgain(), TryAgain())
  scores, clock = _score(utility)
  assert scores.tolist() == [1, 2, 3, 4] and len(utility.asked) == 4
  first, second, third = clock.waits
  assert first == 7.0 and second < third <= 3.0


def test_what_is_known_is_not_asked_again():
  utility = _Busy(TryAgain(scores=[0.5, None, None, 9]), TryAgain(scores=[None, 0.25]))
  scores, _ = _score(utility)
  assert scores.tolist() == [0.5, 2, 0.25, 9]
  assert utility.asked == [list("0123"), list("12"), list("1")]


def test_tries_and_time_are_bounded_and_what_was_never_said_is_missing():
  partly = [TryAgain("no", scores=[1, None, 3, None])]
  utility = _Busy(*partly, *[TryAgain("no")] * 50)
  scores, clock = _score(utility)
  np.testing.assert_array_equal(scores, [1, math.nan, 3, math.nan])
  assert len(utility.asked) == again.TRIES
  utility = _Busy(*partly, *[TryAgain("no", after=40.0)] * 50)
  scores, clock = _score(utility, seconds=100.0)
  np.testing.assert_array_equal(scores, [1, math.nan, 3, math.nan])
  assert clock.now <= 100.0 and len(utility.asked) == 4


def test_a_utility_that_never_says_anything_has_failed_with_its_cause():
  with pytest.raises(
    UtilityError, match="raised TryAgain: the quota is spent"
  ) as caught:
    _score(_Busy(*[TryAgain("the quota is spent")] * 50))
  assert isinstance(caught.value.__cause__, TryAgain)


def test_a_call_that_has_all_scores_is_not_repeated():
  utility = _Busy(TryAgain(scores=[1, 2, 3, 4]))
  scores, clock = _score(utility)
  assert scores.tolist() == [1, 2, 3, 4] and not clock.waits


@pytest.mark.parametrize(
  "error,least,most",
  [
    (_http(429, "3"), 3.0, 3.0),
    (_http(503), 0.5, 0.75),
    (urllib.error.URLError("refused"), 0.5, 0.75),
    (ConnectionResetError(), 0.5, 0.75),
    (TimeoutError(), 0.5, 0.75),
  ],
)
def test_errors_of_the_network_pass(error, least, most):
  scores, clock = _score(_Busy(error))
  assert scores.tolist() == [1, 2, 3, 4]
  (wait,) = clock.waits
  assert least <= wait <= most


@pytest.mark.parametrize("error", [_http(401), KeyError("gold"), OSError("disk")])
def test_other_errors_do_not_pass(error):
  utility = _Busy(error)
  with pytest.raises(UtilityError):
    _score(utility)
  assert len(utility.asked) == 1


@pytest.mark.parametrize("scores", [[1, 2], [1, None, 3, "4"], [1, None, math.inf, 4]])
def test_scores_that_are_known_are_checked_like_all(scores):
  with pytest.raises(UtilityError, match="allowed is a list or array of"):
    _score(_Busy(TryAgain(scores=scores)))


def test_patience_is_a_time():
  with pytest.raises(ValueError, match="task.retry_seconds=-1"):
    Patience(-1)


def _busy_there(examples, replies):
  raise TryAgain("over there", 0.0, [len(r) if len(r) > 1 else None for r in replies])


@pytest.mark.slow
def test_a_utility_in_a_process_of_its_own_may_ask_to_be_called_again():
  killable = Killable(_busy_there, 30.0)
  try:
    scores, clock = _score(killable)
  finally:
    killable.close()
  np.testing.assert_array_equal(scores, [math.nan, 2, 3, 4])
  assert clock.waits == [0.0] * (again.TRIES - 1)
