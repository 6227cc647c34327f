"""Votes: plurality, ties, medoids, and one expert that is asked several times."""

import re

import numpy as np
import pytest

from jswarm.baselines import methods, votes
from jswarm.baselines.base import Lent, NotApplicable
from jswarm.core.types import Reply
from jswarm.systems import answerers
from jswarm.systems.answerers import as_said, elected
from jswarm.systems.prompts import Question
from tests import fakes
from tests.baselines.settings import dev_of, setting

ASKED = Question("q")
NO_VOTE = lambda question, reply: None


def test_most_votes_win_and_the_first_voter_speaks_for_them():
  assert elected(ASKED, ["a", "B", "b"], as_said, [9, 1, 1]) == "B"


def test_a_tie_goes_to_the_sum_of_dev_utilities_of_the_voters():
  """The published code looks at the last voter's alone, which would elect "a"."""
  replies = ["a", "b", "b", "a"]
  assert elected(ASKED, replies, as_said, [0.1, 0.4, 0.3, 0.5]) == "b"
  assert elected(ASKED, replies, as_said, [0.2, 0.1, 0.1, np.nan]) == "a"


def test_a_tie_of_the_equally_trusted_goes_to_the_first_expert():
  assert elected(ASKED, ["b", "a"], as_said) == "b"


def test_free_text_elects_the_reply_nearest_to_the_others():
  replies = ["blue fish", "the old red boat", "the old boat", "an old boat sails"]
  assert elected(ASKED, replies, NO_VOTE) == "the old boat"


def test_of_two_free_texts_the_more_trusted_wins():
  assert elected(ASKED, ["one", "two"], NO_VOTE, [0.1, 0.2]) == "two"
  assert answerers.medoid(["one"], [0.0]) == 0


def test_a_majority_that_is_right_beats_its_best_voter():
  """Five experts, each wrong on one question of its own."""
  say = lambda e, p: "no" if int(re.findall(r"\d+", p)[-1]) == e else "yes"
  experts = fakes.dictionary(say, "vwxyz")[0]
  right = lambda examples, replies: [float(r == "yes") for r in replies]
  made = setting(experts, right, read=as_said)
  found = votes.prediction_merge(made)
  assert found.dev == 1 and made.singles.max() == 0.8
  assert dev_of(made, found.answerer) == 1


def test_the_best_few_may_vote_alone():
  made = setting(options={"top_k": 2})
  found = votes.prediction_merge(made)
  best = sorted(made.by_dev[:2])
  assert list(found.answerer.experts) == best
  assert found.notes["voters"] == [f"expert{e}" for e in best]


def _drawing(asked):
  """The pool of `fakes.numeric`, whose draws differ."""
  experts, _ = fakes.numeric()

  def ask(requests):
    asked.extend(requests)
    replies = experts.ask(requests)
    return [
      Reply(f"{r.draw % 3}", a.prompt_tokens, 1) for r, a in zip(requests, replies)
    ]

  return experts._replace(ask=ask)


def test_self_consistency_asks_the_best_expert_as_often_as_a_graph_of_all_would_cost():
  asked, heard = [], []
  lent = Lent(sampling=lambda t: (heard.append(t), _drawing(asked))[1])
  made = setting(lent=lent, read=as_said)
  found = methods.find("self_consistency", made)
  assert heard == [0.7] and found.experts is not None
  assert {r.expert for r in asked} == {made.by_dev[0]}
  assert {r.draw for r in asked} == {0, 1, 2, 3}  # four experts
  assert made.spent == len(asked) == 4 * 5
  assert len({r.prompt for r in asked}) == 5  # of each question one


def test_self_consistency_elects_the_draw_that_comes_most_often():
  asked = []
  lent = Lent(sampling=lambda t: _drawing(asked))
  made = setting(lent=lent, read=as_said, options={"samples": 4})
  found = votes.self_consistency(made)
  (item,) = made.score([found.answerer], found.experts)
  assert set(item.replies) == {"0"}  # draws 0 and 3


def test_a_pool_that_cannot_draw_makes_self_consistency_not_applicable():
  with pytest.raises(NotApplicable, match="self_consistency needs sampling"):
    methods.find("self_consistency", setting())
