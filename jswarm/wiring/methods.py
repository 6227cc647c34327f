"""Configuration -> the setting of a method, and its row of a table.

config -> plan -> Bench -> setting -> methods.find -> row on dev and test
"""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import importlib
from typing import Any

from ml_collections import ConfigDict
import numpy as np

from jswarm.baselines import base, methods
from jswarm.core import lookup
from jswarm.core.types import Experts
from jswarm.engine import engine
from jswarm.run.session import Plan
from jswarm.swarm.problem import Problem
from jswarm.systems import scores, system
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluation, Evaluator
from jswarm.systems.memo import Memo
from jswarm.systems.system_memo import SystemMemo
from jswarm.tasks import votes
from jswarm.wiring import config as config_lib
from jswarm.wiring import lending, search


@dataclasses.dataclass
class Bench:
  """A pool and a task on which methods are compared; each expert is scored once.

  Attributes:
    plan: of the search with the same configuration; its budget is not used.
    lent: what the model wing can do beside answering.
    evaluator: shared by all methods, so that identical calls are made once.
    read: what a reply to a question of the task votes for.
  """

  plan: Plan
  lent: base.Lent = base.Lent()

  def __post_init__(self):
    self.meter = Meter()
    self.evaluator = evaluator(self.plan, self.meter)
    task = self.plan.task
    self.read = votes.reader(task, [*task.dev, *task.test])
    first = self.evaluator.memo.first
    alone = [system.single(e, first) for e in range(len(self.plan.experts.names))]
    found = self.evaluator.evaluate(alone, self.plan.task.dev)
    self.singles = np.array([e.utility for e in found])

  def setting(
    self,
    seed: int,
    calls: int = 0,
    variant: str = "paper",
    options: Mapping[str, Any] | None = None,
  ) -> base.Setting:
    """What a method is given; `calls` on dev, 0: as many as it takes by itself."""
    return base.Setting(
      problem=Problem(self.plan.experts, self.evaluator, self.plan.task.dev),
      meter=self.meter,
      singles=self.singles,
      calls=calls,
      seed=seed,
      read=self.read,
      variant=variant,
      options=options or {},
      lent=self.lent,
    )

  def tested(self, found: base.Found) -> Evaluation:
    """What was found, on the test questions; they choose nothing."""
    evaluator = self.evaluator
    if found.experts is not None:
      evaluator = base.on(evaluator, found.experts, self.meter)
    return evaluator.evaluate([found.answerer], self.plan.task.test)[0]

  def row(
    self, name: str, setting: base.Setting, known: Mapping[str, base.Method]
  ) -> dict[str, Any]:
    """dev, test with its error and scores, calls on dev and on test, curve, notes; or
    why the method is not applicable. JSON-able by `files.clean`."""
    head = {"method": name, "variant": setting.variant, "seed": setting.seed}
    try:
      found = methods.find(name, setting, known)
    except base.NotApplicable as why:
      return {**head, "not_applicable": str(why)}
    on_dev, before = setting.spent, self.meter.spent["calls"]
    on_test = self.tested(found)
    return {
      **head,
      "dev": found.dev,
      "test": scores.summary(on_test.scores),
      "scores": on_test.scores.tolist(),
      "error": on_test.error,
      "calls": on_dev,
      "calls_test": self.meter.spent["calls"] - before,
      "curve": setting.curve,
      "notes": dict(found.notes),
    }


def bench(
  config: ConfigDict,
  experts: Experts | None = None,
  trained: ConfigDict | None = None,
) -> Bench:
  """The bench of a configuration; see `search.plan`.

  Args:
    experts: a pool that is not to be loaded; nothing but replies is lent of it.
    trained: the config that made the pool's experts, for methods that train.
  """
  if experts is not None:
    return Bench(search.plan(config, experts=experts))
  resolved = config_lib.resolve(config)
  task = search.task(resolved)  # first: it is checked in seconds
  placed = engine.place(search.pool(resolved, task), resolved.engine, keep=False)
  plan = search.plan(config, experts=placed.experts())
  return Bench(plan, lending.lent(resolved, placed, trained))


def evaluator(plan: Plan, meter: Meter) -> Evaluator:
  """Who scores systems as the search of a plan does, on a memo of its own.

  The pool has to stand on the weights that it came with.
  """
  memo = Memo(plan.experts, meter)
  judge = plan.judge(memo) if plan.judge else None
  return Evaluator(plan.task, memo, plan.wording, judge, SystemMemo(memo))


def check(name: str, known: Mapping[str, base.Method]) -> None:
  """Raises ValueError for an unknown method, before anything is loaded."""
  lookup.check("--baseline", name, known)


def options(given: Sequence[str]) -> dict[str, Any]:
  """{name: value} of "name=value"; what is no literal of Python is text.

  Raises:
    ValueError: one of them has no "=".
  """
  found = {}
  for text in given:
    name, equals, value = text.partition("=")
    if not equals:
      raise ValueError(f"--option={text!r}: allowed is name=value.")
    try:
      found[name] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      found[name] = value
  return found


def known(extra: str = "") -> dict[str, base.Method]:
  """All methods by name, and one from outside the package: "pkg.module:METHOD".

  Raises:
    ValueError: nothing stands there, or it is no `Method`.
  """
  if not extra:
    return dict(methods.METHODS)
  module, _, attribute = extra.partition(":")
  try:
    found = getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f"method {extra!r}: allowed is pkg.module:METHOD that can be imported ({error})."
    ) from error
  if not isinstance(found, base.Method):
    raise ValueError(
      f"method {extra!r} is a {type(found).__name__}: allowed is a"
      " jswarm.baselines.base.Method."
    )
  return {**methods.METHODS, attribute.lower(): found}
