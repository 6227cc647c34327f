"""AgentVerse: who is asked when, until all agree and somebody accepts."""

import pytest

from jswarm.baselines import agentverse
from jswarm.baselines.agentverse import AgentVerse, agrees, assigned, judged
from jswarm.systems import waves
from jswarm.systems.prompts import Question, Terms, Wording
from tests import fakes
from tests.baselines.settings import dev_of, setting

WORDING = Wording(
  first="first",
  middle="middle",
  last="last",
  response="response {k}: {reply}",
  question="question: {prompt}",
)


def run(answerer, *replies):
  """What it answers and what it asked, if `replies` is what each call brings, or a
  function of (expert, prompt)."""
  said = list(replies)
  reply = said[0] if callable(said[0]) else lambda expert, prompt: said.pop(0)
  experts, _ = fakes.dictionary(reply)
  terms = Terms(experts, WORDING, 20, False)
  (done,) = waves.run(
    [waves.Item(answerer, Question("why?"))], terms, waves.direct(experts)
  )
  return done.reply, [ask for wave in done.asks for ask in wave]


def test_an_accepted_plan_on_which_all_agree_takes_the_fewest_calls():
  reply, asks = run(
    AgentVerse(2, (0, 1)), "cook\nbaker\nmiller", "bread", "[Agree]", "I agree.", "1"
  )
  assert reply == "bread"
  assert [ask.expert for ask in asks] == [2, 2, 0, 1, 2]
  assert "You are cook." in asks[1].prompt and "You are miller." in asks[3].prompt
  assert "response 1: bread" in asks[2].prompt and "response 1: bread" in asks[4].prompt


def test_a_plan_is_revised_by_the_reviews_of_those_that_do_not_agree():
  replies = ["x", "flour", "too dry", "[agree]", "bread", "[agree]", "[AGREE]", "yes"]
  reply, asks = run(AgentVerse(2, (0, 1)), *replies)
  assert reply == "bread"
  assert "response 1: flour\nresponse 2: too dry\nquestion" in asks[4].prompt


def test_advice_of_who_does_not_accept_reaches_the_next_turn():
  replies = ["x", "flour", "agree", "0. Use an oven.", "x", "bread", "agree", "1"]
  reply, asks = run(AgentVerse(1, (0,)), *replies)
  assert reply == "bread"
  assert all("Advice: Use an oven" in asks[i].prompt for i in (4, 5))


def test_nonsense_agrees_with_nothing_and_ends_with_the_last_plan():
  """Every reply is another number: bounded, and the last revision is the answer."""
  count = iter(range(1000, 9999))
  answerer = AgentVerse(0, (1, 2))
  reply, asks = run(answerer, lambda expert, prompt: f"#{next(count)}")
  assert len(asks) == answerer.most == 3 * (3 + 3 * 3)
  assert reply == f"#{1000 + answerer.most - 2}"  # the verdict comes after it


def test_without_critics_the_solver_only_answers_to_the_evaluator():
  reply, asks = run(AgentVerse(0, ()), "cook", "bread", "1")
  assert reply == "bread" and len(asks) == 3


@pytest.mark.parametrize(
  "review, expected",
  [
    ("[Agree]", True),
    ("I AGREE with it.", True),
    ("Agreed", True),
    ("I disagree", False),
    ("I do not agree", False),
    ("I don't fully agree", False),
    ("agreement is far", False),
    ("", False),
  ],
)
def test_agreement_is_read_leniently_and_never_from_its_opposite(review, expected):
  assert agrees(review) == expected


@pytest.mark.parametrize(
  "verdict, accepted, advice",
  [
    ("1", True, ""),
    ("0: count again", False, "count again"),
    ("Score: 1. Fine.", True, "Fine"),
    ("Yes, it is.", True, "it is"),
    ("No", False, ""),
    ("It is not right", False, "right"),
    ("It isn't right", False, "right"),
    ("10 of 10", False, "10 of 10"),
    ("0.5 perhaps", False, "0.5 perhaps"),
    ("???", False, "???"),
    ("", False, ""),
  ],
)
def test_a_verdict_is_read_leniently_and_doubt_is_no(verdict, accepted, advice):
  assert judged(verdict) == (accepted, advice)


def test_roles_are_lines_and_missing_ones_are_left_out():
  assert assigned("1. a cook.\n\n- a baker\nmore", 2) == [
    "You are a cook. ",
    "You are a baker. ",
  ]
  assert assigned("", 2) == ["", ""]


def test_braces_of_a_model_are_no_slots():
  _, asks = run(AgentVerse(0, ()), "{advice} {x}", "plan", "1")
  assert "You are {advice} {x}. Solve" in asks[1].prompt


def test_a_debate_without_turns_is_refused():
  with pytest.raises(ValueError, match="turns=0"):
    AgentVerse(0, (), turns=0)


def test_the_best_expert_solves_and_dev_is_scored_where_the_calls_suffice():
  made = setting()
  found = agentverse.agentverse(made)
  assert found.answerer.solver == made.by_dev[0]
  assert sorted(found.answerer.members()) == [0, 1, 2, 3]
  assert made.spent <= found.answerer.most * 5
  assert found.dev == dev_of(made, found.answerer)
  poor = setting(calls=found.answerer.most * 5 - 1)
  unscored = agentverse.agentverse(poor)
  assert unscored.dev != unscored.dev and poor.spent == 0
