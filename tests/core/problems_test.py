"""Problems are raised one at a time, or collected."""

import pytest

from jswarm.core.problems import attempt
from jswarm.tasks.base import DataError


def _half(number):
  if number % 2:
    raise ValueError(f"{number} is odd")
  return number // 2


def test_what_is_right_is_given_back():
  assert attempt(None, _half, 4) == 2
  assert attempt([], _half, 4) == 2


def test_without_a_list_the_first_problem_is_raised():
  with pytest.raises(ValueError, match="3 is odd"):
    attempt(None, _half, 3)


def test_with_a_list_all_are_collected_each_of_them_once():
  found = []
  assert [attempt(found, _half, n) for n in (1, 2, 3, 1)] == [None, 1, None, None]
  assert found == ["1 is odd", "3 is odd"]


def test_an_error_of_many_problems_is_many():
  def records():
    raise DataError("2 problems", ("a:1: no answer", "a:2: no question"))

  found = []
  attempt(found, records)
  assert found == ["a:1: no answer", "a:2: no question"]


def test_an_error_of_the_program_is_no_problem_of_the_user():
  with pytest.raises(TypeError):
    attempt([], _half, "text")
