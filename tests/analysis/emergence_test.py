"""Surge and emergence, and what of them is luck."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import numpy as np
import pytest

from jswarm.analysis import emergence

BEFORE = np.array([[0, 0, 1, 0], [0, 0, 0, 1]], bool)
AFTER = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], bool)


def test_a_worked_example():
  # The first expert had three wrong, one of them is right; the second three, one.
  assert emergence.surge(BEFORE, AFTER).tolist() == pytest.approx([1 / 3, 1 / 3])
  assert emergence.emerge(BEFORE, AFTER) == 0.5  # of questions 0 and 1 the first
  assert emergence.independent(BEFORE, AFTER) == pytest.approx(0.5)
  system = np.array([1, 1, 0, 0], bool)
  assert emergence.surge_of_system(BEFORE, system) == 0.5
  assert emergence.emerge(BEFORE, system[None]) == 1.0


def test_ten_guessers_of_four_options_nearly_always_hold_a_right_answer():
  found = emergence.by_guessing(np.full(3, 0.25), 10)
  assert found == pytest.approx(1 - 0.75**10)
  assert found == pytest.approx(0.9437, abs=1e-4)


def test_experts_that_stay_let_nothing_emerge():
  assert emergence.emerge(BEFORE, BEFORE) == 0
  assert emergence.independent(BEFORE, BEFORE) == 0


def test_where_somebody_knew_everything_there_is_nothing_to_emerge():
  knowing = np.ones((2, 3), bool)
  assert np.isnan(emergence.emerge(knowing, knowing))
  assert np.isnan(emergence.surge(knowing, knowing)).all()


@hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.floats(0.05, 0.6), st.integers(0, 2**31))
def test_changes_that_are_independent_emerge_as_the_null_model_says(size, rate, seed):
  """Nobody knew anything; each expert has each question right by chance."""
  after = np.random.default_rng(seed).random((size, 4000)) < rate
  before = np.zeros_like(after)
  observed = emergence.emerge(before, after)
  assert observed == pytest.approx(emergence.independent(before, after), abs=0.05)
  assert observed == pytest.approx(
    emergence.by_guessing(np.array([rate]), size), abs=0.05
  )


def test_experts_that_know_the_same_emerge_less_than_independent_ones():
  after = np.tile(np.arange(100) < 30, (5, 1))
  before = np.zeros_like(after)
  assert emergence.emerge(before, after) == 0.3
  assert emergence.independent(before, after) == pytest.approx(1 - 0.7**5)


def test_p_counts_the_draws_of_the_null_model_that_reach_as_far():
  null = np.array([0.1, 0.3, 0.5])
  assert emergence.above_null(0.6, null) == 0.25
  assert emergence.above_null(0.3, null) == 0.75
  assert np.isnan(emergence.above_null(0.3, np.array([])))


def test_numbers_are_of_scores_and_the_heat_map_is_sorted():
  of_seed = {
    "single": BEFORE.astype(float).tolist(),
    "final": AFTER.astype(float).tolist(),
    "perturbed": [BEFORE.astype(float).tolist()] * 3,
    "system": [1.0, 1.0, 0.0, 0.0],
    "guess": [0.25] * 4,
    "low": 0.0,
    "high": 1.0,
    "over_iterations": [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]],
  }
  found = emergence.numbers({"seeds": [of_seed]})
  assert found["emerge"]["mean"] == 0.5 and found["null"]["mean"] == 0.0
  assert found["p"]["mean"] == 0.25 and found["nobody_knew"]["mean"] == 0.5
  assert found["heat"] == [[0, 0, 1], [0, 1, 1]]
  assert "at least one has 0.500 now" in emergence.findings(found)
