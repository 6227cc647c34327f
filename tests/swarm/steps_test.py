"""The search on a pool of numbers: what is kept, compared and stopped."""

import dataclasses

import jax
import numpy as np
import pytest

from jswarm.run import loop
from jswarm.swarm import steps
from jswarm.systems import prompts, system, waves
from jswarm.systems.evaluate import Evaluator, UtilityBroken
from jswarm.systems.memo import Memo
from tests import fakes
from tests.fake_run import plan


def _result(**fields):
  return loop.run(plan(fields), None)


def _execute(result, experts):
  """Runs the stored system again, outside the search."""
  experts.install(result.system.weights)
  job = system.make_job(result.system.graph.dag, result.system.assignment)
  made = plan()
  questions = [prompts.Question(made.task.prompt(e)) for e in made.task.dev]
  terms = prompts.Terms(experts, made.wording, limit=16, chat=False)
  items = waves.grid([job], [questions])
  return [done.reply for done in waves.run(items, terms, waves.direct(experts))]


def test_the_found_system_beats_every_expert_and_the_initial_graphs():
  results = _result().results
  assert results["dev"]["system"] > max(results["singles_dev"].values())
  assert results["dev"]["system"] >= results["dev"]["initial"]
  assert results["test"]["system"]["score"] > results["test"]["best_single"]["score"]


@pytest.mark.parametrize("mode", ["fixed", "paper", "as_published"])
def test_the_stored_system_scores_what_the_search_said(mode):
  experts, _ = fakes.numeric()
  made = plan({"search.mode": mode}, experts=experts)
  result = loop.run(made, None)
  replies = _execute(result, experts)
  scores = fakes.mean_of_numbers([{"answer": e.answer} for e in made.task.dev], replies)
  assert np.mean(scores) == pytest.approx(result.results["dev"]["system"], abs=1e-6)


def test_the_best_never_falls_and_history_has_a_row_an_iteration():
  history = _result(**{"search.iterations": 6}).results["history"]
  best = [row["best"] for row in history]
  assert best == sorted(best)
  assert [row["iteration"] for row in history] == list(range(len(history)))


def test_role_only_leaves_the_weights_alone():
  result = _result(**{"search.steps": "role"})
  experts, _ = fakes.numeric()
  np.testing.assert_array_equal(result.system.weights[0]["w"], experts.weights[0]["w"])
  assert all("weight/mean" not in row for row in result.results["history"])


def test_weight_only_keeps_the_best_initial_graph():
  moves = {"search.steps": "weight", "weight.method": "pso", "role.patience": 20}
  result = _result(**moves)
  for graph in (result.state.reference, result.system.graph):
    np.testing.assert_array_equal(graph.dag.edges, result.state.initial.graph.dag.edges)
  assert result.results["dev"]["system"] > result.results["dev"]["initial"]


def test_a_pool_without_a_pair_to_mix_has_no_weight_step():
  experts, _ = fakes.numeric()
  made = plan(
    experts=experts._replace(groups=(), weights=(), install=lambda weights: None)
  )
  result = loop.run(made, None)
  assert result.state.weight == () and result.results["iterations"] > 0


def test_groups_move_apart_and_frozen_experts_stay():
  groups = ((0, 2), (1, 4))
  experts, _ = fakes.numeric(num=5, groups=groups)
  result = loop.run(plan(experts=experts), None)
  assert [len(s.utility) for s in result.state.weight] == [2, 2]
  for swarm_state, start in zip(result.state.weight, experts.weights):
    assert not np.array_equal(swarm_state.position["w"], start["w"])


def test_patience_ends_a_search_that_stopped_improving():
  # A utility that is the same for all: nothing ever improves on the first graphs.
  made = plan(
    {"role.patience": 2, "search.iterations": 20},
    utility=lambda examples, replies: [0.5] * len(replies),
  )
  result = loop.run(made, None)
  assert result.results["finish_reason"] == "patience"
  assert result.results["iterations"] == 2


def test_a_budget_of_calls_ends_the_search_and_the_test_is_still_scored():
  result = _result(**{"budget.calls": 120, "search.iterations": 50})
  assert result.results["finish_reason"] == "budget:calls"
  assert result.results["test"]["system"]["n"] == 6


def test_a_budget_that_ends_before_the_first_graph_is_an_error():
  with pytest.raises(ValueError, match="budget:calls is spent before"):
    _result(**{"budget.calls": 1})


def test_the_search_without_random_assignments_keeps_expert_i_on_node_i():
  result = _result(**{"search.keep_assignments": False})
  np.testing.assert_array_equal(result.system.assignment, range(4))


def test_one_expert_that_is_broken_by_a_move_is_rolled_back():
  made = plan({"weight.method": "pso"})  # it moves by its velocity
  problem = steps.Problem(
    made.experts, Evaluator(made.task, Memo(made.experts), made.wording), made.task.dev
  )
  key = jax.random.key(0)
  state, _ = steps.start(key, problem, made.settings)
  broken = state.weight[0].velocity["w"].at[1].set(np.nan)
  state = state.replace(weight=(state.weight[0].replace(velocity={"w": broken}),))
  state, info = steps.weight_step(key, state, state.reference, problem, made.settings)
  assert info.metrics["repaired"] == 1
  assert np.isfinite(np.asarray(state.weight[0].position["w"])).all()
  assert np.isfinite(np.asarray(state.best.weights[0]["w"])).all()


def _flaky(bad):
  count = [0]

  def utility(examples, replies):
    count[0] += 1
    return (
      bad(examples) if count[0] % 3 == 0 else fakes.mean_of_numbers(examples, replies)
    )

  return utility


@pytest.mark.parametrize(
  "bad",
  [
    lambda examples: 1 / 0,
    lambda examples: None,
    lambda examples: [1.0],
    lambda examples: [float("nan")] * len(examples),
    lambda examples: [99.0] * (len(examples) - 1) + ["x"],
  ],
)
def test_a_failed_evaluation_is_counted_and_never_a_best_or_a_worst(bad):
  result = loop.run(plan(utility=_flaky(bad)), None)
  assert result.results["failures"] > 5
  assert result.results["dev"]["system"] <= 1
  for state in (result.state.role, *result.state.weight):
    assert np.isfinite(state.swarm_best_utility) and np.isfinite(
      state.swarm_worst_utility
    )
    assert not np.isnan(np.asarray(state.best_utility)).any()


def test_five_failures_in_a_row_abort_with_the_first_traceback():
  def utility(examples, replies):
    raise KeyError("the_cause")

  with pytest.raises(UtilityBroken, match="5 times in a row(.|\n)*the_cause"):
    loop.run(plan(utility=utility), None)


def test_dropout_skips_evaluations():
  full = _result(**{"role.patience": 50})
  dropped = _result(
    **{"role.patience": 50, "role.dropout_n": 0.6, "weight.dropout_n": 0.6}
  )
  assert dropped.results["spend"]["calls"] < full.results["spend"]["calls"]


def test_a_stop_file_ends_the_run_at_the_next_boundary(tmp_path):
  (tmp_path / "STOP").touch()
  result = loop.run(plan(), str(tmp_path))
  assert result.results["finish_reason"] == "stop_file"


def test_settings_name_the_field_that_is_wrong():
  settings = plan().settings
  with pytest.raises(
    ValueError, match="search.mode='best'.*fixed, paper, as_published"
  ):
    dataclasses.replace(settings, mode="best")
  with pytest.raises(ValueError, match="search.graphs=0"):
    dataclasses.replace(settings, graphs=0)


def test_the_papers_result_is_decoded_once_more_and_holds_the_last_weights():
  result = _result(**{"search.mode": "paper"})
  assert result.system.assignment.tolist() == [0, 1, 2, 3]
  last = result.state.weight[0].position["w"]
  np.testing.assert_array_equal(result.system.weights[0]["w"], last)
  best = max(row["role/max"] for row in result.results["history"])
  assert np.isfinite(result.results["dev"]["system"])
  assert result.results["dev"]["system"] != best


def test_dropout_leaves_out_whole_steps():
  fields = {"search.iterations": 12, "role.patience": 99}
  history = _result(
    **fields, **{"search.dropout_r": 0.5, "search.dropout_w": 0.5}
  ).results["history"][1:]
  for step in ("role", "weight"):
    done = [f"{step}/failed" in row for row in history]
    assert any(done) and not all(done)
  assert all(
    "role/failed" in row and "weight/failed" in row
    for row in _result(**fields).results["history"][1:]
  )


def test_a_swarm_that_pays_for_entries_ends_with_smaller_ones():
  fields = {"role.method": "pso", "search.iterations": 6, "search.steps": "role"}
  size = lambda result: np.abs(result.state.swarm_best.adjacency).mean()
  paid = _result(**fields, **{"search.l1": 50.0})
  assert size(paid) < size(_result(**fields))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"search.l1": -1.0}, "search.l1=-1.0: allowed is 0"),
    ({"search.l1": 0.1}, "allowed with role.method='pso', which is 'evolution'"),
    (
      {"search.l1": 0.1, "role.method": "pso", "search.race": 2},
      "search.race=0, which is 2",
    ),
  ],
)
def test_a_price_on_entries_needs_a_swarm_that_has_entries(fields, message):
  with pytest.raises(ValueError, match=message):
    plan(fields)
