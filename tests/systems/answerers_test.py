"""Whatever answers can be scored: graphs, a vote and a debate side by side."""

import dataclasses

import numpy as np
import pytest

from jswarm.systems import answerers, prompts, system, waves
from jswarm.systems.answerer import Ask
from jswarm.systems.budget import Budget, Meter
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.systems.prompts import Question
from jswarm.systems.system_memo import SystemMemo
from tests import fakes, loading

WORDING = prompts.Wording(
  first="FIRST",
  middle="MIDDLE",
  last="LAST",
  response="response {k}: {reply}",
  question="Q: {prompt}",
)
ALL = (0, 1, 2)


def _say(expert, prompt):
  """Two experts know better than the third, until it hears them."""
  if expert < 2:
    return "yes"
  return "yes" if "response" in prompt else "no"


def _task(size=4):
  rows = [
    {"id": str(i), "question": f"question {i}", "answer": "yes"} for i in range(size)
  ]
  return loading.load_task(
    "mine", records={"dev": rows}, kind="exact_match", test_size=0
  )


def _chain(weights=None):
  edges = np.zeros((3, 3), bool)
  edges[0, 1] = edges[1, 2] = True
  return system.Job(edges, np.arange(3), np.arange(3), 2, ALL, weights)


def _evaluator(say=_say, meter=None, cached=True):
  experts, asked = fakes.dictionary(say, "abc")
  memo = Memo(experts, meter)
  cache = SystemMemo(memo) if cached else None
  return Evaluator(_task(), memo, WORDING, cache=cache), asked


def test_a_graph_a_vote_and_a_debate_are_scored_in_one_call():
  evaluator, asked = _evaluator()
  systems = [
    _chain(),
    answerers.MajorityVote(ALL),
    answerers.Debate(ALL, rounds=2),
    system.single(2),
  ]
  found = evaluator.evaluate(systems, evaluator.task.dev)
  assert [e.utility for e in found] == [1, 1, 1, 0]
  assert all(len(e.scores) == len(e.replies) == 4 for e in found)
  # What each asks first is the same three prompts a question: they are made once.
  firsts = [r for r in asked if r.prompt.startswith("FIRST")]
  assert len(firsts) == len(set(firsts)) == 3 * 4


def test_answerers_of_different_lengths_share_their_waves():
  evaluator, _ = _evaluator(cached=False)
  waves_made, ask = [], evaluator.memo.ask
  evaluator.memo.ask = lambda requests, weights=None: (
    waves_made.append(len(requests)) or ask(requests, weights)
  )
  systems = [_chain(), answerers.MajorityVote(ALL), answerers.Debate(ALL, rounds=2)]
  evaluator.evaluate(systems, evaluator.task.dev)
  assert waves_made == [4 * (1 + 3 + 3), 4 * (1 + 3), 4 * 1]


def test_each_answerer_says_the_same_beside_others_as_alone():
  say = lambda expert, prompt: f"<{expert}:{sum(map(ord, prompt)) % 97}>"
  systems = [_chain(), answerers.MajorityVote(ALL), answerers.Debate(ALL, rounds=3)]
  evaluator, _ = _evaluator(say)
  together = evaluator.evaluate(systems, evaluator.task.dev)
  for one, beside in zip(systems, together):
    alone, _ = _evaluator(say)
    assert alone.evaluate([one], alone.task.dev)[0].replies == beside.replies


def test_a_vote_is_won_by_most_and_a_tie_by_the_first_voter():
  question = Question("q")
  won = lambda *replies: answerers.plurality(question, replies, answerers.as_said)
  assert won("a", "b", " B ") == "b"
  assert won("b", "a") == "b" and won("a", "b", "b", "a") == "a"
  assert won("", " ", "x") == "x"  # silence is no vote
  assert won("", " ") == ""


def test_a_vote_reads_replies_as_it_is_told():
  read = lambda question, reply: reply[-1]
  assert answerers.plurality(Question("q"), ["x1", "y2", "z2"], read) == "y2"


def test_in_a_debate_everyone_hears_the_others_and_not_itself():
  say = lambda expert, prompt: f"said by {expert}"
  experts, asked = fakes.dictionary(say, "abc")
  terms = prompts.Terms(experts, WORDING, 5, False)
  item = waves.Item(answerers.Debate(ALL, rounds=2), Question("q"))
  (answered,) = waves.run([item], terms, waves.direct(experts))
  second = [ask.prompt for ask in answered.asks[1]]
  for expert, prompt in enumerate(second):
    assert f"said by {expert}" not in prompt
    assert all(f"said by {other}" in prompt for other in ALL if other != expert)
  assert len(asked) == 6 and [len(asks) for asks in answered.asks] == [3, 3]


def test_a_debate_of_one_round_is_a_vote_and_none_is_refused():
  evaluator, _ = _evaluator()
  vote, talk = evaluator.evaluate(
    [answerers.MajorityVote(ALL), answerers.Debate(ALL, rounds=1)], evaluator.task.dev
  )
  assert vote.replies == talk.replies
  with pytest.raises(ValueError, match="rounds=0 of a debate: at least 1"):
    answerers.Debate(ALL, rounds=0)


@pytest.mark.parametrize("made", [answerers.MajorityVote, answerers.Debate])
def test_context_is_dealt_to_the_places_of_an_answerer(made):
  experts, asked = fakes.dictionary(_say, "abc")
  terms = prompts.Terms(experts, WORDING, 5, False)
  item = waves.Item(made(ALL), Question("q", ("one", "two", "three")))
  waves.run([item], terms, waves.direct(experts))
  assert [r.prompt.split("\n")[1] for r in asked[:3]] == ["one", "two", "three"]


def test_systems_of_different_weights_are_scored_beside_each_other():
  experts, _ = fakes.numeric(num=3)
  memo = Memo(experts)
  task = loading.load_task(
    "mine", records=fakes.records(), kind="custom", utility=fakes.mean_of_numbers
  )
  evaluator = Evaluator(task, memo, WORDING, cache=SystemMemo(memo))
  named = [
    memo.named(({"w": experts.weights[0]["w"] * scale},)) for scale in (1, 0.5, 0.2)
  ]
  systems = [_chain(weights) for weights in named]
  systems += [answerers.MajorityVote(ALL, weights=weights) for weights in named]
  together = evaluator.evaluate(systems, task.dev)
  for one, beside in zip(systems, together):
    cold, _ = fakes.numeric(num=3)
    cold.install(one.weights.trees)  # and so is asked as it stands
    alone = Evaluator(task, Memo(cold), WORDING)
    again = alone.evaluate([dataclasses.replace(one, weights=None)], task.dev)[0]
    np.testing.assert_array_equal(again.scores, beside.scores)
  assert len({e.utility for e in together[:3]}) == 3


@pytest.mark.parametrize("cached", [True, False])
def test_calls_of_answerers_are_counted_alike_with_and_without_the_memo(cached):
  meter = Meter()
  evaluator, asked = _evaluator(meter=meter, cached=cached)
  systems = [answerers.MajorityVote(ALL), answerers.Debate(ALL), _chain()] * 2
  evaluator.evaluate(systems, evaluator.task.dev)
  evaluator.evaluate(systems, evaluator.task.dev)
  assert meter.spent["calls"] == 2 * 2 * 4 * (3 + 6 + 3)
  assert meter.spent["made"] == len(asked) == len(set(asked))


def test_a_spent_budget_stops_an_answerer_too():
  evaluator, _ = _evaluator(meter=Meter(calls=3))
  with pytest.raises(Budget):
    evaluator.evaluate([answerers.Debate(ALL)], evaluator.task.dev)


@dataclasses.dataclass(frozen=True)
class _Router:
  """Somebody else's answerer: the first expert names who answers."""

  weights: None = None

  def members(self):
    return ALL

  def identity(self, question, terms):
    return type(self)

  def answer(self, question, terms):
    (name,) = yield [Ask(0, f"who? {question.prompt}")]
    (reply,) = yield [Ask(int(name), question.prompt)]
    return reply


def test_an_answerer_from_outside_needs_three_methods():
  say = lambda e, p: str(1 + int(p[-1]) % 2) if p.startswith("who?") else f"by {e}"
  evaluator, _ = _evaluator(say)
  (found,) = evaluator.evaluate([_Router()], evaluator.task.dev)
  assert found.replies == [f"by {1 + i % 2}" for i in range(4)]
