"""Means over seeds, levels, correlations."""

import pytest

from jswarm.analysis import series


def test_what_is_missing_is_no_zero():
  assert series.spread([1.0, None, 3.0, float("nan")]) == {
    "mean": 2.0,
    "sd": pytest.approx(2**0.5),
    "n": 2,
  }
  assert series.spread([]) == {"mean": None, "sd": None, "n": 0}


def test_levels_rise_and_leave_out_what_failed():
  rows = [
    {"x": 2, "seed": 0, "test": 0.4},
    {"x": 1, "seed": 0, "test": 0.1},
    {"x": 2, "seed": 1, "test": 0.6},
    {"x": 3, "seed": 0, "failed": "KeyError: x"},
  ]
  levels = series.levels(rows, "x", ("test",))
  assert [(v["x"], v["test"]["mean"]) for v in levels] == [(1, 0.1), (2, 0.5)]
  assert series.failures(rows) == [", seed 0: KeyError: x"]


def test_spearman_is_of_ranks_and_says_where_it_has_none():
  found = series.spearman([1, 2, 3, 4, 5], [1, 4, 9, 16, 25])
  assert found["rho"] == pytest.approx(1.0)
  # 1 - 6 (1 + 1) / (5 * 24): two neighbours exchanged.
  assert series.spearman([1, 2, 3, 4, 5], [1, 3, 2, 4, 5])["rho"] == pytest.approx(0.9)
  assert series.spearman([1, 2, 3], [5, 5, 5])["rho"] is None
  assert series.spearman([1, float("nan"), 3], [1, 2, 3])["n"] == 2


def test_a_change_relates_to_something():
  assert series.change(0.3, 0.2) == pytest.approx(0.5)
  assert series.change(0.3, 0.0) is None and series.change(None, 0.2) is None
