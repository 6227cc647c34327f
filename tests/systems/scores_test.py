"""Summaries and paired comparisons of per-example scores."""

import numpy as np
import pytest
from scipy import stats

from jswarm.systems import scores


def test_missing_scores_are_counted_and_left_out():
  row = scores.summary(np.array([1.0, 0.0, np.nan, 1.0]))
  assert row["n"] == 3 and row["missing"] == 1
  assert row["score"] == pytest.approx(2 / 3)
  assert row["stderr"] == pytest.approx(np.std([1, 0, 1], ddof=1) / np.sqrt(3))


def test_a_split_without_scores_has_none():
  assert scores.summary(np.array([np.nan]))["score"] is None


def test_the_bootstrap_finds_a_clear_difference_and_not_a_missing_one():
  rng = np.random.default_rng(0)
  base = rng.integers(0, 2, 300).astype(float)
  better = np.maximum(base, rng.integers(0, 2, 300))
  assert scores.paired_bootstrap(better, base)["p"] < 0.001
  same = scores.paired_bootstrap(base, base)
  assert same["difference"] == 0 and same["p"] == 1.0


def test_the_bootstrap_interval_has_its_coverage():
  rng = np.random.default_rng(1)
  hits = 0
  for seed in range(100):
    d = rng.normal(0.1, 1, 80)
    out = scores.paired_bootstrap(d, np.zeros(80), draws=1000, seed=seed)
    hits += out["low"] <= 0.1 <= out["high"]
  assert 88 <= hits <= 100


@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_is_that_of_scipy(seed):
  rng = np.random.default_rng(seed)
  a, b = rng.random(70), rng.integers(0, 2, 70)
  ours = scores.paired_bootstrap(a, b, draws=2000, seed=seed)
  theirs = stats.bootstrap(
    (a - b,),
    np.mean,
    n_resamples=2000,
    method="percentile",
    rng=np.random.default_rng(seed),
  )
  assert ours["p"] == np.mean(theirs.bootstrap_distribution <= 0)
  interval = [ours["low"], ours["high"]]
  # To the last bits, where scipy's 2.5 % is not quite 0.025.
  np.testing.assert_allclose(interval, theirs.confidence_interval, rtol=1e-12)


def test_the_bootstrap_refuses_scores_without_a_common_example():
  with pytest.raises(ValueError, match="no example"):
    scores.paired_bootstrap(np.array([np.nan, 1]), np.array([1, np.nan]))
