"""Rows of runs -> means over seeds, trends, correlations: what most analyses share.

A row is a dict of one run: "seed", what was varied in it, and what it scored; one that
could not be made has "failed" with the reason in place of scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]
Numbers = Sequence[float | None] | Sequence[float] | np.ndarray


def spread(values: Numbers) -> dict[str, Any]:
  """{mean, sd, n} of what is known; sd over n - 1, None where n is less than two."""
  known = np.array([np.nan if v is None else v for v in values], float)
  known = known[np.isfinite(known)]
  n = len(known)
  return {
    "mean": float(known.mean()) if n else None,
    "sd": float(known.std(ddof=1)) if n > 1 else None,
    "n": n,
  }


def scored(rows: Sequence[Row]) -> list[Row]:
  """The rows that have a test score."""
  return [row for row in rows if row.get("test") is not None]


def by(rows: Sequence[Row], *fields: str) -> dict[tuple[Any, ...], list[Row]]:
  """Rows by their values of some fields, in the order in which values first occur."""
  found: dict[tuple[Any, ...], list[Row]] = {}
  for row in rows:
    found.setdefault(tuple(row[f] for f in fields), []).append(row)
  return found


def levels(
  rows: Sequence[Row], field: str, values: Sequence[str] = ("test", "dev", "calls")
) -> list[dict[str, Any]]:
  """One record a value of a field, in rising order: `spread` of each of `values`."""
  found = by(scored(rows), field)
  return [
    {field: level, **{v: spread([row.get(v) for row in mine]) for v in values}}
    for (level,), mine in sorted(found.items())
  ]


def spearman(a: Numbers, b: Numbers) -> dict[str, Any]:
  """{rho, p, n}, Spearman's rank correlation of pairs that are known.

  rho and p are None where fewer than three pairs are left, or one side is constant.
  """
  pairs = np.array([a, b], float)
  pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
  n = pairs.shape[1]
  if n < 3 or (np.ptp(pairs, axis=1) == 0).any():
    return {"rho": None, "p": None, "n": n}
  found = stats.spearmanr(*pairs)
  return {"rho": float(found.statistic), "p": float(found.pvalue), "n": n}


def change(after: float | None, before: float | None) -> float | None:
  """after / before - 1; None where one is unknown or there is nothing to relate to."""
  if after is None or before is None or not before > 0:
    return None
  return after / before - 1


def failures(rows: Sequence[Row]) -> list[str]:
  """What could not be made, a line each: which run, and why."""
  return [
    f"{row.get('variant', '')}, seed {row.get('seed')}: {row['failed']}"
    for row in rows
    if row.get("failed")
  ]


def figure(value: float | None, digits: int = 3) -> str:
  """A number as findings tell it."""
  return "unknown" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
  """A share or a change as findings tell it."""
  return "unknown" if value is None else f"{100 * value:.1f} %"


def told(record: Mapping[str, Any], digits: int = 3) -> str:
  """A `spread` as findings tell it: mean ± sd."""
  if record["mean"] is None:
    return "unknown"
  deviation = "" if record["sd"] is None else f" ± {record['sd']:.{digits}f}"
  return f"{record['mean']:.{digits}f}{deviation}"
