"""Waves, prompts and budgets of the executor."""

import dataclasses

import numpy as np
import pytest

from jswarm.systems import prompts, system
from jswarm.systems import waves as waves_lib
from jswarm.systems.prompts import Question
from tests import fakes

WORDING = prompts.Wording(
  first="FIRST",
  middle="MIDDLE",
  last="LAST",
  response="response {k}: {reply}",
  question="Q: {prompt}",
)


def _job(edges, assignment=None):
  edges = np.array(edges, bool)
  n = len(edges)
  depth = np.zeros(n, int)
  for _ in range(n):
    for i, j in zip(*np.nonzero(edges)):
      depth[j] = max(depth[j], depth[i] + 1)
  position = np.empty(n, int)
  position[np.argsort(depth, kind="stable")] = np.arange(n)
  end = int(np.flatnonzero(~edges.any(1))[0])
  return system.Job(edges, depth, position, end, tuple(assignment or range(n)))


DIAMOND = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def _one_node_at_a_time(job, question, say):
  """The executor as the paper writes it."""
  said = {}
  for node in np.argsort(job.position):
    before = [said[p] for p in np.flatnonzero(job.edges[:, node])]
    place = "LAST" if node == job.end and before else "MIDDLE" if before else "FIRST"
    lines = [place] + [f"response {k}: {r}" for k, r in enumerate(before, 1)]
    said[node] = say(job.assignment[node], "\n".join(lines + [f"Q: {question}"]))
  return said[job.end]


def _run(jobs, questions, experts, wording=WORDING, limit=5, chat=False):
  """What each job and question brought, in order."""
  terms = prompts.Terms(experts, wording, limit, chat)
  items = waves_lib.grid(jobs, questions)
  return waves_lib.run(items, terms, waves_lib.direct(experts))


def _digest(expert, prompt):
  return f"<{expert}:{sum(map(ord, prompt)) % 997}>"


def test_waves_of_a_swarm_equal_one_node_at_a_time():
  experts, _ = fakes.dictionary(_digest, "abcd")
  chain = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
  star = [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
  jobs = [_job(DIAMOND), _job(chain, (3, 3, 0, 1)), _job(star)]
  questions = [Question("one"), Question("two")]
  out = _run(jobs, [questions] * 3, experts)
  for j, job in enumerate(jobs):
    replies = [answered.reply for answered in out[2 * j : 2 * j + 2]]
    assert replies == [_one_node_at_a_time(job, q.prompt, _digest) for q in questions]
  assert sum(len(asks) for answered in out for asks in answered.asks) == 3 * 4 * 2


def test_the_pool_is_asked_once_a_wave():
  experts, _ = fakes.dictionary(_digest, "abcd")
  waves = []
  ask = lambda requests: waves.append(len(requests)) or experts.ask(requests)
  jobs = [_job(DIAMOND), _job(DIAMOND)]
  _run(jobs, [[Question("q")]] * 2, experts._replace(ask=ask))
  assert waves == [2, 4, 2]


def test_predecessors_are_numbered_in_node_order_and_newlines_become_spaces():
  experts, asked = fakes.dictionary(lambda e, p: f"line{e}\nmore", "abcd")
  _run([_job(DIAMOND)], [[Question("q")]], experts, chat=True)
  assert asked[-1].prompt == (
    "LAST\nresponse 1: line1 more\nresponse 2: line2 more\nQ: q"
  )
  assert asked[-1].chat and asked[-1].limit == 5


def test_a_node_that_does_not_reach_the_end_never_runs():
  job = _job([[0, 1, 0], [0, 0, 0], [0, 0, 0]])
  job = dataclasses.replace(job, depth=np.array([0, 1, -1]))
  experts, asked = fakes.dictionary(_digest)
  (out,) = _run([job], [[Question("q")]], experts)
  assert 2 not in out.by_node and len(asked) == 2


@pytest.mark.parametrize("by, chunks", [("position", "xyz"), ("node", "zyx")])
def test_context_chunks_follow_the_position_or_the_node(by, chunks):
  job = _job([[0, 0, 0], [1, 0, 0], [0, 1, 0]])  # 2 -> 1 -> 0
  experts, asked = fakes.dictionary(_digest)
  wording = dataclasses.replace(WORDING, chunks_by=by)
  _run([job], [[Question("q", ("x", "y", "z"))]], experts, wording)
  assert [r.prompt.split("\n")[1] for r in asked] == list(chunks)


def test_replies_are_clipped_so_that_the_prompt_fits_and_the_cut_is_counted():
  experts, asked = fakes.dictionary(lambda e, p: "word " * 50, "abcd", room=40)
  (out,) = _run([_job(DIAMOND)], [[Question("a short one")]], experts)
  assert all(len(r.prompt.split()) <= 40 for r in asked)
  assert asked[-1].prompt.endswith("Q: a short one")
  assert asked[-1].prompt.count("word") >= 20  # the room is used
  assert sum(ask.cut for asks in out.asks for ask in asks) == 3


def test_a_reply_budget_bounds_each_quoted_reply():
  wording = dataclasses.replace(WORDING, reply_tokens=3)
  experts, asked = fakes.dictionary(lambda e, p: "word " * 50, "abcd")
  _run([_job(DIAMOND)], [[Question("q")]], experts, wording)
  assert asked[-1].prompt.count("word") == 6


def test_a_question_that_cannot_fit_is_an_error_that_names_it():
  experts, _ = fakes.dictionary(_digest, room=10)
  question = Question("word " * 30, where="data.json dev[3]")
  with pytest.raises(ValueError, match=r"dev\[3\] takes 32 tokens.*leaves 10"):
    prompts.check_room([question], experts, WORDING, 5)


@pytest.mark.parametrize(
  "most, advice",
  [
    (lambda limit: 40 - limit, "leaves 0 for a prompt beside a reply of 50: lower"
     " task.limit to 8 or less"),
    (lambda limit: 20 - limit, "take an expert of a longer context"),
    (lambda limit: 12, "raise engine.max_prompt_tokens"),
  ],
)  # fmt: skip
def test_what_leaves_no_room_for_a_question_is_what_is_to_be_changed(most, advice):
  experts, _ = fakes.dictionary(_digest)
  experts = experts._replace(room=lambda expert, limit: most(limit))
  with pytest.raises(ValueError, match=advice):
    prompts.check_room([Question("word " * 30)], experts, WORDING, 50)


def test_wording_without_its_slots_is_refused():
  with pytest.raises(ValueError, match="lacks {k}"):
    prompts.Wording(
      first="", middle="", last="", response="{reply}", question="{prompt}"
    )


def test_braces_of_a_wording_of_ones_own_stay():
  wording = prompts.Wording(
    first="",
    middle="",
    last="",
    response='{"n": {k}, "said": "{reply}"}',
    question='Reply as {"answer": ...}. {prompt}',
  )
  text = prompts.compose(wording, "", ["a {prompt} {k}"], "", "why {reply}?")
  assert text == (
    '{"n": 1, "said": "a {prompt} {k}"}\nReply as {"answer": ...}. why {reply}?'
  )
