"""What a run is made of: the plan, the session that works it off, and its result."""

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any

from jswarm.core.types import Experts
from jswarm.distributed import watchdog
from jswarm.run.ledger import Ledger
from jswarm.run.workdir import Files
from jswarm.swarm import steps
from jswarm.swarm.state import Settings, State, System
from jswarm.systems import prompts
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluation, Evaluator, RateFn
from jswarm.systems.memo import Memo
from jswarm.tasks.base import Task

JudgeFn = Callable[[Memo], RateFn]
"""Given the memo of the pool, who rates replies."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Everything a run needs; made by `wiring.search`.

  Attributes:
    config: the resolved configuration, flat: {"search.graphs": 10, ...}.
    judge: who rates replies, for judged tasks.
    accepted: fields in which a workdir may differ, see `changes`.
    every, keep, on_full: of checkpoints, see `checkpoint`.
    clock: seconds; results.json keeps what it says under `timing` alone.
    progress: called as progress(calls made, calls asked for) after each batch.
    processes: how long several processes wait for each other.
    skipped: experts that are refused and left out, and why.
  """

  seed: int
  task: Task
  experts: Experts
  wording: prompts.Wording
  settings: Settings
  meter: Meter
  config: Mapping[str, Any]
  judge: JudgeFn | None = None
  accepted: tuple[str, ...] = ()
  every: int = 1
  keep: int = 2
  on_full: str = "stop"
  tensorboard: bool = False
  baselines: bool = False
  progress: Callable[[int, int], None] | None = None
  clock: Callable[[], float] = time.monotonic
  processes: watchdog.Settings = watchdog.Settings()
  skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Session:
  """A run under way.

  Attributes:
    plan: what is to be done. problem: what is searched.
    memo: the pool, which is asked each identical call once.
    files, ledger: the workdir, and the calls since its last checkpoint; None keeps
      nothing on disk.
    state: after the last finished iteration; None before the first.
    history: a row an iteration. singles: dev utility of each expert alone, by name.
    on_dev: what contenders of the final test spent on dev, in this life of the run.
  """

  plan: Plan
  problem: steps.Problem
  memo: Memo
  files: Files | None
  ledger: Ledger | None = None
  state: State | None = None
  history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  singles: dict[str, float] = dataclasses.field(default_factory=dict)
  on_dev: dict[str, int] = dataclasses.field(default_factory=dict)

  @property
  def evaluator(self) -> Evaluator:
    return self.problem.evaluator

  @property
  def reached(self) -> State:
    """The state, once there is one."""
    if self.state is None:
      raise RuntimeError("the search has not started: it has no state yet.")
    return self.state

  def spending(self) -> dict[str, Any]:
    """What was asked, spent and failed so far, for a bit-exact resume; JSON-able."""
    evaluator = self.evaluator
    return {
      "memo": self.memo.state(),
      "spent": self.plan.meter.spent,
      "seconds": self.plan.meter.seconds,
      "failures": [evaluator.failed, evaluator.in_a_row, evaluator.first_error],
    }

  def take_up(self, kept: Mapping[str, Any]) -> None:
    """Goes on from what `spending` gave."""
    self.memo.restore(kept["memo"])
    self.plan.meter.spent.update(kept["spent"])
    self.plan.meter.seconds = kept["seconds"]
    evaluator = self.evaluator
    evaluator.failed, evaluator.in_a_row, evaluator.first_error = kept["failures"]

  def best_single(self) -> str:
    """The expert with the greatest dev utility alone, as it came."""
    return max(self.singles, key=lambda name: _or_low(self.singles[name]))

  def by_dev(self) -> tuple[int, ...]:
    """All experts, the one with the greatest dev utility alone first."""
    value = [_or_low(self.singles[name]) for name in self.plan.experts.names]
    return tuple(sorted(range(len(value)), key=lambda e: -value[e]))


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run found.

  Attributes:
    results: the content of results.json.
    system: the best system of the search; state: the whole last state.
    tested: the evaluation on test of each contender, by name.
    on_dev: what choosing the contenders spent, of `Meter.FIELDS`.
  """

  results: dict[str, Any]
  system: System
  state: State
  tested: dict[str, Evaluation]
  on_dev: dict[str, int] = dataclasses.field(default_factory=dict)


def _or_low(value):
  # NaN arrives as None from a checkpoint.
  known = value is not None and value == value
  return value if known and abs(value) != float("inf") else -float("inf")
