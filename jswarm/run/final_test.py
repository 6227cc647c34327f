"""The final test: the best system and what it has to beat, on unseen examples.

Kept after each contender: a run that is killed here goes on with the next one.
"""

from collections.abc import Callable
import functools
from typing import Any

from absl import logging
import numpy as np

from jswarm.distributed import processes
from jswarm.graphs import decode
from jswarm.run import chance
from jswarm.run.session import Session
from jswarm.swarm import problem as problem_lib
from jswarm.systems import artifact, traces
from jswarm.systems import system as system_lib
from jswarm.systems.answerer import Answerer
from jswarm.systems.answerers import MajorityVote
from jswarm.systems.evaluate import Evaluation, mean


def run(session: Session) -> dict[str, Evaluation]:
  """{name: evaluation on test} of every contender; no budget cuts it short."""
  processes.phase("the final test")
  plan, files = session.plan, session.files
  plan.meter.armed = False
  iteration = int(session.reached.iteration)
  kept = processes.exchange("the tests so far", files and files.read_tests(iteration))[
    0
  ]
  rows = {}
  if kept:
    session.take_up(kept)
    rows = kept["tested"]
  chosen = contenders(session)
  for name, choose in chosen.items():
    if name in rows:
      continue
    before = dict(plan.meter.spent)
    job = choose()
    for field, spent in plan.meter.spent.items():
      session.on_dev[field] = session.on_dev.get(field, 0) + spent - before[field]
    logging.info("Testing %s on %d questions.", name, len(plan.task.test))
    done = session.evaluator.evaluate([job], plan.task.test)[0]
    rows[name] = [done.scores.tolist(), done.replies, done.error]
    if files:
      files.keep_tests({"iteration": iteration, "tested": rows, **session.spending()})
  return {name: _evaluation(*rows[name]) for name in chosen}


def held_out(session: Session) -> Evaluation | None:
  """The best system on the part of dev that chose nothing; None where there is none.

  Asked after the tests, whose count of calls is kept: a run that is killed here asks
  again, and its ledger answers.
  """
  plan, best = session.plan, session.reached.best
  if not plan.task.held:
    return None
  job = artifact.job_of(best, session.memo.named(best.weights))
  return session.evaluator.evaluate([job], plan.task.held)[0]


def traces_of(session: Session) -> list[dict[str, Any]]:
  """What each node of the best system said on test, for who writes files; see
  `systems.traces`. All of it was asked: it is read from the memo."""
  best = session.reached.best
  # All processes: weights that are spread over them get their names together.
  job = artifact.job_of(best, session.memo.named(best.weights))
  if not processes.is_writer():
    return []
  return traces.rows(session.evaluator, job, session.plan.task.test)


def contenders(session: Session) -> dict[str, Callable[[], Answerer]]:
  """Who is tested, by name, chosen when its turn comes; all but the first stand on
  weights as they came."""
  plan, state = session.plan, session.reached
  names, first = plan.experts.names, session.memo.first
  best = session.memo.named(state.best.weights)
  chosen: dict[str, Callable[[], Answerer]] = {
    "system": lambda: artifact.job_of(state.best, best),
    "initial": lambda: artifact.job_of(state.initial, first),
    "best_single": lambda: system_lib.single(names.index(session.best_single()), first),
  }
  if plan.baselines:
    size, key = len(names), problem_lib.root_key(np.int64(plan.seed))
    for name in ("star", "chain", "random"):
      dag = decode.TOPOLOGIES[name](size, key)
      chosen[name] = functools.partial(system_lib.make_job, dag, weights=first)
    chosen["majority_vote"] = lambda: MajorityVote(session.by_dev(), weights=first)
    chosen["random_search"] = lambda: chance.best_of_random(session)
  return chosen


def _evaluation(scores, replies, error):
  scores = np.array(scores, float)  # None becomes NaN
  utility = float("nan") if error else mean(scores)
  return Evaluation(utility, scores, replies, error)
