"""Rows of methods become a table whose tests say what they were made to say."""

import math

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from jswarm.analysis import compare


def row(method, scores, seed=0, dev=0.5, calls=100):
  known = [s for s in scores if s is not None]
  return {
    "method": method,
    "seed": seed,
    "dev": dev,
    "test": {"score": float(np.mean(known)) if known else None},
    "scores": scores,
    "calls": calls,
    "calls_test": len(scores),
  }


RIGHT, HALF = [1.0] * 40, [1.0, 0.0] * 20


def test_the_best_on_test_comes_first_and_a_clear_win_is_told():
  rows = [row("weak", HALF), row("fixed", RIGHT), row("weak", HALF, 1)]
  first, weak = compare.summaries([*rows, row("fixed", RIGHT, 1)])
  assert first["method"] == "fixed" and "p" not in first
  assert weak["seeds"] == 2 and weak["gain"] == pytest.approx(1.0)
  assert weak["p"] < 0.01 and weak["mcnemar"] < 1e-6


def test_a_method_against_itself_wins_nothing():
  (_, same) = compare.summaries([row("fixed", HALF), row("twin", HALF)])
  assert same["p"] == 1.0 and same["mcnemar"] == 1.0 and same["gain"] == 0


def test_only_questions_and_seeds_that_both_have_are_compared():
  ours = [row("fixed", [1.0, None, 1.0]), row("fixed", [0.0, 0.0, 0.0], seed=1)]
  (record,) = [
    r
    for r in compare.summaries([*ours, row("other", [0.0, 1.0, None])])
    if r["method"] == "other"
  ]
  assert record["mcnemar"] == 0.5  # one question, which ours has right


def test_scores_that_are_no_yes_or_no_have_no_mcnemar():
  rows = [row("fixed", [0.9, 0.8]), row("other", [0.1, 0.2])]
  assert "mcnemar" not in compare.summaries(rows)[1]


def test_what_could_not_be_run_stands_at_the_end_with_its_reason():
  rows = [
    row("fixed", HALF),
    {"method": "soup", "seed": 0, "not_applicable": "soup needs mixable"},
    {"method": "broken", "seed": 0, "failed": "KeyError: x"},
  ]
  text = compare.markdown(compare.summaries(rows))
  assert "soup: soup needs mixable" in text and "broken: KeyError: x" in text
  assert text.startswith("| method |")


def test_the_gain_is_over_the_second_best():
  records = compare.summaries(
    [row("fixed", RIGHT), row("a", HALF), row("b", [0.0] * 40)]
  )
  assert compare.relative_gain(records) == pytest.approx(1.0)
  assert math.isnan(compare.relative_gain(records[1:]))


def test_holm_is_as_in_a_worked_example():
  """Holm (1979): .01, .04, .03, .005 -> .03, .06, .06, .02."""
  np.testing.assert_allclose(
    compare.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]
  )


@hypothesis_settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_no_less_than_nothing_and_no_more_than_bonferroni(p):
  corrected = np.array(compare.holm(p))
  assert (corrected >= np.array(p)).all()
  assert (corrected <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
  order = np.argsort(p, kind="stable")
  assert (np.diff(corrected[order]) >= 0).all()


def test_mcnemar_is_the_sign_test_of_what_differs():
  a, b = np.array([1, 1, 1, 0, 1, 1], bool), np.array([0, 0, 0, 1, 1, 1], bool)
  assert compare.mcnemar(a, b) == pytest.approx(
    stats.binom.sf(2, 4, 0.5)  # 3 of 4 or more
  )
