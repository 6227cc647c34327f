"""A node that decides: it reads, or it counts; and what graphs cost."""

import numpy as np
import pytest

from jswarm.baselines import decisions
from jswarm.systems.answerers import MajorityVote
from jswarm.systems.system import single
from tests.baselines.settings import dev_of, setting


def to_decision(*nodes):
  edges = np.zeros((5, 5), bool)
  edges[list(nodes), -1] = True
  return edges


def test_who_decides_is_the_best_expert_and_alone_if_it_hears_nobody():
  for decision in decisions.DECISIONS:
    made = setting(options={"decision": decision})
    alone = decisions.answerer(made, to_decision())
    assert list(alone.members()) == [made.by_dev[0]]
    assert dev_of(made, alone) == made.singles.max()


def test_a_vote_asks_only_those_that_vote():
  made = setting(options={"decision": "vote"})
  voted = decisions.answerer(made, to_decision(1, 2, 3))
  before = made.spent
  same = MajorityVote((1, 2, 3), made.read, made.first)
  assert dev_of(made, voted) == dev_of(made, same)
  assert list(voted.members()) == [1, 2, 3]
  assert made.spent - before == 2 * 3 * len(made.problem.examples)


def test_voters_hear_who_speaks_to_them():
  made = setting(options={"decision": "vote"})
  edges = to_decision(1)
  edges[0, 1] = True
  assert dev_of(made, decisions.answerer(made, edges)) != dev_of(
    made, single(1, made.first)
  )


def test_more_nodes_than_experts_are_held_in_turn():
  made = setting()
  edges = np.zeros((9, 9), bool)  # two rounds of four
  edges[np.arange(4), np.arange(4) + 4] = edges[4:8, 8] = True
  job = decisions.answerer(made, edges)
  assert job.assignment[:8] == (0, 1, 2, 3, 0, 1, 2, 3)
  assert dev_of(made, job) > made.singles.mean()


def test_an_unknown_decision_lists_the_known_ones():
  made = setting(options={"decision": "dice"})
  with pytest.raises(ValueError, match="decision='dice'.*refer, vote"):
    decisions.answerer(made, to_decision(1))


def test_only_what_the_budget_holds_is_scored():
  made = setting(calls=31)
  few = decisions.answerer(made, to_decision(1, 2))  # three calls, five examples
  assert len(decisions.affordable(made, [few] * 5)) == 2
  assert len(decisions.affordable(made, [few] * 5, reserve=2)) == 1
  score = decisions.on_questions(made, lambda edges: few, reserve=25)
  assert score([to_decision(1, 2)] * 2, [0, 4]) is not None and made.spent == 6
  assert score([to_decision(1, 2)], [0]) is None and made.spent == 6
  made.calls = 10
  assert np.isnan(decisions.found(made, few).dev)


def test_a_graph_is_scored_on_its_own_question():
  made = setting()
  one = decisions.answerer(made, to_decision(1, 2))
  score = decisions.on_questions(made, lambda edges: one, reserve=0)
  alone = [score([to_decision()], [x])[0] for x in range(5)]
  assert np.mean(alone) == pytest.approx(dev_of(made, one))


def test_edges_are_told_by_names():
  made = setting()
  assert decisions.described(made, to_decision(2)) == ["expert2 > decision"]
