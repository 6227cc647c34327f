"""Agent-Prune: masks, rounds, and what is left of a graph."""

import numpy as np
import pytest

from jswarm.baselines import agent_prune, decisions
from jswarm.graphs import dag
from tests import fakes
from tests.baselines.settings import dev_of, setting

ORIGINAL = {"variant": "original"}


def test_the_lowest_edges_go_first_and_one_at_least():
  values = np.array([[0.0, 3.0], [1.0, 2.0]])
  mask = np.array([[False, True], [True, True]])
  one = agent_prune.pruned(values, mask, 0.01)
  np.testing.assert_array_equal(one, [[False, True], [False, True]])
  np.testing.assert_array_equal(
    agent_prune.pruned(values, mask, 0.67), [[False, True], [False, False]]
  )
  assert not agent_prune.pruned(values, np.zeros((2, 2), bool), 0.5).any()


def test_rounds_share_their_edges_and_only_the_next_round_hears_the_last():
  spatial = np.array([[False, True], [False, False]])
  temporal = np.array([[False, False], [True, False]])
  whole = agent_prune.heard_by_all(agent_prune.spread(spatial, temporal, 3), 2)
  edges = {(0, 1), (2, 3), (4, 5), (1, 2), (3, 4), (4, 6), (5, 6)}
  assert {(int(i), int(j)) for i, j in np.argwhere(whole)} == edges
  dag.from_edges(whole, 6)


def test_logits_stand_where_their_edges_do():
  spatial, temporal = np.arange(4.0).reshape(2, 2), -np.arange(4.0).reshape(2, 2)
  places = 1 + np.arange(4).reshape(2, 2)
  where = np.stack(
    [
      agent_prune.spread(places, 0 * places, 2),
      agent_prune.spread(0 * places, places, 2),
    ]
  )
  logits = agent_prune.logits_of(
    {"spatial": spatial, "temporal": temporal}, where[None]
  )
  np.testing.assert_array_equal(logits[0], agent_prune.spread(spatial, temporal, 2))


def test_who_decides_hears_all_experts_of_the_last_round():
  made = setting(**ORIGINAL, options={"steps": 2})
  job = agent_prune.agent_prune(made).answerer
  assert job.end == 8
  np.testing.assert_array_equal(np.flatnonzero(job.edges[:, 8]), [4, 5, 6, 7])


def test_a_masked_edge_is_never_drawn_again():
  """With half of all edges masked at every step, soon none are left to be drawn."""
  drawn = []
  made = setting(**ORIGINAL, options={"steps": 12, "prune": 0.5, "prune_every": 1})
  answerer = decisions.answerer

  def spy(setting, edges):
    drawn.append(int(edges[:, :-1].sum()))
    return answerer(setting, edges)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(decisions, "answerer", spy)
    found = agent_prune.agent_prune(made)
  assert drawn[0] > 0 and drawn[-5:] == [0] * 5
  assert found.notes["spatial"] == found.notes["temporal"] == []


def test_a_useless_message_is_pruned_and_a_useful_one_stays():
  """The second expert is right once it heard the first; the third misleads."""

  def say(expert, prompt):
    if "poison" in prompt or expert == 2:
      return "0.0 poison"
    return "0.9" if expert == 1 and "key" in prompt or "0.9" in prompt else "0.2 key"

  utility = lambda examples, replies: [float(r.split()[0]) for r in replies]
  options = {"steps": 60, "rounds": 1, "baseline": True, "decision": "vote"}
  experts = fakes.dictionary(say, list("abcd"))[0]
  made = setting(experts, utility, **ORIGINAL, options=options, seed=1)
  made.read = lambda question, reply: reply.split()[0]
  found = agent_prune.agent_prune(made)
  assert "c > a" not in found.notes["spatial"]
  assert "c > b" not in found.notes["spatial"]


def test_the_nuclear_norm_makes_probabilities_of_lower_rank():
  ranks = []
  for nuclear in (0.0, 3.0):
    options = {"steps": 15, "nuclear": nuclear, "rounds": 1}
    made = setting(utility=lambda e, r: [0.5] * len(r), **ORIGINAL, options=options)
    ranks.append(len(agent_prune.agent_prune(made).notes["spatial"]))
  assert ranks[1] == 0 <= ranks[0]


def test_the_best_over_runs_and_degrees_answers():
  made = setting(options={"runs": 6})
  found = agent_prune.agent_prune(made)
  assert found.notes["graphs"] == 24
  assert found.notes["pruned"] in agent_prune.DEGREES
  assert found.dev == made.curve[-1][1] == dev_of(made, found.answerer)
  whole = agent_prune.agent_prune(setting(options={"runs": 6, "degrees": (0.0,)}))
  assert found.dev >= whole.dev


def test_pruned_graphs_cost_fewer_calls():
  spent = []
  for degree in agent_prune.DEGREES:
    made = setting(options={"runs": 5, "degrees": (degree,)})
    agent_prune.agent_prune(made)
    spent.append(made.spent)
  assert spent == sorted(spent, reverse=True) and spent[0] == 5 * 4 * 5 > spent[-1]
