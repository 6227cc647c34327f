"""What stands in results.json, as a function of what a run knows at its end."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jswarm.run import changes
from jswarm.run.session import Session
from jswarm.systems import artifact, scores
from jswarm.systems.evaluate import Evaluation

SCHEMA = 1


def of(
  session: Session,
  reason: str,
  tested: Mapping[str, Evaluation],
  held: Evaluation | None = None,
) -> dict:
  """The content of results.json but `timing`: two runs of one seed agree on all of it.

  Args:
    session: at its end. reason: why the search ended.
    tested: the evaluation on test of each contender, by name.
    held: of the best system on the part of dev that chose nothing, where there is one.
  """
  plan, state = session.plan, session.reached
  accepted = changes.read(session.files.folder) if session.files else []
  best_single = session.best_single()
  return {
    "schema_version": SCHEMA,
    "task": plan.task.spec,
    "seed": plan.seed,
    "finish_reason": reason,
    "iterations": int(state.iteration),
    "dev": {
      "system": float(state.best.utility),
      "initial": float(state.initial.utility),
      "best_single": session.singles[best_single],
      **({"held_out": _row(held)} if held else {}),
    },
    "test": {name: _row(evaluation) for name, evaluation in tested.items()},
    "best_single": best_single,
    "singles_dev": session.singles,
    "system_vs_best_single": compare(
      tested["system"].scores, tested["best_single"].scores, plan.seed
    ),
    "system": artifact.describe(state.best, plan.experts.names),
    "spend": dict(plan.meter.spent),
    "failures": session.evaluator.failed,
    "rolled_back": sum(row.get("weight/repaired", 0) for row in session.history),
    "history": session.history,
    **({"accepted_changes": accepted} if accepted else {}),
    **({"skipped_experts": dict(plan.skipped)} if plan.skipped else {}),
  }


def compare(a: np.ndarray, b: np.ndarray, seed: int) -> dict[str, float] | None:
  """The paired bootstrap; None where a failed test leaves nothing to compare."""
  if not np.isfinite(a - b).any():
    return None
  return scores.paired_bootstrap(a, b, seed=seed)


def _row(evaluation: Evaluation) -> dict[str, Any]:
  row = scores.summary(evaluation.scores)
  return {**row, "error": evaluation.error} if evaluation.error else row
