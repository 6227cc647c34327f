"""One role-step: graphs are proposed, scored and remembered.

State -> proposals.propose -> graphs [G] -> score -> proposals.learn -> State
"""

from typing import Any

import jax
import numpy as np

from jswarm.core.types import PyTree
from jswarm.swarm import problem as problem_lib
from jswarm.swarm import proposals, pso, racing
from jswarm.swarm.problem import Info, Problem, place
from jswarm.swarm.state import Settings, State, keep
from jswarm.systems import system as system_lib
from jswarm.systems.system import Graph, Job

_NOISE = 2**31 - 1  # folded into the seed's key for noise that belongs to particles


def role_step(
  root: jax.Array,
  key: jax.Array,
  state: State,
  problem: Problem,
  settings: Settings,
) -> tuple[State, Graph, Info]:
  """Proposes and scores the G graphs. Returns (state, best graph of the step, info).

  Args:
    root: key of the search. key: of this step.
  """
  t = int(state.iteration) + 1
  move_key, decode_key, drop_key = problem_lib.split(key, 3)
  weights = problem.evaluator.named(role_weights(state, settings))
  # 1. New graphs, by whatever method.
  before = proposals.Swarm(state.role, state.bests)
  if settings.graph.noise == "particle":
    decode_key = problem_lib.fold(root, _NOISE)
  role, graphs = proposals.propose(
    move_key, decode_key, before, settings.graph, settings.role
  )
  scored = problem_lib.scored(drop_key, settings.graphs, settings.role)
  # 2. Score them, and beside them the swarm's best: since the weights have moved, what
  #    is it worth today?
  jobs = [job for job, s in zip(problem_lib.jobs_of(graphs, weights), scored) if s]
  earlier = []
  if settings.mode == "fixed" and jobs:
    earlier = [system_lib.make_job(state.swarm_best.dag, weights=weights)]
  asked = {"graphs": jobs, "earlier": earlier}
  bars = racing.bars(
    problem.evaluator.task, role, scored, len(jobs) + len(earlier), settings
  )
  values, evaluations = problem_lib.score(problem, asked, bars)
  old, old_value = state.swarm_best, next(iter(values["earlier"]), np.nan)
  if np.isfinite(old_value):
    today = proposals.worth(np.asarray(old_value, np.float32), old, settings.l1)
    role = role.replace(swarm_best_utility=place(np.float32(today)))
  # 3. Tell the swarm; a graph that beats its best is its best from now on.
  utility = np.full(settings.graphs, np.nan, np.float32)
  utility[scored] = values["graphs"]
  worth = proposals.worth(utility, graphs, settings.l1)
  top = problem_lib.argmax(worth)
  latest = problem_lib.pick_one(graphs, top) if np.isfinite(worth[top]) else old
  better = worth[top] > float(role.swarm_best_utility)
  learnt = proposals.learn(
    proposals.Swarm(role, state.bests),
    graphs,
    worth,
    scored,
    settings.imprint,
    settings.role.method,
  )
  state = state.replace(
    role=learnt.role, bests=learnt.bests, swarm_best=latest if better else old
  )
  # 4. Keep the best system so far.
  identity = np.arange(len(problem.experts.names), dtype=np.int32)
  for value, graph in ((utility[top], latest), (old_value, old)):
    state = keep(state, value, graph, identity, weights.trees, t, 0)
  info = problem_lib.info(
    "role",
    racing.measured(values["graphs"], evaluations[: len(jobs)]),
    "graph",
    evaluations,
    best_now=float(role.swarm_best_utility),
    **inheritance(before.role, utility, jobs, raced=bars is not None),
    **racing.summary(bars, [*jobs, *earlier], evaluations),
  )
  return state, latest, info


def inheritance(
  before: pso.State, utility: np.ndarray, jobs: list[Job], raced: bool
) -> dict[str, Any]:
  """How much graphs take over from those that came before them, for the log.

  Args:
    before: the role swarm before the step. utility: float32 [G] of the new graphs.
    jobs: of the scored graphs. raced: utilities may be bounds, which say nothing.

  Returns:
    `problem.variety` of the jobs, and
    "heritability": correlation, over particles, of the utility of a graph with the
      one that its particle had before it; absent where fewer than three are known,
      or graphs were raced.
  """
  found = problem_lib.variety(jobs)
  parents = np.asarray(before.utility)
  known = np.isfinite(parents) & np.isfinite(utility)
  pairs = np.stack([parents[known], utility[known]])
  if not raced and known.sum() >= 3 and (pairs.std(axis=1) > 0).all():
    found["heritability"] = float(np.corrcoef(pairs)[0, 1])
  return found


def role_weights(state: State, settings: Settings) -> tuple[PyTree, ...]:
  """The weights on which the next role-step scores its graphs."""
  if settings.role_weights == "best" or not state.weight:
    return state.best.weights
  return positions(state)


def positions(state: State) -> tuple[PyTree, ...]:
  """Where the weight swarms are now; () without a weight-step."""
  return tuple(swarm.position for swarm in state.weight)
