"""Correctness emergence: what no expert knew, and its experts now know; beside luck.

  right before [E, X], right after [E, X] -> C-surge, C-emerge -> against null models

"At least one of E is right" rises by chance with E, so emergence stands beside two null
models: experts moved as far in random directions, and independent changes, each expert
as often as it did change.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jswarm.analysis import series
from jswarm.analysis.gain import right


def surge(before: np.ndarray, after: np.ndarray) -> np.ndarray:
  """float [E]: of the questions that expert e had wrong, the share it has right now;
  NaN where it had none wrong. Arguments bool [E, X]."""
  wrong = ~before
  with np.errstate(invalid="ignore"):
    return (wrong & after).sum(axis=1) / wrong.sum(axis=1)


def surge_of_system(before: np.ndarray, system: np.ndarray) -> float:
  """Of the questions that at least one expert had wrong, the share that the system has
  right. `before` bool [E, X], `system` bool [X]."""
  wrong = (~before).any(axis=0)
  return _share(system, wrong)


def emerge(before: np.ndarray, after: np.ndarray) -> float:
  """Of the questions that all experts had wrong, the share that at least one has right
  now. `before` bool [E, X], `after` bool [A, X], of however many."""
  return _share(after.any(axis=0), ~before.any(axis=0))


def by_guessing(guess: np.ndarray, experts: int) -> float:
  """Chance that at least one of so many guessers is right, mean over questions [X]."""
  return float(np.mean(1 - (1 - guess) ** experts))


def independent(before: np.ndarray, after: np.ndarray) -> float:
  """What `emerge` would be if each expert had come by its right answers on the
  questions that all had wrong without regard to the others: 1 - prod(1 - rate_e)."""
  lost = ~before.any(axis=0)
  if not lost.any():
    return float("nan")
  return float(1 - np.prod(1 - after[:, lost].mean(axis=1)))


def above_null(observed: float, null: np.ndarray) -> float:
  """p of the observed value among those of the null model [K]: (1 + |null >= observed|)
  / (1 + K); NaN where one is unknown."""
  null = null[np.isfinite(null)]
  if not np.isfinite(observed) or not len(null):
    return float("nan")
  return float((1 + (null >= observed).sum()) / (1 + len(null)))


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Surge and emergence over seeds, beside their null models.

  Args:
    gathered: "seeds", each with scores "single" and "final" [E][X], of experts as they
      came and as the found system has them, "perturbed" [K][E][X], "system" [X],
      "guess" [X], "low", "high", and "over_iterations" [T][X'] of the best system of
      each iteration on dev.
  """
  records, heat = [], None
  for of_seed in gathered["seeds"]:
    low, high = of_seed["low"], of_seed["high"]
    before, after = (
      right(np.array(of_seed[k], float), low, high) for k in ("single", "final")
    )
    system = right(np.array(of_seed["system"], float), low, high)
    null = np.array(
      [
        emerge(before, right(np.array(one, float), low, high))
        for one in of_seed["perturbed"]
      ]
    )
    guess, lost = np.array(of_seed["guess"], float), ~before.any(axis=0)
    observed = emerge(before, after)
    records.append(
      {
        "surge": _mean(surge(before, after)),
        "surge_of_system": surge_of_system(before, system),
        "emerge": observed,
        "emerge_of_system": emerge(before, system[None]),
        "null": _mean(null),
        "p": above_null(observed, null),
        "independent": independent(before, after),
        "guessing": by_guessing(guess[lost], len(before)) if lost.any() else None,
        "nobody_knew": float(lost.mean()),
      }
    )
    if heat is None and of_seed["over_iterations"]:
      rows = right(np.array(of_seed["over_iterations"], float), low, high)
      heat = rows[:, np.argsort(rows.sum(axis=0), kind="stable")].astype(int).tolist()
  names = records[0] if records else ()
  return {
    **{name: series.spread([r[name] for r in records]) for name in names},
    "heat": heat or [],
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Right and wrong by question and iteration, and emergence beside its nulls."""
  left, right_axes = figure.subplots(1, 2)
  if numbers["heat"]:
    left.imshow(np.array(numbers["heat"]).T, aspect="auto", cmap="Greys")
  left.set_xlabel("iteration (first seed)")
  left.set_ylabel("dev questions; dark: the best system is right")
  names = [
    n
    for n in ("surge", "emerge", "null", "independent", "guessing", "emerge_of_system")
    if n in numbers
  ]
  right_axes.barh(
    names,
    [numbers[n]["mean"] or 0 for n in names],
    xerr=[numbers[n]["sd"] or 0 for n in names],
  )
  right_axes.set_xlabel("share of questions, mean ± sd")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if "emerge" not in numbers:
    return "No run was measured, so nothing is said of emergence."
  told = {n: series.told(v) for n, v in numbers.items() if n != "heat"}
  return (
    f"Of the questions that an expert had wrong, it has {told['surge']} right in the"
    f" found system's weights. {told['nobody_knew']} of all questions no expert had"
    f" right: of them at least one has {told['emerge']} now, and the system"
    f" {told['emerge_of_system']}. By chance at least one would have {told['null']}"
    " (experts moved as far in random directions; p ="
    f" {told['p']}, mean over seeds), {told['independent']} if they changed"
    f" independently of each other, {told['guessing']} by guessing."
  )


def _share(found, among):
  return float(found[among].mean()) if among.any() else float("nan")


def _mean(values):
  known = values[np.isfinite(values)]
  return float(known.mean()) if len(known) else None
