"""Scores systems: replies -> utility. `Evaluator.evaluate(systems) -> Evaluation[]`.

A system is an `answerer.Answerer` that carries its weights: graphs of experts, votes,
debates and whatever else answers are scored side by side, sharing every identical call.

The utility of a system is the mean of its per-example scores. Whatever cannot be
scored is missing: it is NaN here, and NaN is never a best and never a worst.
"""

from collections.abc import Callable, Sequence
import dataclasses
import itertools
import traceback
from typing import NamedTuple

from absl import logging
import numpy as np

from jswarm.core.types import PyTree, Reply, Request
from jswarm.systems import prompts, waves
from jswarm.systems.answerer import Answerer
from jswarm.systems.memo import Memo
from jswarm.systems.system_memo import SystemMemo
from jswarm.systems.weights import Weights
from jswarm.tasks.base import Example, Task, UtilityError

MOST_FAILURES = 5  # in a row; then the utility itself is broken


class Evaluation(NamedTuple):
  """One system on one split.

  Attributes:
    utility: mean of the scores that are not missing; NaN if none or failed.
    scores: float64 [X]; NaN is missing.
    replies: [X] the system's final replies; None where it was not asked.
    error: empty, or why the evaluation failed.
    unasked: examples at the end that were never asked; see `racing`.
  """

  utility: float
  scores: np.ndarray
  replies: list[str | None]
  error: str = ""
  unasked: int = 0


NOTHING = Evaluation(float("nan"), np.zeros(0), [])  # of no example yet


class Unheard(NamedTuple):
  """In place of a judge's reply: it could not be had, and is missing."""

  why: str


RateFn = Callable[[Sequence[Request]], Sequence[Reply | Unheard]]
"""A judge: requests, which name expert 0, -> replies in order."""


class UtilityBroken(RuntimeError):
  """The utility failed so often in a row that a search makes no sense."""


@dataclasses.dataclass
class Evaluator:
  """Runs systems on examples of a task and scores what they say.

  Attributes:
    memo: the pool, which is asked each identical call once.
    judge: `requests -> replies` of who rates replies, for tasks of that kind; its
      requests name expert 0. See `Memo.as_loaded` for an expert of the pool.
    cache: what the same systems said before on the same weights, or None.
    failed: evaluations that failed so far; in_a_row: since the last good one.
  """

  task: Task
  memo: Memo
  wording: prompts.Wording
  judge: RateFn | None = None
  cache: SystemMemo | None = None
  failed: int = 0
  in_a_row: int = 0
  first_error: str = ""

  def named(self, trees: tuple[PyTree, ...]) -> Weights:
    """Weights as systems carry them."""
    return self.memo.named(trees)

  def evaluate(
    self, systems: Sequence[Answerer], examples: Sequence[Example]
  ) -> list[Evaluation]:
    """An `Evaluation` a system, in order; all run together, each on its own weights.

    Raises:
      UtilityBroken: five evaluations in a row failed; carries the first traceback.
    """
    return self._evaluate(systems, [examples] * len(systems))

  def evaluate_each(
    self, systems: Sequence[Answerer], splits: Sequence[Sequence[Example]]
  ) -> list[Evaluation]:
    """The same, system j on examples of its own, `splits[j]`."""
    return self._evaluate(systems, splits)

  def proceed(
    self,
    systems: Sequence[Answerer],
    examples: Sequence[Example],
    begun: Sequence[Evaluation],
    reach: Sequence[int],
  ) -> list[Evaluation]:
    """The same evaluations, continued: system j is scored on `examples[:reach[j]]`.

    Only for scores that are given example by example. `begun` holds what is known
    of the first examples (`NOTHING` if that is nothing); what reached that far is
    given back as it is. One that fails has failed for all examples.
    """
    todo = [j for j, e in enumerate(begun) if len(e.scores) < reach[j]]
    parts = self._evaluate(
      [systems[j] for j in todo],
      [examples[len(begun[j].scores) : reach[j]] for j in todo],
    )
    done = list(begun)
    for j, part in zip(todo, parts):
      done[j] = _joined(begun[j], part, len(examples))
    return done

  @property
  def terms(self) -> prompts.Terms:
    """What all answers to questions of the task have in common."""
    task = self.task
    return prompts.Terms(self.memo.experts, self.wording, task.limit, task.chat)

  def questions(self, examples: Sequence[Example]) -> list[prompts.Question]:
    """What systems are asked."""
    return self._questions(examples, map(self.task.prompt, examples))

  def check_room(self, problems: list[str] | None = None) -> None:
    """Raises ValueError if a question of the task cannot fit an expert's context; with
    `problems` it takes the messages for all of them."""
    examples = [*self.task.dev, *self.task.held, *self.task.test]
    questions = self._questions(examples, map(self.task.prompt, examples))
    limit = self.task.limit
    prompts.check_room(questions, self.memo.experts, self.wording, limit, problems)

  def _evaluate(self, systems, splits):
    """An `Evaluation` a system, each on examples of its own."""
    task = self.task
    answers = self._run(systems, self._asked(splits), task.limit)
    if task.followup:
      checks = self._follow(systems, splits, answers)
      scored = [
        self._score(task.followup.score, split, a, c)
        for split, a, c in zip(splits, answers, checks)
      ]
    elif task.judge:
      scored = self._judged(splits, answers)
    else:
      scored = [self._score(task.score, split, a) for split, a in zip(splits, answers)]
    return [
      Evaluation(mean(scores), scores, replies, error)
      for (scores, error), replies in zip(scored, answers)
    ]

  def _asked(self, splits):
    """Questions of all splits; an example that is in several is put in words once."""
    examples = list({id(e): e for split in splits for e in split}.values())
    made = self._questions(examples, map(self.task.prompt, examples))
    question = {id(e): q for e, q in zip(examples, made)}
    return [[question[id(e)] for e in split] for split in splits]

  def _questions(self, examples, texts):
    return [
      prompts.Question(p, e.chunks if self.task.needs_context else None, e.where)
      for e, p in zip(examples, texts)
    ]

  def _run(self, systems, questions, limit):
    """Replies [len(systems)][X]."""
    terms = prompts.Terms(self.memo.experts, self.wording, limit, self.task.chat)
    items = waves.grid(systems, questions)
    if self.cache:
      replies = iter(self.cache.run(items, terms))
    else:
      replies = (a.reply for a in waves.run(items, terms, self.memo.ask))
    return [list(itertools.islice(replies, len(mine))) for mine in questions]

  def _follow(self, systems, splits, answers):
    """The same systems, each as it is, asked about their own answers."""
    follow = self.task.followup
    asked = [
      self._questions(split, map(follow.prompt, split, said))
      for split, said in zip(splits, answers)
    ]
    return self._run(systems, asked, follow.limit)

  def _judged(self, splits, answers):
    judge = self.task.judge
    requests = [
      Request(0, judge.prompt(e, a), judge.limit, True)
      for split, said in zip(splits, answers)
      for e, a in zip(split, said)
    ]
    replies = iter(self.judge(requests))
    return [
      self._verdicts(list(itertools.islice(replies, len(said)))) for said in answers
    ]

  def _verdicts(self, replies):
    """(ratings, error) of one system."""
    heard = [reply for reply in replies if not isinstance(reply, Unheard)]
    if replies and not heard:  # not one that could not be read: none came
      return self._failed(len(replies), f"the judge said nothing: {replies[0].why}")
    self.in_a_row = 0
    rate = lambda reply: (
      np.nan if isinstance(reply, Unheard) else self.task.judge.parse(reply.text)
    )
    ratings = np.array([rate(reply) for reply in replies], float)
    unread = int(np.isnan(ratings).sum()) - (len(replies) - len(heard))
    if unread:
      logging.info("%d of %d verdicts name no rating.", unread, len(replies))
    return ratings, "" if np.isfinite(ratings).any() else "no verdict could be read"

  def _score(self, score, examples, *replies):
    """(scores, error) of one job; a failure is marked, counted and survived."""
    try:
      scores = np.asarray(score(examples, *replies), float)
    except UtilityError as error:
      return self._failed(len(examples), str(error), error)
    self.in_a_row = 0
    return scores, ""

  def _failed(self, size, why, error=None):
    """(missing scores, why); raises where too many have failed in a row."""
    self.failed += 1
    self.in_a_row += 1
    if self.in_a_row == 1:
      self.first_error = "".join(traceback.format_exception(error)) if error else why
    logging.warning("Evaluation failed (%d in a row): %s", self.in_a_row, why)
    if self.in_a_row >= MOST_FAILURES:
      raise UtilityBroken(
        f"the utility failed {self.in_a_row} times in a row; the first failure:\n"
        f"{self.first_error}"
      ) from error
    return np.full(size, np.nan), why


def mean(scores: np.ndarray) -> float:
  """Mean of the scores that are not missing. For scores of one length it never falls
  when a score rises: each rounding of a sum of a fixed order is monotone."""
  known = scores[~np.isnan(scores)]
  return float(known.mean()) if len(known) else float("nan")


def _joined(begun, part, size):
  """One evaluation of both parts, `size` examples long if it failed."""
  replies = [*begun.replies, *part.replies]
  if part.error:
    lacking = size - len(replies)
    return Evaluation(
      float("nan"),
      np.full(size, np.nan),
      replies + [None] * lacking,
      part.error,
      lacking,
    )
  scores = np.concatenate([begun.scores, part.scores])
  return Evaluation(mean(scores), scores, replies)
