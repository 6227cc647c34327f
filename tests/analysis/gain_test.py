"""Buckets and collaborative gain: worked examples, and what holds for all of them."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy
import numpy as np
import pytest

from jswarm.analysis import gain

SINGLE = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)  # B_2, B_1, B_0, B_0
SYSTEM = np.array([1, 0, 1, 0], bool)


@st.composite
def answers(draw):
  """(right or wrong of each expert [E, X], of a system [X])."""
  experts, questions = draw(st.integers(1, 6)), draw(st.integers(1, 30))
  bits = lambda shape: draw(hypothesis_numpy.arrays(bool, shape))
  return bits((experts, questions)), bits((questions,))


def test_buckets_of_a_worked_example():
  found = gain.buckets(SINGLE, SYSTEM)
  assert found["size"].tolist() == [2, 1, 1]
  assert found["accuracy"].tolist() == [0.5, 0.0, 1.0]
  assert found["expected"].tolist() == [0.0, 0.5, 1.0]


def test_gains_of_a_worked_example():
  """1/4 (0 - 1/2) + 1/4 (1 - 1) = -1/8; with B_0 also 2/4 (1/2 - 0)."""
  assert gain.c_gain(SINGLE, SYSTEM) == pytest.approx(-0.125)
  assert gain.c_gain(SINGLE, SYSTEM, with_b0=True) == pytest.approx(0.125)
  found = gain.of_system(SINGLE, SYSTEM, np.full(4, 0.25))
  assert found["b0_accuracy"] == 0.5 and found["b0_above_guess"] == 0.25
  assert found["over_best_single"] == 0.0  # one half, as the first expert
  assert found["oracle_gap"] == 0.25  # the second question


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(answers())
def test_the_gain_with_b0_is_the_difference_of_accuracies(made):
  single, system = made
  expected = system.mean() - single.mean()
  assert gain.c_gain(single, system, with_b0=True) == pytest.approx(expected)


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(answers())
def test_the_papers_gain_lacks_what_is_solved_of_b0(made):
  """C-Gain = Acc(system) - |B_0| / |D| Acc(B_0) - mean single accuracy."""
  single, system = made
  solved = (system & ~single.any(axis=0)).mean()
  expected = system.mean() - solved - single.mean()
  assert gain.c_gain(single, system) == pytest.approx(expected)


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(answers())
def test_every_question_is_in_one_bucket(made):
  single, system = made
  found = gain.buckets(single, system)
  assert found["size"].sum() == single.shape[1]
  assert np.isnan(found["accuracy"]).tolist() == (found["size"] == 0).tolist()


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True)
@given(answers())
def test_an_expert_alone_has_no_gain_over_the_best_and_solves_nothing_of_b0(made):
  single, _ = made
  best = single[single.mean(axis=1).argmax()]
  found = gain.of_system(single, best, np.zeros(single.shape[1]))
  assert found["over_best_single"] == 0
  assert not found["b0_accuracy"] > 0


def test_right_is_the_upper_half_of_what_there_can_be():
  assert gain.right(np.array([0.5, 0.51, np.nan]), 0, 1).tolist() == [
    False,
    True,
    False,
  ]
  assert gain.right(np.array([-1.0, 0.0, 1.0]), -1, 1).tolist() == [False, False, True]
  for low, high in ((-np.inf, np.inf), (None, None)):
    assert gain.right(np.array([0.4, 3.0]), low, high).tolist() == [False, True]


def test_numbers_are_over_seeds_and_the_identity_is_measured():
  of_seed = {
    "seed": 0,
    "single": SINGLE.astype(float).tolist(),
    "systems": {"fixed": [1.0, 0.0, 1.0, None], "soup": [1.0, 1.0, 0.0, 0.0]},
    "guess": [0.25] * 4,
    "low": 0.0,
    "high": 1.0,
  }
  found = gain.numbers({"seeds": [of_seed, of_seed]})
  assert found["systems"]["soup"]["c_gain"]["mean"] == pytest.approx(0.125)
  assert found["buckets"]["size"] == [4, 2, 2]
  assert found["identity_error"] < 1e-12
  assert "C-Gain -0.125" in gain.findings(found) and "soup 0.125" in gain.findings(
    found
  )
  assert "nothing to say" in gain.findings(gain.numbers({"seeds": []}))
