"""Results as tables: of one run, and of one search over several seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LABELS = {
  "best_single": "best single expert",
  "initial": "initial best DAG",
  "star": "star",
  "chain": "chain",
  "random": "random DAG",
  "majority_vote": "majority vote",
  "random_search": "random search",
  "system": "found system",
}
ALPHA = 0.05  # one-sided level of the paired bootstrap


def table(results: Mapping[str, Any]) -> str:
  """Of one results.json: the found system's test score beside what it has to beat."""
  test = results["test"]
  lines = [f"{'test':<20} {'score':>7} {'stderr':>7} {'n':>5}"]
  for name, label in LABELS.items():
    if name in test:
      row = test[name]
      lines.append(
        f"{label:<20} {_number(row['score'])} {_number(row['stderr'])} {row['n']:>5}"
      )
  paired = results["system_vs_best_single"]
  if paired:
    lines.append(
      f"found - best single: {paired['difference']:+.4f}, 95 % interval"
      f" [{paired['low']:+.4f}, {paired['high']:+.4f}], p = {paired['p']:.4f}"
    )
  return "\n".join(lines)


def test_scores(results: Mapping[str, Any]) -> dict[str, float]:
  """{contender: test score} of a results.json."""
  return {
    name: results["test"][name]["score"] for name in LABELS if name in results["test"]
  }


def sweep_table(runs: Sequence[Mapping[str, Any]]) -> str:
  """Markdown: a row a seed, the means, and in how many seeds the system won."""
  names = list(test_scores(runs[0]))
  header = [
    "seed",
    *(LABELS[name] for name in names),
    "found - single",
    "p",
    "calls",
    "seconds",
  ]
  lines = [_row(header), _row(["---"] * len(header))]
  for results in runs:
    scores, paired = test_scores(results), results["system_vs_best_single"]
    lines.append(
      _row(
        [
          str(results["seed"]),
          *(_cell(scores[name]) for name in names),
          f"{paired['difference']:+.3f}" if paired else "-",
          f"{paired['p']:.4f}" if paired else "-",
          str(results["spend"]["made"]),
          f"{results['timing']['seconds']:.0f}",
        ]
      )
    )
  table = [[test_scores(r)[name] for name in names] for r in runs]
  means = np.mean(np.array(table, float), axis=0).tolist()  # None is NaN, shown as -
  lines.append(_row(["mean", *map(_cell, means), "", "", "", ""]))
  pairs = [r["system_vs_best_single"] for r in runs]
  won = sum(bool(pair) and pair["p"] < ALPHA for pair in pairs)
  lines.append(
    f"\nThe found system beats the best single expert in {won} of {len(runs)}"
    f" seeds (paired bootstrap over the test questions, one-sided p <"
    f" {ALPHA})."
  )
  return "\n".join(lines)


def draws_table(summary: Mapping[str, Any]) -> str:
  """Markdown of a summary of draws: all of them, the best on dev first, then the chosen
  one's score where it was chosen beside its score where nothing was."""
  rows, chosen = summary["rows"], summary["chosen"]
  header = list(rows[0])
  lines = [_row(["draw", *header]), _row(["---"] * (len(header) + 1))]
  order = sorted(range(len(rows)), key=lambda k: -_or_low(rows[k]["dev"]))
  for k in order:
    lines.append(_row([str(k), *(_cell(rows[k][name]) for name in header)]))
  lines.append(
    _row(["mean", *(_cell(summary["mean"].get(name, "")) for name in header)])
  )
  best = rows[chosen]
  lines.append(
    f"\nOf {summary['count']} draws {chosen} is chosen, on dev: {_cell(best['dev'])}"
    f" there, {_cell(best['held_out'])} on dev questions that chose nothing,"
    f" {_cell(best['test'])} on test."
  )
  return "\n".join(lines)


def _cell(value):
  if isinstance(value, float):
    return "-" if value != value else f"{value:.3f}".removesuffix("0")
  return "-" if value is None else str(value)


def _or_low(value):
  return -float("inf") if value is None or value != value else value


def _row(cells):
  return "| " + " | ".join(cells) + " |"


def _number(value):
  return f"{value:7.4f}" if value is not None else f"{'-':>7}"
