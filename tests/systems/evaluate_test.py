"""Second questions, judges and failures in the scoring of systems."""

import numpy as np
import pytest

from jswarm.core.types import Reply
from jswarm.systems import prompts, system
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from tests import fakes, loading

WORDING = prompts.Wording(
  first="", middle="", last="", response="{k} {reply}", question="{prompt}"
)
CHOICES = {"A": "red", "B": "blue"}


def _task(name, **fields):
  rows = [
    {"id": str(i), "question": f"question {i}", "answer": "A", **fields}
    for i in range(6)
  ]
  return loading.load_task(name, records={"dev": rows[:3], "test": rows[3:]})


def _evaluate(task, say, judge=None, names=("a", "b")):
  experts, asked = fakes.dictionary(say, names)
  memo = Memo(experts)
  if isinstance(judge, int):
    judge = memo.as_loaded(judge)
  evaluator = Evaluator(task, memo, WORDING, judge)
  jobs = [system.single(0), system.single(1)]
  return evaluator.evaluate(jobs, task.dev), asked


def test_an_abstaining_system_scores_zero_and_a_wrong_one_less():
  def say(expert, prompt):
    if "true" in prompt.lower() and "false" in prompt.lower():  # the self-check
      return "false" if "question 2" in prompt else "true"
    return "The answer is A" if expert == 0 else "The answer is B"

  (right, wrong), asked = _evaluate(_task("mmlu", choices=CHOICES), say)
  np.testing.assert_array_equal(right.scores, [1, 1, 0])
  np.testing.assert_array_equal(wrong.scores, [-1, -1, 0])
  assert right.utility == pytest.approx(2 / 3)
  assert len(asked) == 12  # every system is asked twice about every question


def test_the_self_check_quotes_the_reply_of_the_same_system():
  said = lambda expert, prompt: f"The answer is {'AB'[expert]}"
  _, asked = _evaluate(_task("mmlu", choices=CHOICES), said)
  checks = asked[6:]
  assert all(f"Proposed answer: {'AB'[r.expert]}: " in r.prompt for r in checks)


def test_a_judge_rates_and_an_unreadable_verdict_is_missing():
  def say(expert, prompt):
    if expert != 2:
      return f"reply of {expert}"
    return "no idea" if "reply of 1" in prompt else "Rating: 8"

  (rated, unread), _ = _evaluate(_task("ltp"), say, judge=2, names="abc")
  assert rated.utility == 8
  assert np.isnan(unread.scores).all() and np.isnan(unread.utility)
  assert "no verdict" in unread.error


def test_a_judge_may_be_a_model_outside_the_pool():
  judge = lambda requests: [Reply("Rating: 3", 1, 1) for _ in requests]
  (first, _), _ = _evaluate(_task("ltp"), lambda e, p: "reply", judge=judge)
  assert first.utility == 3


def test_verdicts_that_lack_for_some_examples_are_left_out_of_the_mean():
  def say(expert, prompt):
    if expert != 2:
      return "reply"
    return "?" if "question 1" in prompt or len(prompt) % 2 else "Rating: 4"

  (first, _), _ = _evaluate(_task("ltp"), say, judge=2, names="abc")
  known = first.scores[~np.isnan(first.scores)]
  assert first.utility == known.mean() if len(known) else np.isnan(first.utility)
