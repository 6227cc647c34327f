"""Edges by a graph network: what it learns from, and what it tells apart."""

import numpy as np
import pytest

from jswarm.baselines import learned_edges
from tests import fakes
from tests.baselines.gptswarm_test import planted
from tests.baselines.settings import dev_of, setting


def test_an_edge_that_stands_in_better_graphs_raises_f():
  edges = np.zeros((4, 3, 3), bool)
  edges[[0, 1], 0, 1] = True  # in the better two
  edges[[2, 3], 1, 2] = True
  edges[:, 0, 2] = True  # in all
  label = learned_edges.raises(edges, np.array([0.9, 0.8, 0.2, np.nan]))
  np.testing.assert_array_equal(label[:, 0, 1], [1, 1, np.nan, np.nan])
  np.testing.assert_array_equal(label[:, 1, 2], [np.nan, np.nan, 0, np.nan])
  np.testing.assert_array_equal(label[:, 0, 2], [1, 1, 0, np.nan])  # the mean of all
  assert np.isnan(label[:, 2, 0]).all()


def test_a_planted_edge_is_predicted():
  made = setting(*planted(), options={"decision": "refer"})
  found = learned_edges.learned_edges(made)
  assert found.dev > 0.7 > made.singles.max()


def hidden_pool():
  """Questions whose states point in one of two directions; so do profiles."""
  experts, utility = planted()

  def hidden(requests):
    rows = []
    for request in requests:
      digits = [int(c) for c in request.prompt if c.isdigit()]
      own = np.random.default_rng(len(request.prompt)).normal(size=8)
      rows.append(own * 0.01 + np.eye(8)[sum(digits) % 2])
    return np.array(rows, np.float32)

  return experts._replace(hidden=hidden), utility


def test_without_hidden_states_all_questions_have_one_graph():
  made = setting(*planted(), variant="original", options={"steps": 3})
  found = learned_edges.learned_edges(made)
  assert not found.notes["hidden"]
  np.testing.assert_array_equal(
    found.answerer.edges("question 1"), found.answerer.edges("another")
  )


def test_with_hidden_states_features_and_graphs_follow_the_question():
  made = setting(*hidden_pool(), variant="original", options={"steps": 3})
  found = learned_edges.learned_edges(made)
  assert found.notes["hidden"] and dev_of(made, found.answerer) == found.dev
  net = found.answerer.net
  one, same, other = (
    learned_edges._features(made, net, [f"q {n}"])[0] for n in (1, 3, 2)
  )
  np.testing.assert_allclose(one, same, atol=1e-5)
  assert np.abs(one - other).max() > 0.5
  logits = [
    np.asarray(learned_edges.logits_of(net.params, x[None])) for x in (one, other)
  ]
  assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_hidden_states_are_those_of_the_weights_that_the_pool_came_with():
  installed = []
  experts, _ = fakes.numeric()
  install = experts.install
  experts = experts._replace(
    install=lambda weights: (installed.append("moved"), install(weights)),
    hidden=lambda requests: np.ones((len(requests), 4), np.float32),
  )
  made = setting(experts, variant="original")
  moved = made.problem.evaluator.named(
    tuple({"w": group["w"] * 0.5} for group in experts.weights)
  )
  made.problem.evaluator.memo.on(moved)
  assert len(installed) == 1
  learned_edges._hidden(made, 0, ["a question"])
  assert len(installed) == 2  # and back


def test_the_network_learns_which_graph_is_good():
  options = {"steps": 40, "baseline": True, "sparsity": 0.0}
  made = setting(*planted(), variant="original", options=options)
  found = learned_edges.learned_edges(made)
  assert found.dev == pytest.approx(dev_of(made, found.answerer))
  assert found.dev > 0.7
