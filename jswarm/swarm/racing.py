"""Scores the graphs of a role-step by chunks and drops those that cannot matter.

    swarm (jobs, Bars) -> race -> utility (a chunk) -> may_drop -> utility ...

Lossless: a graph is dropped when, whatever its remaining examples score, nothing but
its own number would be another. `pso.tell` and the search look at a utility only to
ask whether it beats the particle's own best, whether it is below the swarm's worst,
and which is the step's best; the swarm's best and the best system can only be beaten
by the last one, which is always scored to its end.

All comparisons are of float32 means as an `Evaluator` computes them: the bounds of a
mean are means too, of the known scores and the least (greatest) one for each of the
others. Rounding is monotone, so no completion can be outside, by not even a bit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging
import numpy as np

from jswarm.swarm import pso
from jswarm.swarm.state import Settings
from jswarm.systems import system
from jswarm.systems.evaluate import NOTHING, Evaluation, Evaluator, mean
from jswarm.tasks.base import Example, Task


class Bars(NamedTuple):
  """What a utility is compared with.

  Attributes:
    chunk: examples a round.
    own: float32 [J], the best of each particle; -inf if it has none, or if the
      job's own number is needed: such a job is never dropped.
    worst: float32 [], of the swarm; +inf if there is none.
    graphs: the first so many jobs compete for the step's best; jobs behind them are
      scored in full, and first.
    turns: how often a node is asked about one example: 2 with a self-check.
  """

  chunk: int
  own: np.ndarray
  worst: np.ndarray
  graphs: int
  turns: int = 1


def bars(
  task: Task, role: pso.State, scored: np.ndarray, jobs: int, settings: Settings
) -> Bars | None:
  """For `jobs` jobs, the first of them the graphs of the particles that are `scored`
  (bool [G]). None: `search.race` is 0, or the task's scores do not allow it."""
  if settings.race and task.bounds is None:
    logging.log_first_n(
      logging.WARNING,
      "search.race has no effect: scores of the kind %r are not"
      " known to be given example by example and within bounds.",
      1,
      task.kind,
    )
  if not settings.race or task.bounds is None:
    return None
  own = np.full(jobs, -np.inf, np.float32)
  graphs = int(scored.sum())
  bests = np.asarray(role.best_utility)
  if settings.role.method == "evolution":
    # A child matters if it may be among the best G of all: even where it only equals
    # the least of the parents, it would take that one's place.
    bests = np.full_like(bests, np.nextafter(bests.min(), np.float32(-np.inf)))
  own[:graphs] = bests[scored]
  return Bars(
    settings.race,
    own,
    np.asarray(role.swarm_worst_utility),
    graphs,
    2 if task.followup else 1,
  )


def race(
  evaluator: Evaluator,
  jobs: Sequence[system.Job],
  examples: Sequence[Example],
  limits: Bars,
) -> list[Evaluation]:
  """An `Evaluation` a job, in order; one that was dropped has `unasked` examples.

  Its utility is the least that it can still have: what it scores if it gets nothing
  right of what it was not asked.
  """
  bounds = evaluator.task.bounds
  if bounds is None:
    raise ValueError("race: the task's scores have no bounds; see `bars`.")
  size, done = len(examples), [NOTHING] * len(jobs)
  reach = np.full(len(jobs), min(limits.chunk, size))
  reach[limits.graphs :] = size
  while True:
    done = evaluator.proceed(jobs, examples, done, reach.tolist())
    low, high = intervals([e.scores for e in done], size, bounds)
    seen = np.array([len(e.scores) for e in done])
    reach = next_reach(seen, size, low, high, limits)
    if (reach == seen).all():
      return [_closed(e, size, bounds[0]) for e in done]


def intervals(
  scores: Sequence[np.ndarray], size: int, bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
  """float32 [J], [J]: the least and the greatest utility that each can still have.

  `scores` holds the known ones, of the first examples of `size`. Where one of them
  is missing, nothing is known: -inf and inf.
  """
  low, high = (
    np.array(
      [mean(np.concatenate([s, np.full(size - len(s), bound)])) for s in scores],
      np.float32,
    )
    for bound in bounds
  )
  missing = np.array([np.isnan(s).any() for s in scores], bool)
  return np.where(missing, np.float32(-np.inf), low), np.where(
    missing, np.float32(np.inf), high
  )


def is_beaten(low: np.ndarray, high: np.ndarray) -> np.ndarray:
  """bool [J]: cannot be the step's best; of equal ones the first is."""
  order = np.arange(len(low))
  beats = (low[:, None] > high) | ((low[:, None] == high) & (order[:, None] < order))
  return beats.any(axis=0)


def is_idle(low: np.ndarray, high: np.ndarray, limits: Bars) -> np.ndarray:
  """bool [J]: can neither beat its particle's best nor be a new worst."""
  # A failed evaluation could undo what the others were compared with.
  certain = np.isfinite(low).all()
  return certain & (high <= limits.own) & (low >= limits.worst)


def next_reach(
  seen: np.ndarray, size: int, low: np.ndarray, high: np.ndarray, limits: Bars
) -> np.ndarray:
  """int [J]: how far each job is to be scored next; `seen` if it may be dropped.

  Jobs that may matter in themselves go on by a chunk. When all others wait only to
  know the step's best, the one that can still be the greatest goes to its end.
  """
  idle = is_idle(low, high, limits)
  beaten = np.zeros(len(seen), bool)
  rivals = slice(limits.graphs)
  beaten[rivals] = is_beaten(low[rivals], high[rivals])
  active, waiting = (seen < size) & ~idle, (seen < size) & idle & ~beaten
  if waiting.any() and not active.any():
    favourite = np.argmax(np.where(waiting, high, -np.inf))
    return np.where(np.arange(len(seen)) == favourite, size, seen)
  return np.where(active, np.minimum(seen + limits.chunk, size), seen)


def measured(utility: np.ndarray, evaluations: Sequence[Evaluation]) -> np.ndarray:
  """float32 [J]: NaN for those that were dropped."""
  return np.where([e.unasked > 0 for e in evaluations], np.float32(np.nan), utility)


def summary(
  limits: Bars | None, jobs: Sequence[system.Job], evaluations: Sequence[Evaluation]
) -> dict[str, Any]:
  """For the log: graphs dropped, and node executions that were not asked for."""
  if limits is None:
    return {}
  saved = [int((job.depth >= 0).sum()) * e.unasked for job, e in zip(jobs, evaluations)]
  return {"raced": sum(n > 0 for n in saved), "calls_saved": sum(saved) * limits.turns}


def _closed(evaluation, size, least):
  """What was dropped, as long as the others: the rest is missing."""
  lacking = size - len(evaluation.scores)
  if not lacking:
    return evaluation
  rest = lambda score: np.append(evaluation.scores, np.full(lacking, score))
  return Evaluation(
    mean(rest(least)),
    rest(np.nan),
    evaluation.replies + [None] * lacking,
    unasked=lacking,
  )
