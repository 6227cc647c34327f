"""The final test: the best system and what it has to beat, on unseen examples.

Kept after each contender: a run that is killed here goes on with the next one.
"""

from absl import logging
import jax
import numpy as np

from jswarm.distributed import processes
from jswarm.graphs import decode
from jswarm.run.session import Session
from jswarm.systems import artifact
from jswarm.systems import system as system_lib
from jswarm.systems.evaluate import Evaluation, mean
from jswarm.systems.system import Job

_key = jax.jit(jax.random.key)  # else it is several small programs


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
  jobs = contenders(session)
  for name, job in jobs.items():
    if name in rows:
      continue
    logging.info("Testing %s on %d questions.", name, len(plan.task.test))
    done = session.evaluator.evaluate([job], plan.task.test)[0]
    rows[name] = [done.scores.tolist(), done.replies, done.error]
    if files:
      files.keep_tests({"iteration": iteration, "tested": rows, **session.spending()})
  return {name: _evaluation(*rows[name]) for name in jobs}


def contenders(session: Session) -> dict[str, Job]:
  """The systems that are tested, by name; all but the first on weights as they came."""
  plan, state = session.plan, session.reached
  names, first = plan.experts.names, session.memo.first
  best = session.memo.named(state.best.weights)
  jobs = {
    "system": artifact.job_of(state.best, best),
    "initial": artifact.job_of(state.initial, first),
    "best_single": system_lib.single(names.index(session.best_single()), first),
  }
  if plan.baselines:
    size, key = len(names), _key(np.int64(plan.seed))
    for name in ("star", "chain", "random"):
      dag = decode.TOPOLOGIES[name](size, key)
      jobs[name] = system_lib.make_job(dag, weights=first)
  return jobs


def _evaluation(scores, replies, error):
  scores = np.array(scores, float)  # None becomes NaN
  utility = float("nan") if error else mean(scores)
  return Evaluation(utility, scores, replies, error)
