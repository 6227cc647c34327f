"""Scores systems: replies -> utility. `Evaluator.evaluate(jobs) -> Evaluation[]`.

The utility of a system is the mean of its per-example scores. Whatever cannot be
scored is missing: it is NaN here, and NaN is never a best and never a worst.
"""

from collections.abc import Sequence
import dataclasses
import traceback
from typing import NamedTuple

from absl import logging
import numpy as np

from jswarm import messages
from jswarm.tasks.base import Example, Task, UtilityError
from jswarm.types import Experts, Request

MOST_FAILURES = 5  # in a row; then the utility itself is broken


class Evaluation(NamedTuple):
  """One system on one split.

  Attributes:
    utility: mean of the scores that are not missing; NaN if none or failed.
    scores: float64 [X]; NaN is missing.
    replies: [X] the system's final replies.
    error: empty, or why the evaluation failed.
  """

  utility: float
  scores: np.ndarray
  replies: list[str]
  error: str = ""


class UtilityBroken(RuntimeError):
  """The utility failed so often in a row that a search makes no sense."""


@dataclasses.dataclass
class Evaluator:
  """Runs systems on examples of a task and scores what they say.

  Attributes:
    judge: the index of the expert that rates replies, for tasks of that kind, or
      a function `requests -> replies` of a model outside the pool.
    failed: evaluations that failed so far; in_a_row: since the last good one.
  """

  task: Task
  experts: Experts
  wording: messages.Wording
  judge: object = None
  failed: int = 0
  in_a_row: int = 0
  first_error: str = ""

  def evaluate(self, jobs: Sequence[messages.Job],
               examples: Sequence[Example]) -> list[Evaluation]:
    """An `Evaluation` a job, in order; all jobs run together.

    Raises:
      UtilityBroken: five evaluations in a row failed; carries the first traceback.
    """
    task = self.task
    asked = self._questions(examples, map(task.prompt, examples))
    answers = self._run(jobs, [asked] * len(jobs), task.limit)
    if task.followup:
      checks = self._follow(jobs, examples, answers)
      scored = [self._score(task.followup.score, examples, a, c)
                for a, c in zip(answers, checks)]
    elif task.judge:
      scored = self._judged(examples, answers)
    else:
      scored = [self._score(task.score, examples, a) for a in answers]
    return [Evaluation(_mean(scores), scores, replies, error)
            for (scores, error), replies in zip(scored, answers)]

  def check_room(self) -> None:
    """Raises ValueError if a question of the task cannot fit an expert's context."""
    for examples in (self.task.dev, self.task.test):
      questions = self._questions(examples, map(self.task.prompt, examples))
      messages.check_room(questions, self.experts, self.wording, self.task.limit)

  def _questions(self, examples, prompts):
    return [messages.Question(p, e.chunks if self.task.needs_context else None, e.where)
            for e, p in zip(examples, prompts)]

  def _run(self, jobs, questions, limit):
    return messages.run(jobs, questions, self.experts, self.wording, limit=limit,
                        chat=self.task.chat).replies

  def _follow(self, jobs, examples, answers):
    """The same systems, each on the same DAG, asked about their own answers."""
    follow = self.task.followup
    asked = [self._questions(examples, map(follow.prompt, examples, said))
             for said in answers]
    return self._run(jobs, asked, follow.limit)

  def _judged(self, examples, answers):
    judge = self.task.judge
    expert, ask = ((self.judge, self.experts.ask) if isinstance(self.judge, int)
                   else (0, self.judge))
    requests = [Request(expert, judge.prompt(e, a), judge.limit, True)
                for said in answers for e, a in zip(examples, said)]
    verdicts = [judge.parse(reply.text) for reply in ask(requests)]
    scores = np.asarray(verdicts, float).reshape(len(answers), len(examples))
    missing = int(np.isnan(scores).sum())
    if missing:
      logging.info("%d of %d verdicts name no rating and are missing.", missing,
                   scores.size)
    return [(row, "" if np.isfinite(row).any() else "no verdict could be read")
            for row in scores]

  def _score(self, score, examples, *replies):
    """(scores, error) of one job; a failure is marked, counted and survived."""
    try:
      scores = np.asarray(score(examples, *replies), float)
    except UtilityError as error:
      self.failed += 1
      self.in_a_row += 1
      if self.in_a_row == 1:
        self.first_error = "".join(traceback.format_exception(error))
      logging.warning("Evaluation failed (%d in a row): %s", self.in_a_row, error)
      if self.in_a_row >= MOST_FAILURES:
        raise UtilityBroken(
            f"the utility failed {self.in_a_row} times in a row; the first failure:\n"
            f"{self.first_error}") from error
      return np.full(len(examples), np.nan), str(error)
    self.in_a_row = 0
    return scores, ""


def _mean(scores: np.ndarray) -> float:
  known = scores[~np.isnan(scores)]
  return float(known.mean()) if len(known) else float("nan")
