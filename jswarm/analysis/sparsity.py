"""Fewer connections: a threshold tau, or a price lambda_1 on the entries of A.

rows of searches -> score, edges, executed nodes, calls of each setting, against none
"""

from collections.abc import Mapping
from typing import Any

from jswarm.analysis import series

TAUS = (0.05, 0.1, 0.2)
L1S = (0.01, 0.05, 0.1)
FIELDS = ("test", "dev", "edges", "nodes", "calls", "seconds")


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """What each setting keeps and costs, relative to none.

  Args:
    gathered: "rows", each with "tau", "l1", "seed", "test", and of the found system
      "edges" (between nodes that run) and "nodes" (that run: its calls a question).
  """
  found: list[dict[str, Any]] = []
  for (tau, l1), mine in series.by(
    series.scored(gathered["rows"]), "tau", "l1"
  ).items():
    spreads = {f: series.spread([row.get(f) for row in mine]) for f in FIELDS}
    found.append({"tau": tau, "l1": l1, **spreads})
  plain = next((f for f in found if not f["tau"] and not f["l1"]), None)
  for record in found:
    kept = {
      name: series.change(record[f]["mean"], plain[f]["mean"]) if plain else None
      for name, f in (
        ("test_change", "test"),
        ("edges_change", "edges"),
        ("calls_change", "nodes"),
      )
    }
    record |= kept
  return {"settings": found}


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Test score against calls saved."""
  axes = figure.subplots()
  for record in numbers["settings"]:
    saved, test = record["calls_change"], record["test"]
    if saved is None or test["mean"] is None:
      continue
    axes.errorbar(-100 * saved, test["mean"], yerr=test["sd"] or 0, marker="o")
    axes.annotate(
      name(record),
      (-100 * saved, test["mean"]),
      textcoords="offset points",
      xytext=(5, 5),
      fontsize="small",
    )
  axes.set_xlabel("calls a question saved by the found system (%)")
  axes.set_ylabel("test score, mean and deviation over seeds")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["settings"]:
    return "No search has a test score, so there is nothing to say of sparsity."
  parts = []
  for record in numbers["settings"]:
    text = (
      f"{name(record)}: test {series.told(record['test'])},"
      f" {series.told(record['edges'], 1)} edges, {series.told(record['nodes'], 1)}"
      " nodes run"
    )
    if record["tau"] or record["l1"]:
      text += (
        f" (score {_signed(record['test_change'])}, edges"
        f" {_signed(record['edges_change'])}, calls {_signed(record['calls_change'])})"
      )
    parts.append(text)
  return "Found systems by setting: " + "; ".join(parts) + "."


def name(record: Mapping[str, Any]) -> str:
  """How a setting is called."""
  if record["tau"]:
    return f"tau {record['tau']:g}"
  return f"L1 {record['l1']:g}" if record["l1"] else "none"


def _signed(value):
  return "unknown" if value is None else f"{100 * value:+.1f} %"
