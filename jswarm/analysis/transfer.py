"""A system searched on one task, tested on another.

rows of systems on source and target -> what is kept of the gain in the target itself
"""

from collections.abc import Mapping
from typing import Any

from jswarm.analysis import series

# Systems, all tested on the target task.
MOVED = "searched on the source"
AT_HOME = "searched on the target"
BEST_SOURCE = "best expert on the source's dev"
BEST_TARGET = "best expert on the target's dev"


def kept(moved: float, base: float, home: float) -> float | None:
  """(S_AB - base_B) / (S_BB - base_B): 1 if moving costs nothing, 0 if it keeps
  nothing; None where searching at home gains nothing."""
  return (moved - base) / (home - base) if home > base else None


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Scores on the target, and the share of the gain that is kept.

  Args:
    gathered: "source" and "target", names; "rows", each with "system", "seed" and
      "test", its score on the target's test questions, and maybe "source_test".
  """
  rows = series.scored(gathered["rows"])
  means = {
    system: series.spread([r["test"] for r in mine])
    for (system,), mine in series.by(rows, "system").items()
  }
  moved, base, home = (
    means.get(name, {}).get("mean") for name in (MOVED, BEST_TARGET, AT_HOME)
  )
  share = None
  if moved is not None and base is not None and home is not None:
    share = kept(moved, base, home)
  return {
    "source": gathered["source"],
    "target": gathered["target"],
    "systems": means,
    "kept": share,
    "on_source": series.spread([r.get("source_test") for r in rows]),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Scores on the target of systems that were chosen here and there."""
  axes = figure.subplots()
  systems = numbers["systems"]
  axes.barh(
    list(systems),
    [s["mean"] or 0 for s in systems.values()],
    xerr=[s["sd"] or 0 for s in systems.values()],
  )
  axes.set_xlabel(f"score on the test questions of {numbers['target']}")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["systems"]:
    return "No system was scored on the target, so nothing is said of transfer."
  told = "; ".join(f"{n} {series.told(s)}" for n, s in numbers["systems"].items())
  share = "Searching on the target gains nothing, so no share of it can be kept."
  if numbers["kept"] is not None:
    share = (
      f"Of the gain of searching there, {series.percent(numbers['kept'])} is kept."
    )
  return (
    f"From {numbers['source']} to {numbers['target']}, scores on the latter's test:"
    f" {told}. {share}"
  )
