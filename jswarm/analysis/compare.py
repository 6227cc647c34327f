"""Rows of methods over seeds -> one table, with tests against one of them.

  rows -> by method -> summaries (means, gaps, tests, Holm) -> markdown

A row is a dict as `wiring.methods.Bench.row` gives it: "method", "seed", "dev", "test"
({"score"}), "scores" (of each test question, None where missing), "calls",
"calls_test"; or "not_applicable", or "failed", with the reason.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from jswarm.systems import scores

Row = Mapping[str, Any]
OURS = "fixed"  # the method that all others are tested against


def summaries(rows: Sequence[Row], ours: str = OURS) -> list[dict[str, Any]]:
  """One record a method, the best on test first, then those without a score.

  Each has "method", "seeds", means and deviations of "dev" and "test", "gap" (dev less
  test: what choosing on dev has cost), "calls", "calls_test"; and, for all but `ours`,
  "gain" (of ours over it, relative), "p" (paired bootstrap: ours is better), "p_holm"
  (corrected for all methods of the table) and, where scores are 0 or 1, "mcnemar".
  Questions of all seeds that both methods have are compared together.
  """
  by_method: dict[str, list[Row]] = {}
  for row in rows:
    by_method.setdefault(row["method"], []).append(row)
  scored = {m: [r for r in mine if "test" in r] for m, mine in by_method.items()}
  found = [_summary(m, mine) for m, mine in scored.items() if mine]
  if scored.get(ours):
    for record in found:
      if record["method"] != ours:
        record |= _against(scored[ours], scored[record["method"]])
    tested = [record for record in found if "p" in record]
    for record, p in zip(tested, holm([record["p"] for record in tested])):
      record["p_holm"] = p
  found.sort(key=lambda record: -record["test"])
  return found + [
    {"method": m, "seeds": 0, "why": _why(mine)}
    for m, mine in by_method.items()
    if not scored[m]
  ]


def holm(p: Sequence[float]) -> list[float]:
  """Holm's step-down correction of p-values for their number, in their order."""
  order = np.argsort(p, kind="stable")
  raised = np.asarray(p, float)[order] * np.arange(len(p), 0, -1)
  corrected = np.empty(len(p))
  corrected[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
  return corrected.tolist()


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
  """Exact one-sided p of "a is right where b is wrong more often than the reverse".

  Args:
    a, b: right or wrong on the same questions, bool [X].
  """
  gained, lost = int((a & ~b).sum()), int((~a & b).sum())
  if gained + lost == 0:
    return 1.0
  return float(stats.binomtest(gained, gained + lost, alternative="greater").pvalue)


def relative_gain(records: Sequence[Mapping[str, Any]], ours: str = OURS) -> float:
  """Ours over the best of the others on test, relative: the paper's 18.5 %."""
  test = {r["method"]: r["test"] for r in records if "test" in r}
  others = [value for method, value in test.items() if method != ours]
  if ours not in test or not others or max(others) <= 0:
    return float("nan")
  return test[ours] / max(others) - 1


def markdown(records: Sequence[Mapping[str, Any]], ours: str = OURS) -> str:
  """The table of `summaries`, and under it what was left out and why."""
  head = ["method", "seeds", "dev", "test", "dev - test", "calls on dev"]
  head += ["calls on test", "ours gains", "p (Holm)", "McNemar"]
  lines = [_line(head), _line(["---"] * len(head))]
  for r in records:
    if "test" not in r:
      continue
    cells = [r["method"], str(r["seeds"]), _pair(r, "dev"), _pair(r, "test")]
    cells += [_signed(r["gap"]), f"{r['calls']:.0f}", f"{r['calls_test']:.0f}"]
    cells += [_percent(r.get("gain")), _p(r.get("p_holm")), _p(r.get("mcnemar"))]
    lines.append(_line(cells))
  gain = relative_gain(records, ours)
  if gain == gain:
    lines.append(f"\n{ours} over the best of the others on test: {_percent(gain)}.")
  lines += [f"\n{r['method']}: {r['why']}" for r in records if "why" in r]
  return "\n".join(lines)


def _summary(method, rows):
  dev = np.array([_number(r["dev"]) for r in rows])
  test = np.array([_number(r["test"]["score"]) for r in rows])
  mean = lambda x: float(np.nanmean(x)) if np.isfinite(x).any() else float("nan")
  return {
    "method": method,
    "seeds": len(rows),
    "dev": mean(dev),
    "dev_sd": float(np.nanstd(dev)) if np.isfinite(dev).any() else float("nan"),
    "test": mean(test),
    "test_sd": float(np.nanstd(test)),
    "gap": mean(dev - test),
    "calls": float(np.mean([r["calls"] for r in rows])),
    "calls_test": float(np.mean([r["calls_test"] for r in rows])),
  }


def _against(ours, theirs):
  """Tests of ours being better, on the questions of all seeds that both have."""
  known = {row["seed"]: row for row in ours}
  pairs = [(known[r["seed"]], r) for r in theirs if r["seed"] in known]
  if not pairs:
    return {}
  a, b = (
    np.concatenate([np.array(pair[i]["scores"], float) for pair in pairs])
    for i in range(2)
  )
  both = np.isfinite(a) & np.isfinite(b)
  if not both.any():
    return {}
  a, b = a[both], b[both]
  tests = {"p": scores.paired_bootstrap(a, b)["p"]}
  if b.mean() > 0:
    tests["gain"] = float(a.mean() / b.mean() - 1)
  if np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
    tests["mcnemar"] = mcnemar(a.astype(bool), b.astype(bool))
  return tests


def _why(rows):
  reasons = [row.get("not_applicable") or row.get("failed", "") for row in rows]
  return "; ".join(dict.fromkeys(reasons))


def _number(value):
  return float("nan") if value is None else float(value)


def _line(cells):
  return "| " + " | ".join(cells) + " |"


def _pair(record, name):
  if record[name] != record[name]:
    return ""
  return f"{record[name]:.3f} ± {record[name + '_sd']:.3f}"


def _signed(value):
  return "" if value != value else f"{value:+.3f}"


def _percent(value):
  return "" if value is None or value != value else f"{100 * value:+.1f} %"


def _p(value):
  return "" if value is None else f"{value:.4f}"
