"""What luck finds at the same price: as many random graphs as were scored systems.

history -> how many -> proposals.drawn -> score on dev -> the best one
"""

import numpy as np

from jswarm.run.session import Session
from jswarm.swarm import problem as problem_lib
from jswarm.swarm import proposals
from jswarm.systems.system import Job

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
  nodes, settings = len(plan.experts.names), plan.settings
  key = problem_lib.fold(problem_lib.root_key(np.int64(plan.seed)), _CHANCE)
  jobs: list[Job] = []
  # As many at a time as the search drew at first, whose programs draw these too.
  while len(jobs) < systems_scored(session):
    turn = problem_lib.fold(key, len(jobs))
    jobs += proposals.drawn(turn, settings.graphs, nodes, settings.graph, first)
  jobs = jobs[: systems_scored(session)]
  values, _ = problem_lib.score(session.problem, {"random": jobs})
  if session.files:
    session.files.random_graphs(values["random"].tolist())
  return jobs[problem_lib.argmax(values["random"])]
