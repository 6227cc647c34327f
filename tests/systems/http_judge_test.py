"""A judge that fails is asked again, not for ever; what it did not say is missing."""

import email.utils
import json
import time

import numpy as np
import pytest

from jswarm.core.types import Reply, Request
from jswarm.systems import http_judge, prompts, system
from jswarm.systems.evaluate import Evaluator, Unheard, UtilityBroken
from jswarm.systems.http_judge import Endpoint, HttpJudge
from jswarm.systems.memo import Memo
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from tests import fakes, loading
from tests.judge_server import Failing, serving


class _Clock:
  """Waits that take no time, and are noted."""

  def __init__(self):
    self.waits, self.now = [], 0.0

  def sleep(self, seconds):
    self.waits.append(seconds)
    self.now += seconds

  def __call__(self):
    return self.now


def _judge(failing, clock=None, store=None, **fields):
  endpoint = Endpoint(failing.url, "rater", **fields)
  if clock is None:
    return HttpJudge(endpoint, store)
  return HttpJudge(endpoint, store, clock.sleep, clock)


def _asked(*texts):
  return [Request(0, text, 5, True) for text in texts]


def test_verdicts_come_in_order_and_the_protocol_is_kept():
  with serving(Failing(say=lambda p: f"Rating: {p[-1]}")) as failing:
    replies = _judge(failing, key="secret").ask(_asked("a1", "b2\ud800", "a1"))
  assert [r.text for r in replies] == ["Rating: 1", "Rating: \ud800", "Rating: 1"]
  assert replies[0] == Reply("Rating: 1", 3, 2)
  assert sorted(failing.posts) == ["a1", "b2\ud800"]  # the same question once
  body = failing.bodies[0]
  assert (body["model"], body["max_tokens"], body["temperature"]) == ("rater", 5, 0)
  assert failing.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("what", [429, 500, 503, "empty", "nonsense", "null", "drop"])
def test_what_may_pass_is_tried_again_with_growing_waits(what):
  clock = _Clock()
  with serving(Failing(plan={"a": [what] * 3})) as failing:
    (reply,) = _judge(failing, clock).ask(_asked("a"))
  assert reply.text == "Rating: 7" and len(failing.posts) == 4
  assert len(clock.waits) == 3 and clock.waits[0] < clock.waits[1] < clock.waits[2]


def test_the_wait_is_the_one_that_the_server_asks_for():
  clock = _Clock()
  date = email.utils.formatdate(time.time() + 40, usegmt=True)
  with serving(
    Failing(plan={"a": [(429, "7"), (503, date), (429, "soon")]})
  ) as failing:
    (reply,) = _judge(failing, clock).ask(_asked("a"))
  assert reply.text == "Rating: 7"
  assert clock.waits[0] == 7.0 and 30 < clock.waits[1] <= 40 and clock.waits[2] < 10


@pytest.mark.parametrize("what", [429, 500, "empty", "nonsense", (429, "9")])
def test_tries_and_time_are_bounded_and_the_rest_is_still_heard(what):
  clock = _Clock()
  with serving(Failing(plan={"bad": [what] * 99})) as failing:
    bad, good = _judge(failing, clock, seconds=60.0).ask(_asked("bad", "good"))
  assert isinstance(bad, Unheard) and failing.url in bad.why
  assert good == Reply("Rating: 7", 3, 2)
  assert failing.posts.count("bad") <= http_judge.TRIES and clock.now <= 60.0


def test_a_wait_beyond_the_time_left_is_not_begun():
  clock = _Clock()
  with serving(Failing(plan={"a": [(429, "3600")]})) as failing:
    (reply,) = _judge(failing, clock, seconds=60.0).ask(_asked("a"))
  assert isinstance(reply, Unheard) and "429" in reply.why and clock.waits == []


@pytest.mark.parametrize("what", ["hang", "drip"])
def test_a_server_that_never_ends_its_answer_has_its_time_and_no_more(what):
  with serving(Failing(plan={"a": [what] * 99})) as failing:
    began = time.monotonic()
    (reply,) = _judge(failing, seconds=0.7).ask(_asked("a"))
    took = time.monotonic() - began
  assert isinstance(reply, Unheard) and took < 0.7 + 1.5


def test_nobody_listens_at_the_address():
  with serving(Failing()) as failing:
    pass
  clock = _Clock()
  (reply,) = _judge(failing, clock, seconds=5.0).ask(_asked("a"))
  assert isinstance(reply, Unheard) and "refused" in reply.why


def test_a_question_that_is_refused_for_itself_is_missing_and_not_repeated():
  with serving(Failing(plan={"a": [400] * 9})) as failing:
    bad, good = _judge(failing, _Clock()).ask(_asked("a", "b"))
  assert isinstance(bad, Unheard) and good.text == "Rating: 7"
  assert failing.posts.count("a") == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_refuses_everything_ends_the_search_with_what_to_check(status):
  told = pytest.raises(ValueError, match=f"HTTP {status}.*judge_model.*JUDGE_KEY")
  with serving(Failing(then=status)) as failing, told:
    _judge(failing, _Clock()).ask(_asked("a"))


def test_what_is_missing_is_not_kept_and_another_life_asks_for_it_alone(tmp_path):
  store = tmp_path / "run" / "verdicts.jsonl"
  with serving(Failing(plan={"b": [500] * http_judge.TRIES})) as failing:
    first = _judge(failing, _Clock(), store).ask(_asked("a", "b", "c"))
    assert [isinstance(r, Unheard) for r in first] == [False, True, False]
    store.write_bytes(store.read_bytes()[:-4])  # a kill cuts the last line off
    cut = json.loads(store.read_bytes().splitlines()[-3])  # which verdict is whole?
    failing.posts.clear()
    again = _judge(failing, _Clock(), store)
    assert [r.text for r in again.ask(_asked("a", "b", "c"))] == ["Rating: 7"] * 3
    assert len(failing.posts) == 2 and "b" in failing.posts and cut
    failing.posts.clear()
    assert again.ask(_asked("a", "b")) == again.ask(_asked("a", "b"))
    third = _judge(failing, _Clock(), store).ask(_asked("c", "b", "a"))
    assert [r.text for r in third] == ["Rating: 7"] * 3 and failing.posts == []


def test_a_verdict_is_of_one_model_at_one_address(tmp_path):
  store = tmp_path / "verdicts.jsonl"
  with serving(Failing()) as failing:
    _judge(failing, store=store).ask(_asked("a"))
    HttpJudge(Endpoint(failing.url, "other"), store).ask(_asked("a"))
    assert len(failing.posts) == 2


WORDING = prompts.Wording(
  first="", middle="", last="", response="{k} {reply}", question="{prompt}"
)


def _evaluator(failing, clock, say=lambda e, p: f"reply of {e}"):
  rows = [{"id": str(i), "question": f"q{i}", "answer": f"gold {i}"} for i in range(6)]
  task = loading.load_task("ltp", records={"dev": rows[:3], "test": rows[3:]})
  experts, _ = fakes.dictionary(say)
  return Evaluator(task, Memo(experts), WORDING, _judge(failing, clock).ask)


def test_an_example_without_a_verdict_is_missing_and_not_zero():
  with serving(Failing(then="ok")) as failing:
    evaluator = _evaluator(failing, _Clock())
    failing.next = lambda prompt: 500 if "gold 1" in prompt else "ok"
    (found,) = evaluator.evaluate([system.single(0)], evaluator.task.dev)
    np.testing.assert_array_equal(found.scores, [7, np.nan, 7])
    assert found.utility == 7 and not found.error and evaluator.failed == 0
    failing.posts.clear()
    failing.next = lambda prompt: "ok"
    (found,) = evaluator.evaluate([system.single(0)], evaluator.task.dev)
    assert found.scores.tolist() == [7, 7, 7] and len(failing.posts) == 1


def test_a_judge_that_says_nothing_at_all_ends_the_search_with_its_first_error():
  with serving(Failing(then=503)) as failing:
    evaluator = _evaluator(failing, _Clock())
    jobs = [system.single(e) for e in range(3)]
    found = evaluator.evaluate(jobs, evaluator.task.dev)
    assert evaluator.failed == 3 and all("503" in e.error for e in found)
    with pytest.raises(UtilityBroken, match="5 times in a row(.|\n)*HTTP 503"):
      evaluator.evaluate(jobs, evaluator.task.test)


def test_a_config_names_a_server_and_the_workdir_keeps_its_verdicts(tmp_path):
  with serving(Failing()) as failing:
    changes = {"task.name": "ltp", "task.judge": failing.url, "task.judge_model": "m"}
    resolved = config_lib.resolve_default(changes)
    rows = [{"question": f"q{i}", "answer": "A"} for i in range(4)]
    task = search.task(resolved, {"dev": rows[:2], "test": rows[2:]})
    rate = search.judge(resolved, task, workdir=str(tmp_path))(None)
    assert [r.text for r in rate(_asked("a"))] == ["Rating: 7"]
  assert "Rating: 7" in (tmp_path / "verdicts.jsonl").read_text()


def test_a_server_without_a_model_or_with_no_time_is_refused():
  with pytest.raises(ValueError, match="name its model in task.judge_model"):
    Endpoint("https://host/v1", "")
  with pytest.raises(ValueError, match="judge_seconds=0"):
    Endpoint("https://host/v1", "m", 0)
