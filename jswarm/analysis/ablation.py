"""Searches without one of their two steps, beside the methods that do one alone.

  rows of methods -> full, w/o role, w/o weight, B_r, B_w -> consistent?

A task is consistent where the better of the two ablations is of the same kind as the
better baselines: weights matter where baselines of weights are better.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jswarm.analysis import series
from jswarm.systems import scores

FULL, NO_ROLE, NO_WEIGHT = "fixed", "weight_only", "role_only"
ROLE, WEIGHT = ("static roles", "dynamic roles"), ("static weights", "dynamic weights")


def consistent(
  no_role: float, no_weight: float, roles: float, weights: float
) -> bool | None:
  """Do ablations and baselines agree on which of the two steps matters?

  Args:
    no_role, no_weight: test scores of the search without its role-step, without its
      weight-step.
    roles, weights: B_r and B_w, mean test scores of baselines of roles, of weights.

  Returns:
    (no_role < no_weight and B_r > B_w) or (no_role > no_weight and B_r < B_w): where
    leaving out roles hurts more, baselines of roles are the better ones. None where
    one is unknown.
  """
  if not np.isfinite([no_role, no_weight, roles, weights]).all():
    return None
  if no_role < no_weight:
    return bool(roles > weights)
  return bool(no_role > no_weight and roles < weights)


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Scores of the five columns, over seeds and in each of them.

  Args:
    gathered: "rows" of methods as `wiring.methods.Bench.row` gives them, "families"
      {method: its family}.
  """
  families = gathered["families"]
  rows = [r for r in gathered["rows"] if "test" in r]
  columns: dict[str, list[float]] = {}
  agree = []
  for (_,), mine in series.by(rows, "seed").items():
    score = {r["method"]: _known(r["test"]["score"]) for r in mine}
    of = {
      "full": score.get(FULL, np.nan),
      "no_role": score.get(NO_ROLE, np.nan),
      "no_weight": score.get(NO_WEIGHT, np.nan),
      "roles": _mean([v for m, v in score.items() if families.get(m) in ROLE]),
      "weights": _mean([v for m, v in score.items() if families.get(m) in WEIGHT]),
    }
    agree.append(consistent(of["no_role"], of["no_weight"], of["roles"], of["weights"]))
    for name, value in of.items():
      columns.setdefault(name, []).append(value)
  spreads = {name: series.spread(values) for name, values in columns.items()}
  means = [
    _known(spreads[c]["mean"]) if c in spreads else np.nan
    for c in ("no_role", "no_weight", "roles", "weights")
  ]
  tested = {r["method"]: families.get(r["method"], "search") for r in rows}
  return {
    "columns": spreads,
    "consistent": consistent(*means),
    "consistent_seeds": [a for a in agree if a is not None],
    "full_over_no_role": _paired(rows, FULL, NO_ROLE),
    "full_over_no_weight": _paired(rows, FULL, NO_WEIGHT),
    "methods": tested,
    "left_out": sorted(
      {r["method"] for r in gathered["rows"] if "test" not in r} - set(tested)
    ),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """The five scores, means and deviations over seeds."""
  axes = figure.subplots()
  label = {
    "full": "full search",
    "no_role": "w/o role",
    "no_weight": "w/o weight",
    "roles": "mean of role\nbaselines",
    "weights": "mean of weight\nbaselines",
  }
  names = [name for name in label if name in numbers["columns"]]
  found = [numbers["columns"][name] for name in names]
  axes.bar(
    [label[name] for name in names],
    [f["mean"] or 0 for f in found],
    yerr=[f["sd"] or 0 for f in found],
  )
  axes.set_ylabel("test score, mean and deviation over seeds")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  found = {name: series.told(value) for name, value in numbers["columns"].items()}
  if "full" not in found:
    return "No search has a test score, so there is nothing to say of ablations."
  text = (
    f"The full search scores {found['full']} on test, without its role-step"
    f" {found['no_role']}, without its weight-step {found['no_weight']}; baselines of"
    f" roles {found['roles']}, of weights {found['weights']} on average."
  )
  for name, what in (("full_over_no_role", "role"), ("full_over_no_weight", "weight")):
    test = numbers[name]
    if test:
      text += (
        f" The {what}-step is worth {test['difference']:+.3f}, 95 % interval"
        f" [{test['low']:+.3f}, {test['high']:+.3f}]."
      )
  verdict = {True: "are consistent", False: "are not consistent", None: ""}
  if verdict[numbers["consistent"]]:
    seeds = numbers["consistent_seeds"]
    text += (
      f" Ablations and baselines {verdict[numbers['consistent']]} in the paper's sense"
      f" on the means, and are in {sum(seeds)} of {len(seeds)} seeds."
    )
  else:
    text += " Whether the two are consistent cannot be said: a column is unknown."
  if numbers["left_out"]:
    text += f" Without a score: {', '.join(numbers['left_out'])}."
  return text


def _paired(rows, ours, theirs):
  """Paired bootstrap over the test questions of all seeds that both have."""
  by_seed = {(r["method"], r["seed"]): r for r in rows}
  pairs = [
    (r["scores"], by_seed[theirs, seed]["scores"])
    for (method, seed), r in by_seed.items()
    if method == ours and (theirs, seed) in by_seed
  ]
  if not pairs:
    return None
  a, b = (np.concatenate([np.array(p[i], float) for p in pairs]) for i in range(2))
  if not np.isfinite(a - b).any():
    return None
  return scores.paired_bootstrap(a, b)


def _known(value):
  return np.nan if value is None else float(value)


def _mean(values):
  known = [v for v in values if np.isfinite(v)]
  return float(np.mean(known)) if known else np.nan
