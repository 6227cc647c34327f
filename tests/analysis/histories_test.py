"""Moves and noise of credit, read from rows of iterations."""

import pytest

from jswarm.analysis import histories


def _row(t, **fields):
  return {"iteration": t, **{k.replace("_", "/", 1): v for k, v in fields.items()}}


def test_curves_are_means_of_the_seeds_that_went_so_far():
  long = [_row(0, best=0.2), _row(1, best=0.4), _row(2, best=0.6), _row(3, best=0.8)]
  short = [_row(0, best=0.4), _row(1, best=0.4)]
  found = histories.moves({"histories": [long, short]})
  assert found["curves"]["best"] == pytest.approx([0.3, 0.4, 0.6, 0.8])
  assert found["trends"]["best"]["mean"] == pytest.approx(1.0)
  assert found["trends"]["best"]["n"] == 1  # two points are no trend
  assert "weight/mean" not in found["curves"]
  assert "best system from 0.300 to 0.800" in histories.tell_moves(found)


def test_an_iteration_without_a_step_is_a_gap():
  rows = [_row(0, role_mean=0.1), _row(1), _row(2, role_mean=0.3)]
  assert histories.moves({"histories": [rows]})["curves"]["role/mean"] == [
    0.1,
    None,
    0.3,
  ]


def _credit(t, jfk, noise):
  return {"iteration": t, "weight/jfk": jfk, "weight/jfk_noise": noise}


def test_credit_is_clear_where_it_spreads_more_than_twice_its_noise():
  rows = [
    _credit(0, [0.1, 0.2, 0.3], 0.01),  # deviation 0.1
    _credit(1, [0.1, 0.2, 0.3], 0.09),
    _credit(2, [0.3, 0.2, None], 0.01),
    {"iteration": 3},
  ]
  singles = {"a": 0.0, "b": 0.5, "c": 0.9}
  found = histories.noise({"histories": [rows], "singles": [singles]})
  assert found["spread"][0] == pytest.approx(0.1)
  assert found["noise"] == [0.01, 0.09, 0.01] and found["iterations"] == 3
  assert found["clear"] == pytest.approx(2 / 3)
  assert found["with_singles"]["mean"] == pytest.approx(1.0)
  assert found["repeat"]["mean"] == pytest.approx(1.0)  # of the first pair
  assert "66.7 % of 3 weight-steps" in histories.tell_noise(found)


def test_without_jfk_scores_their_noise_is_not_made_up():
  found = histories.noise({"histories": [[_row(0)]], "singles": [{"a": 1.0}]})
  assert "nothing is said" in histories.tell_noise(found)
