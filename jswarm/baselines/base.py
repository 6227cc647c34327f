"""What a method is given, and what it gives: the contract of this room.

  Setting -> Method.find -> Found

A method is one function. It looks at dev questions as often as its budget of calls
allows, and names who answers: any `Answerer`, on any weights. Test questions it never
sees. What it cannot do without stands in `Method.needs`; a pool that lacks it raises
`NotApplicable`, which is one line of a table and not an error.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from jswarm.core.types import Experts
from jswarm.swarm import problem as problem_lib
from jswarm.swarm.problem import Problem
from jswarm.systems.answerer import Answerer
from jswarm.systems.answerers import ReadFn, as_said
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluation, Evaluator
from jswarm.systems.memo import Memo
from jswarm.systems.system_memo import SystemMemo
from jswarm.systems.weights import Weights

VARIANTS = ("paper", "original")


class NotApplicable(ValueError):
  """The pool or the task lacks what a method needs; the message says what."""


Deltas = Mapping[str, Callable[[], Any]]


class Lent(NamedTuple):
  """What only the model wing can do, as functions; None: not here.

  Attributes:
    sampling: `sampling(temperature)` -> the same pool, whose replies are drawn.
    train: `train(matched)` -> a pool of one expert, trained on the records of all, in
      as many epochs as they were, or if `matched` in as many updates as one of them.
    deltas: `deltas()` -> for each group how to read the experts' dense updates of their
      base, {name: read}, where read() is float32 [E_group, ...]; all of them at a time
      would be E whole models. {}: no base is known.
    serve: `serve(group, {name: [...]})` -> a pool of one expert, the base of that group
      plus one dense update.
  """

  sampling: Callable[[float], Experts] | None = None
  train: Callable[[bool], Experts] | None = None
  deltas: Callable[[], list[Deltas]] | None = None
  serve: Callable[[int, Mapping[str, Any]], Experts] | None = None


@dataclasses.dataclass
class Setting:
  """A pool, dev questions and a budget, for one method.

  Attributes:
    problem: the pool, the evaluator and the dev examples.
    meter: what the evaluator has spent.
    singles: float64 [E], dev utility of each expert alone, as it came.
    calls: most node executions on dev; 0: as many as the method's defaults take.
    seed: of all that is drawn.
    read: what a reply votes for.
    variant: "paper", as its tables were made, or "original", as its authors define it.
    options: of the method, by name; see its docstring.
    lent: what the model wing can do.
    curve: (calls spent so far, best dev utility so far), a row a `score`.
  """

  problem: Problem
  meter: Meter
  singles: np.ndarray
  calls: int = 0
  seed: int = 0
  read: ReadFn = as_said
  variant: str = "paper"
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  lent: Lent = Lent()
  curve: list[tuple[int, float]] = dataclasses.field(default_factory=list)

  def __post_init__(self):
    self._began = self.meter.spent["calls"]

  @property
  def experts(self) -> Experts:
    return self.problem.experts

  @property
  def first(self) -> Weights:
    """The weights that the pool came with."""
    return self.problem.evaluator.memo.first

  @property
  def by_dev(self) -> tuple[int, ...]:
    """All experts, the best on dev first; of equal ones the one named first."""
    known = np.where(np.isnan(self.singles), -np.inf, self.singles)
    return tuple(int(e) for e in np.argsort(-known, kind="stable"))

  @property
  def spent(self) -> int:
    """Calls of this method so far."""
    return self.meter.spent["calls"] - self._began

  def left(self, cost: int = 1) -> bool:
    """Does the budget hold `cost` more calls?"""
    return not self.calls or self.spent + cost <= self.calls

  def option(self, name: str, default: Any) -> Any:
    return self.options.get(name, default)

  def lend(self, name: str) -> Callable:
    """What the model wing can do, by its name in `Lent`."""
    function = getattr(self.lent, name)
    if function is None:
      raise NotApplicable(f"{name} is needed, which this pool has not.")
    return function

  def key(self) -> jax.Array:
    return jax.random.key(self.seed)

  def score(
    self, answerers: Sequence[Answerer], experts: Experts | None = None
  ) -> list[Evaluation]:
    """Scores answerers on all dev examples, side by side, and keeps the curve.

    `experts`: the pool that they ask; None: that of the setting.
    """
    evaluator = self.problem.evaluator
    if experts is not None:
      evaluator = on(evaluator, experts, self.meter)
    found = evaluator.evaluate(answerers, self.problem.examples)
    known = [e.utility for e in found if not np.isnan(e.utility)]
    before = [self.curve[-1][1]] if self.curve else []
    if known or before:
      self.curve.append((self.spent, float(max(known + before))))
    return found

  def dev(self, answerer: Answerer, experts: Experts | None = None) -> float:
    """Dev utility of what is found anyway; NaN where the budget does not hold it."""
    if not self.left(len(answerer.members()) * len(self.problem.examples)):
      return float("nan")
    return self.score([answerer], experts)[0].utility

  def best(
    self, answerers: Sequence[Answerer], experts: Experts | None = None
  ) -> tuple[int, float]:
    """(index, dev utility) of the best of them; the first of equal ones."""
    utility = np.array([e.utility for e in self.score(answerers, experts)])
    index = problem_lib.argmax(utility)
    return index, float(utility[index])


class Found(NamedTuple):
  """What a method came to.

  Attributes:
    answerer: who answers the test questions.
    dev: its dev utility, NaN if the method scored nothing.
    experts: the pool that it asks; None: that of the setting.
    notes: JSON-able, for the table: what was chosen.
  """

  answerer: Answerer
  dev: float = float("nan")
  experts: Experts | None = None
  notes: Mapping[str, Any] = {}


def best_of(found: Sequence[Found]) -> Found:
  """The one with the greatest dev utility that is known; the first of equal ones."""
  return found[problem_lib.argmax(np.array([f.dev for f in found]))]


@dataclasses.dataclass(frozen=True)
class Method:
  """A way to make one answerer of a pool.

  Attributes:
    find: `find(setting)` -> `Found`.
    family: of the paper's table, or "control".
    needs: of "mixable" (experts that share a base), "score", "logits", "hidden" (see
      `Experts`), "sampling", "train", "deltas" (see `Lent`).
    variants: those that differ.
  """

  find: Callable[[Setting], Found]
  family: str
  needs: tuple[str, ...] = ()
  variants: tuple[str, ...] = ("paper",)


def on(evaluator: Evaluator, experts: Experts, meter: Meter) -> Evaluator:
  """The evaluator with another pool; who judges, and what is counted, stays."""
  memo = Memo(experts, meter)
  return dataclasses.replace(evaluator, memo=memo, cache=SystemMemo(memo))


def lacking(method: Method, setting: Setting) -> list[str]:
  """What the method needs and the setting has not."""
  has = {
    "mixable": any(len(group) > 1 for group in setting.experts.groups),
    "sampling": setting.lent.sampling is not None,
    "train": setting.lent.train is not None,
    "deltas": setting.lent.deltas is not None and setting.lent.serve is not None,
  }
  for name in ("score", "logits", "hidden"):
    has[name] = getattr(setting.experts, name) is not None
  return [need for need in method.needs if not has[need]]
