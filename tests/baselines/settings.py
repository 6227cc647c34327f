"""Settings of methods on pools without a model."""

import numpy as np

from jswarm.baselines import base
from jswarm.swarm.problem import Problem
from jswarm.systems import system
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from tests import fakes
from tests.fake_run import plan


def setting(experts=None, utility=fakes.mean_of_numbers, **fields) -> base.Setting:
  """Of `fakes.numeric`, or of another pool; its experts are scored alone first."""
  experts = experts or fakes.numeric()[0]
  made, meter = plan(experts=experts, utility=utility), Meter()
  memo = Memo(experts, meter)
  evaluator = Evaluator(made.task, memo, made.wording)
  alone = [system.single(e, memo.first) for e in range(len(experts.names))]
  found = evaluator.evaluate(alone, made.task.dev)
  return base.Setting(
    problem=Problem(experts, evaluator, made.task.dev),
    meter=meter,
    singles=np.array([e.utility for e in found]),
    **fields,
  )


def dev_of(made: base.Setting, answerer) -> float:
  """Utility of an answerer on dev, outside of the method's budget."""
  return made.problem.evaluator.evaluate([answerer], made.problem.examples)[0].utility
