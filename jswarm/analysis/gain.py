"""Collaborative gain: does a system answer what few of its experts answer alone?

  right or wrong of each expert alone and of a system -> buckets -> C-Gain, gaps

Bucket B_k holds the questions that exactly k of the E experts answer alone, as they
came. A random one of them is right there in k / E of all cases.

  C-Gain = sum over k >= 1 of |B_k| / |D| (Acc(B_k) - k / E)

With B_0 in the sum it is Acc(system) less the mean accuracy of the experts, whatever
the buckets, since sum_k |B_k| / |D| k / E is that mean. So neither shows by itself that
experts complement each other: beside them stand the accuracy in B_0, less what a
guesser has there, the gap to the best single expert, and the oracle gap.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jswarm.analysis import series

OURS = "fixed"  # the system whose buckets are drawn
METRICS = (
  "accuracy",
  "c_gain",
  "c_gain_with_b0",
  "b0_accuracy",
  "b0_above_guess",
  "over_best_single",
  "oracle_gap",
)


def right(scores: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
  """bool, of any shape: in the upper half of the scores that there can be.

  What is missing is not right. Where scores have no bounds (None, or not finite), one
  half is the middle.
  """
  bounds = np.array([low, high], float)
  middle = bounds.mean() if np.isfinite(bounds).all() else 0.5
  return np.nan_to_num(np.asarray(scores, float), nan=-np.inf) > middle


def buckets(single: np.ndarray, system: np.ndarray) -> dict[str, np.ndarray]:
  """Accuracy by how many experts answer a question alone.

  Args:
    single: bool [E, X], is expert e right alone? system: bool [X].

  Returns:
    "size" int [E + 1], of B_0 to B_E; "accuracy" float [E + 1] of the system in them,
    NaN where one is empty; "expected" float [E + 1], k / E.
  """
  experts = len(single)
  count = single.sum(axis=0)
  size = np.bincount(count, minlength=experts + 1)
  solved = np.bincount(count, weights=system.astype(float), minlength=experts + 1)
  with np.errstate(invalid="ignore"):
    accuracy = solved / size
  return {
    "size": size,
    "accuracy": accuracy,
    "expected": np.arange(experts + 1) / experts,
  }


def c_gain(single: np.ndarray, system: np.ndarray, with_b0: bool = False) -> float:
  """Collaborative gain; see the module. `single` bool [E, X], `system` bool [X]."""
  found = buckets(single, system)
  first = 0 if with_b0 else 1
  filled = found["size"] > 0
  filled[:first] = False
  above = (found["accuracy"] - found["expected"])[filled]
  return float(np.sum(found["size"][filled] * above) / len(system))


def of_system(
  single: np.ndarray, system: np.ndarray, guess: np.ndarray
) -> dict[str, float]:
  """All `METRICS` of one system.

  Args:
    single: bool [E, X]. system: bool [X].
    guess: [X], chance of a right answer by guessing: 1 / options, else 0.
  """
  alone = single.mean(axis=1)
  known = single.any(axis=0)
  nobody = ~known
  b0 = float(system[nobody].mean()) if nobody.any() else float("nan")
  luck = float(guess[nobody].mean()) if nobody.any() else float("nan")
  return {
    "accuracy": float(system.mean()),
    "c_gain": c_gain(single, system),
    "c_gain_with_b0": c_gain(single, system, with_b0=True),
    "b0_accuracy": b0,
    "b0_above_guess": b0 - luck,
    "over_best_single": float(system.mean() - alone.max()),
    # Of the questions that somebody answers alone, those that the system misses.
    "oracle_gap": float((known & ~system).mean()),
  }


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """`METRICS` of every system over seeds, and the buckets of ours over all of them.

  Args:
    gathered: "seeds", each with "single" [E][X] and "systems" {name: [X]} of scores,
      "guess" [X], and the least and greatest score, "low" and "high".
  """
  metrics: dict[str, list[dict[str, float]]] = {}
  ours, alone, luck = [], [], []
  for of_seed in gathered["seeds"]:
    low, high = of_seed["low"], of_seed["high"]
    single = right(_array(of_seed["single"]), low, high)
    guess = _array(of_seed["guess"])
    luck.append(float(guess.mean()))
    for name, scores in of_seed["systems"].items():
      system = right(_array(scores), low, high)
      metrics.setdefault(name, []).append(of_system(single, system, guess))
      if name == OURS:
        ours.append(buckets(single, system))
        alone.append(float(single.mean()))
  gaps = [
    abs(m["c_gain_with_b0"] - (m["accuracy"] - mean))
    for m, mean in zip(metrics.get(OURS, []), alone)
  ]
  return {
    "systems": {
      name: {m: series.spread([found[m] for found in mine]) for m in METRICS}
      for name, mine in metrics.items()
    },
    "mean_single": series.spread(alone),
    "guess_rate": series.spread(luck),
    "buckets": _pooled(ours),
    "identity_error": max(gaps, default=None),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Accuracy in each bucket beside that of a random expert, and C-Gain by system."""
  left, right_axes = figure.subplots(1, 2)
  found = numbers["buckets"]
  if found:
    places = np.arange(len(found["size"]))
    accuracy = [np.nan if a is None else a for a in found["accuracy"]]
    left.bar(places - 0.2, accuracy, 0.4, label="system")
    left.bar(places + 0.2, found["expected"], 0.4, label="random expert, k / E")
    for place, size in zip(places, found["size"]):
      left.annotate(f"{size}", (place, 1.01), ha="center", fontsize="x-small")
    left.set_xticks(places)
    left.legend(fontsize="small")
  left.set_xlabel("k, experts that answer a question alone (above: |B_k|)")
  left.set_ylabel("accuracy")
  names = list(numbers["systems"])
  gains = [numbers["systems"][name]["c_gain"] for name in names]
  right_axes.barh(
    names,
    [g["mean"] or 0 for g in gains],
    xerr=[g["sd"] or 0 for g in gains],
  )
  right_axes.set_xlabel("C-Gain without B_0, mean ± sd")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  ours = numbers["systems"].get(OURS)
  if ours is None:
    return "The search has no test scores, so there is nothing to say of it."
  told = {m: series.told(ours[m]) for m in METRICS}
  text = (
    f"The found system has accuracy {told['accuracy']} where its experts alone have"
    f" {series.told(numbers['mean_single'])} on average: C-Gain {told['c_gain']}"
    f" without B_0, {told['c_gain_with_b0']} with it (the difference of the two"
    " accuracies by identity, so no sign of complementarity in itself). It is"
    f" {told['over_best_single']} above the best single expert on test, answers"
    f" {told['b0_accuracy']} of the questions that no expert answers alone"
    f" ({told['b0_above_guess']} above guessing; the guess rate is"
    f" {series.told(numbers['guess_rate'])} over all questions), and misses"
    f" {told['oracle_gap']} of all questions although some expert answers them alone."
  )
  others = {n: m for n, m in numbers["systems"].items() if n != OURS}
  if others:
    gains = "; ".join(f"{n} {series.told(m['c_gain'])}" for n, m in others.items())
    text += f" C-Gain of the others: {gains}."
  return text


def _pooled(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, list[Any]]:
  """The buckets of all seeds as one."""
  if not found:
    return {}
  size = np.sum([f["size"] for f in found], axis=0)
  solved = np.sum([np.nan_to_num(f["accuracy"]) * f["size"] for f in found], axis=0)
  accuracy = [s / n if n else None for s, n in zip(solved, size)]
  return {
    "size": size.tolist(),
    "accuracy": accuracy,
    "expected": found[0]["expected"].tolist(),
  }


def _array(values: Any) -> np.ndarray:
  """Numbers of a JSON file; None is NaN."""
  return np.array(values, float)
