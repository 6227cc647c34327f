"""The two credits of the weight-step."""

import jax
import numpy as np
import pytest

from jswarm.run import loop
from jswarm.systems import weights as weights_lib
from tests import fakes
from tests.fake_run import plan

REPLACE = {
  "search.credit": "replace",
  "search.steps": "weight",
  "role.patience": 9,
  "weight.method": "pso",
}


def _history(**changes):
  return loop.run(plan({**REPLACE, **changes}), None).results["history"]


def test_replacing_scores_each_expert_of_the_best_system_once_and_one_together():
  experts, asked = fakes.numeric()
  made = plan({**REPLACE, "search.iterations": 1}, experts=experts)
  result = loop.run(made, None)
  row = result.results["history"][1]
  used = np.asarray(result.state.initial.graph.dag.active).sum()
  assert np.isfinite(row["weight/jfk"]).sum() == used


def test_what_replacing_finds_is_what_the_system_scores():
  experts, _ = fakes.numeric()
  result = loop.run(plan(REPLACE, experts=experts), None)
  again = loop.run(
    plan({**REPLACE, "search.iterations": 0}, experts=experts), None
  ).results["dev"]["system"]
  assert result.results["dev"]["system"] > again
  # Scored afresh on the weights that were kept.
  made = plan(REPLACE, experts=experts)
  session_memo = loop.Memo(experts, made.meter)
  evaluator = loop.Evaluator(made.task, session_memo, made.wording)
  job = loop.system_lib.make_job(
    result.system.graph.dag,
    result.system.assignment,
    session_memo.named(result.system.weights),
  )
  value = evaluator.evaluate([job], made.task.dev)[0].utility
  assert value == pytest.approx(result.results["dev"]["system"], abs=1e-6)


@pytest.mark.parametrize("method", ["pso", "evolution", "random"])
def test_no_method_of_moving_loses_what_was_found(method):
  best = [row["best"] for row in _history(**{"weight.method": method})]
  assert best == sorted(best)


def test_mixed_weights_are_served_by_their_two_sources():
  experts, asked = fakes.numeric(num=3)
  first = weights_lib.named(experts, experts.weights)
  moved = weights_lib.named(
    experts, tuple(jax.tree.map(lambda x: x * 0.5, t) for t in experts.weights)
  )
  mixed = weights_lib.Mixed(first, moved, [False, True, False], experts.groups)
  assert mixed.versions == (
    first.versions[0], moved.versions[1], first.versions[2]
  )  # fmt: skip
  parts = weights_lib.Standing(experts).parts([(e, mixed) for e in range(3)])
  assert [calls for _, calls in parts] == [[0, 2], [1]]
  assert parts[1][0] is moved
  rows = np.asarray(mixed.trees[0]["w"])
  np.testing.assert_array_equal(rows[1], np.asarray(moved.trees[0]["w"])[1])
  np.testing.assert_array_equal(rows[0], np.asarray(first.trees[0]["w"])[0])
  # Put together, they are what they were called.
  assert tuple(weights_lib.versions(experts, mixed.trees)) == mixed.versions
