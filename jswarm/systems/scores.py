"""Statistics of per-example scores: means, errors, paired comparisons."""

from typing import Any

import numpy as np


def summary(scores: np.ndarray) -> dict[str, Any]:
  """{score, stderr, n, missing} of one split; scores [X], NaN is missing."""
  known = np.asarray(scores, float)
  known = known[~np.isnan(known)]
  n = len(known)
  return {
    "score": float(known.mean()) if n else None,
    "stderr": float(known.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
    "n": n,
    "missing": len(scores) - n,
  }


def paired_bootstrap(
  a: np.ndarray, b: np.ndarray, *, draws: int = 10_000, seed: int = 0
) -> dict[str, float]:
  """Is system a better than b on the same examples?

  Args:
    a, b: scores [X]; an example that either lacks is left out of both.
    draws: resamples of the examples with replacement.
    seed: of the resampling.

  Returns:
    difference: mean(a - b); low, high: its 95 % interval; p: share of resamples in
    which a is not better than b (one-sided).
  """
  difference = np.asarray(a, float) - np.asarray(b, float)
  difference = difference[~np.isnan(difference)]
  if not len(difference):
    raise ValueError("no example was scored for both systems.")
  picks = np.random.default_rng(seed).integers(
    0, len(difference), (draws, len(difference))
  )
  means = difference[picks].mean(1)
  low, high = np.quantile(means, [0.025, 0.975])
  return {
    "difference": float(difference.mean()),
    "low": float(low),
    "high": float(high),
    "p": float((means <= 0).mean()),
  }
