"""What both steps of an iteration share: the problem, its scoring, and the log."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jswarm.core import quick
from jswarm.core.types import Experts
from jswarm.swarm import motion, racing
from jswarm.systems import system as system_lib
from jswarm.systems.evaluate import Evaluation, Evaluator
from jswarm.systems.system import Graph, Job
from jswarm.systems.weights import Weights

_MOST_KEYS = 5  # that are split from one key


class Info(NamedTuple):
  """What a step did: numbers for the log, and every evaluation behind them."""

  step: str
  metrics: dict[str, Any]
  evaluations: list[tuple[str, Evaluation]]


class Problem(NamedTuple):
  """What is searched: the pool and the examples that score a system."""

  experts: Experts
  evaluator: Evaluator
  examples: Sequence[Any]


# Outside of jit the smallest operation is a program of its own, compiled at first: keys
# are made by jitted functions, and numbers of the host are placed, not computed.
root_key = quick.jit(jax.random.key)
fold = quick.jit(jax.random.fold_in)


def split(key, count):
  """`count` keys. Key i is the same whatever the count: one program makes all."""
  return _split(key)[:count]


@quick.jit
def _split(key):
  return tuple(jax.random.split(key, _MOST_KEYS))


def place(value):
  """A host value as a leaf of the state; unlike `jnp.int32(...)`, no program."""
  return jax.device_put(value)


def score(
  problem: Problem,
  asked: Mapping[str, Sequence[Job]],
  bars: racing.Bars | None = None,
) -> tuple[dict[str, np.ndarray], list[Evaluation]]:
  """Scores systems of several purposes together.

  Args:
    asked: the systems by what they are asked for.
    bars: graphs may be dropped, see `racing`.

  Returns:
    (utilities by purpose float32, all evaluations in order).
  """
  jobs = [job for mine in asked.values() for job in mine]
  evaluations = []
  if jobs and bars:
    evaluations = racing.race(problem.evaluator, jobs, problem.examples, bars)
  elif jobs:
    evaluations = problem.evaluator.evaluate(jobs, problem.examples)
  values, first = {}, 0
  for purpose, mine in asked.items():
    part = evaluations[first : first + len(mine)]
    values[purpose] = np.array([e.utility for e in part], np.float32)
    first += len(mine)
  return values, evaluations


def jobs_of(graphs: Graph, weights: Weights) -> list[Job]:
  """A job for each of the batched graphs, expert i on node i."""
  dags = jax.tree.map(np.asarray, graphs.dag)
  return [
    system_lib.make_job(pick(dags, g), weights=weights) for g in range(len(dags.end))
  ]


def variety(jobs: Sequence[Job]) -> dict[str, Any]:
  """For the log: "dags", digests of what each executes; "distinct", their number."""
  names = [job.digest for job in jobs]
  return {"dags": names, "distinct": len(set(names))}


def pick(tree, index):
  """Leaves [...] of one of the batched ones."""
  return jax.tree.map(lambda leaf: leaf[index], tree)


def pick_one(graphs: Graph, index: int) -> Graph:
  """Graph `index` of the batched ones, placed on the device again."""
  return jax.device_put(pick(jax.tree.map(np.asarray, graphs), index))


def scored(key: jax.Array, size: int, settings: motion.Settings) -> np.ndarray:
  """bool [size] on the host: what to score; without dropout nothing is drawn."""
  if not settings.dropout_k and not settings.dropout_n:
    return np.ones(size, bool)
  return np.asarray(motion.draw_scored(key, size, settings))


def argmax(utility: np.ndarray) -> int:
  """Index of the largest that is not missing; 0 if all are."""
  return int(np.argmax(np.where(np.isnan(utility), -np.inf, utility)))


def info(
  step: str,
  utility: np.ndarray,
  what: str,
  evaluations: Sequence[Evaluation],
  **metrics: Any,
) -> Info:
  """The log of a step: mean, max and min of what is known, failures, and `metrics`."""
  known = np.asarray(utility)[~np.isnan(utility)]
  summary = {}
  if len(known):
    summary = {
      "mean": float(known.mean()),
      "max": float(known.max()),
      "min": float(known.min()),
    }
  failed = sum(bool(e.error) for e in evaluations)
  return Info(
    step,
    {"failed": failed, **summary, **metrics},
    [(f"{what}_{i}", e) for i, e in enumerate(evaluations)],
  )
