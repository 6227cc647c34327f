"""What luck finds at the same price: as many random graphs as were scored systems.

history -> how many -> proposals.drawn -> score on dev -> the best one
"""

import jax
import numpy as np

from jswarm.run.session import Session
from jswarm.swarm import problem as problem_lib
from jswarm.swarm import proposals
from jswarm.systems.system import Job

_key = jax.jit(jax.random.key)  # else it is several small programs
_CHANCE = 2**31 - 2  # folded into the seed's key


def systems_scored(session: Session) -> int:
  """Systems whose utility on dev the search has asked for, over all iterations."""
  return sum(row["systems"] for row in session.history)


def best_of_random(session: Session) -> Job:
  """The best on dev of `systems_scored` random graphs, on weights as they came.

  Graphs are drawn and decoded as the search draws its first ones; expert i is on
  node i.
  """
  plan, first = session.plan, session.memo.first
  count, settings = systems_scored(session), plan.settings
  key = problem_lib.fold(_key(np.int64(plan.seed)), _CHANCE)
  jobs = proposals.drawn(key, count, len(plan.experts.names), settings.graph, first)
  values, _ = problem_lib.score(session.problem, {"random": jobs})
  return jobs[problem_lib.argmax(values["random"])]
