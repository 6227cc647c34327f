"""Traces tell what was asked and said, and ask nobody."""

import numpy as np

from jswarm.graphs import decode
from jswarm.systems import system as system_lib
from jswarm.systems import traces
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.tasks import load, wishes
from jswarm.wiring import config as config_lib
from tests import fakes

WORDING = config_lib.resolve_default({}).wording


def _evaluated():
  """(evaluator, a chain of three, its examples), all asked once."""
  experts, asked = fakes.dictionary(lambda e, prompt: f"{e} heard {len(prompt)}")
  task = load.load_task(
    "mine",
    wishes.Source(records=fakes.records()),
    wishes.Wishes(kind="custom", limit=4),
    wishes.Judging(utility=lambda examples, replies: [1.0] * len(replies)),
  )
  evaluator = Evaluator(task, Memo(experts), WORDING)
  dag = decode.TOPOLOGIES["chain"](3, None)
  job = system_lib.make_job(dag)
  evaluator.evaluate([job], task.test)
  return evaluator, job, task.test, asked


def test_a_trace_has_each_node_with_its_prompt_its_reply_and_whom_it_heard():
  evaluator, job, examples, _ = _evaluated()
  first, *rest = traces.rows(evaluator, job, examples)
  assert len(rest) + 1 == len(examples)
  assert (first["id"], first["gold"]) == ("test0", "0")
  order = np.argsort(job.position).tolist()
  assert [node["node"] for node in first["nodes"]] == order
  assert [node["heard"] for node in first["nodes"]] == [[], order[:1], order[1:2]]
  for before, node in zip(first["nodes"], first["nodes"][1:]):
    assert before["reply"] in node["prompt"] and first["question"] in node["prompt"]
    assert node["tokens"] == [len(node["prompt"].split()), 1]
    assert node["answers"] is True  # of free text any reply is one


def test_a_trace_asks_nobody_and_counts_nothing():
  evaluator, job, examples, asked = _evaluated()
  before, spent = len(asked), dict(evaluator.memo._meter.spent)
  traces.rows(evaluator, job, examples)
  assert len(asked) == before and evaluator.memo._meter.spent == spent


def test_what_was_forgotten_has_no_trace(caplog):
  evaluator, job, examples, _ = _evaluated()
  evaluator.memo.restore({})
  with caplog.at_level("WARNING"):
    assert traces.rows(evaluator, job, examples) == []
  assert "no traces are kept" in caplog.text


def test_traces_end_where_their_room_does(monkeypatch):
  evaluator, job, examples, _ = _evaluated()
  whole = traces.rows(evaluator, job, examples)
  size = lambda row: sum(len(n["prompt"]) + len(n["reply"]) for n in row["nodes"])
  monkeypatch.setattr(traces, "MOST_BYTES", size(whole[0]) + size(whole[1]))
  assert traces.rows(evaluator, job, examples) == whole[:2]


def test_a_reply_without_an_answer_is_told_from_one_that_has_it():
  experts, _ = fakes.dictionary(
    lambda e, prompt: ("The answer is 7", "I agree", "8")[e]
  )
  task = load.load_task(
    "mine",
    wishes.Source(records=fakes.records()),
    wishes.Wishes(kind="exact_match", limit=4),
  )
  evaluator = Evaluator(task, Memo(experts), WORDING)
  job = system_lib.make_job(decode.TOPOLOGIES["chain"](3, None))
  evaluator.evaluate([job], task.test)
  first, *_ = traces.rows(evaluator, job, task.test)
  reads = {node["expert"]: node["answers"] for node in first["nodes"]}
  assert reads == {"a": True, "b": False, "c": True}
