"""One weight-step: weights move, experts are credited, the best system is kept.

  State -> weight_moves.move -> guard -> credit (jfk | replace) -> State

Credit by `jfk`, the paper's: M random assignments of experts to the nodes of a graph;
an expert's utility is the mean of those that it takes part in, by how often. Credit by
`replace`: the best system, with one expert at a time on its new weights; exact where
the others stay, and with one scored system an expert.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import quick
from jswarm.swarm import contribution, guard, pso, weight_moves
from jswarm.swarm import problem as problem_lib
from jswarm.swarm.problem import Info, Problem
from jswarm.swarm.role_step import positions
from jswarm.swarm.state import Settings, State, keep
from jswarm.systems import system as system_lib
from jswarm.systems.system import Graph
from jswarm.systems.weights import Mixed, Weights

_tell = quick.jit(pso.tell)
_rescored = quick.jit(pso.rescore)


class Credit(NamedTuple):
  """What the weight-step learnt of one set of weights on one graph.

  Attributes:
    jfk: float32 [E] on the host, NaN for an expert that nobody held.
    utility: float32 [A] of the assignments, NaN where not scored.
    identity: utility with expert i on node i; NaN if it was not asked for.
    info: for the log.
  """

  jfk: np.ndarray
  utility: np.ndarray
  identity: float
  info: Info


def weight_step(
  key: jax.Array,
  state: State,
  latest: Graph,
  problem: Problem,
  settings: Settings,
) -> tuple[State, Info]:
  """Moves the experts' weights and credits each. Returns (state, info).

  `latest` is the best graph of this iteration's role-step.
  """
  step = _step_by_replacing if settings.credit == "replace" else _step_by_jfk
  return step(key, state, latest, problem, settings)


def _step_by_jfk(key, state, latest, problem, settings):
  t = int(state.iteration) + 1
  move_key, assign_key, drop_key = problem_lib.split(key, 3)
  # 1. The graph on which weights are compared, and what the bests are worth on it.
  reference = state.swarm_best if settings.mode == "fixed" else latest
  state, rescored = _refer(assign_key, state, reference, problem, settings)
  # 2. Move the weights; what a move has broken is rolled back.
  state, repaired = _move_weights(move_key, state, settings)
  trees = positions(state)
  # 3. Credit every expert, and score the system that they make together.
  scored = problem_lib.scored(drop_key, settings.assignments, settings.weight)
  identity = settings.mode == "fixed" and bool(scored.any())
  weights = problem.evaluator.named(trees)
  credit = score_weights(
    problem, reference, state.assignments, weights, scored, identity
  )
  # 4. Tell each group's swarm.
  state = _told(state, credit.jfk, problem)
  # 5. Keep the best system so far.
  candidates = []
  if identity:
    candidates.append((credit.identity, np.arange(len(credit.jfk), dtype=np.int32)))
  if settings.keep_assignments:
    candidates += zip(credit.utility, np.asarray(state.assignments))
  for value, assignment in candidates:
    state = keep(state, value, reference, assignment, trees, t, 1)
  credit.info.metrics.update(repaired=repaired, rescored=len(rescored))
  return state, credit.info._replace(evaluations=credit.info.evaluations + rescored)


def _step_by_replacing(key, state, latest, problem, settings):
  del latest  # the graph is that of the best system
  t = int(state.iteration) + 1
  move_key, drop_key = problem_lib.split(key, 2)
  num = len(problem.experts.names)
  # 1. An own best is what the best system uses: utilities are comparable by that alone.
  state = state.replace(weight=_rebased(state))
  # 2. Move the weights; what a move has broken is rolled back.
  state, repaired = _move_weights(move_key, state, settings)
  best = problem.evaluator.named(state.best.weights)
  moved = problem.evaluator.named(positions(state))
  # 3. The best system with one expert on its new weights, for each that it asks.
  graph, assignment = state.best.graph, np.asarray(state.best.assignment)
  groups = problem.experts.groups
  asked = set(system_lib.make_job(graph.dag, assignment.tolist()).members())
  asked &= set(itertools.chain.from_iterable(groups))
  scored = problem_lib.scored(drop_key, num, settings.weight)
  chosen = [e for e in sorted(asked) if scored[e]]
  make = lambda taken: system_lib.make_job(
    graph.dag, assignment.tolist(), Mixed(best, moved, taken, groups)
  )
  one = [make(np.arange(num) == e) for e in chosen]
  values, evaluations = problem_lib.score(problem, {"replaced": one})
  utility = np.full(num, np.nan, np.float32)
  utility[chosen] = values["replaced"]
  # 4. All that were better, together; each alone may be the best system too.
  candidates = list(zip(values["replaced"], one))
  gained = utility > float(state.weight[0].best_utility[0])
  if gained.sum() > 1:
    together = make(gained)
    value, more = problem_lib.score(problem, {"together": [together]})
    candidates += zip(value["together"], [together])
    evaluations = [*evaluations, *more]
  # 5. Tell each group's swarm, keep the best system.
  state = _told(state, utility, problem)
  for value, job in candidates:
    if job.weights and not value <= float(state.best.utility):
      state = keep(state, value, graph, assignment, job.weights.trees, t, 1)
  info = problem_lib.info(
    "weight",
    utility,
    "replaced",
    evaluations,
    jfk=utility.tolist(),
    gained=int(gained.sum()),
    repaired=repaired,
  )
  return state, info


def _rebased(state):
  """The weight swarms, each own best what the best system uses of that expert."""
  value = float(state.best.utility)
  if not np.isfinite(value):  # no system has been scored yet
    value = -np.inf
  return tuple(
    swarm.replace(
      best_position=best,
      best_utility=jnp.full_like(swarm.best_utility, value),
    )
    for swarm, best in zip(state.weight, state.best.weights)
  )


def _told(state, utility, problem):
  """The state whose weight swarms know the experts' utilities [E]."""
  parts = [utility[list(members)] for members in problem.experts.groups]
  return state.replace(
    weight=tuple(
      _tell(swarm, part, np.isfinite(part)) for swarm, part in zip(state.weight, parts)
    )
  )


def _refer(key, state, reference, problem, settings):
  """(state, evaluations): from now on weights are scored on this graph.

  `fixed` keeps graph and assignments while the best graph is the same, so that
  utilities can be compared, and measures the personal bests anew when it changes:
  utilities of another graph say nothing on this one.
  """
  published = settings.mode != "fixed"
  if not published and np.array_equal(reference.dag.edges, state.reference.dag.edges):
    return state, []
  num = len(problem.experts.names)
  state = state.replace(
    reference=reference,
    assignments=contribution.draw_assignments(key, settings.assignments, num, num),
  )
  return (state, []) if published else _rescore(state, problem)


def _move_weights(key, state, settings):
  """(state, number of experts that a move had broken and that were rolled back)."""
  swarms, repaired = [], 0
  for g, swarm in enumerate(state.weight):
    start = state.initial.weights[g]
    moved = weight_moves.move(
      problem_lib.fold(key, g),
      swarm,
      start,
      settings.weight,
      _due(state, swarm, settings),
    )
    swarm, count = guard.roll_back(moved, start)
    swarms.append(swarm)
    repaired += int(count)
  return state.replace(weight=tuple(swarms)), repaired


def _due(state, swarm, settings):
  """Who restarts. In the public code all experts, when the last graph is due: a typo
  makes the weight-step read the index that the role-step's loop has left behind."""
  if settings.mode != "as_published" or settings.steps == "weight":
    return None
  last = pso.restart_due(state.role, settings.role)[-1]
  return jnp.full(swarm.best_utility.shape, last & settings.weight.restart)


def _rescore(state, problem):
  """Measures the personal bests, as one pool, on the new reference graph."""
  bests = problem.evaluator.named(tuple(s.best_position for s in state.weight))
  credit = score_weights(problem, state.reference, state.assignments, bests)
  swarms = tuple(
    _rescored(swarm, credit.jfk[list(members)])
    for swarm, members in zip(state.weight, problem.experts.groups)
  )
  renamed = [(f"best_{name}", e) for name, e in credit.info.evaluations]
  return state.replace(weight=swarms), renamed


def score_weights(
  problem: Problem,
  graph: Graph,
  assignments: jax.Array,
  weights: Weights,
  scored: np.ndarray | None = None,
  identity: bool = False,
) -> Credit:
  """Scores weights on a graph, with experts on its nodes as `assignments` [A, N] says.

  Args:
    scored: bool [A], which assignments; None: all.
    identity: also with expert i on node i.
  """
  chosen = np.ones(len(assignments), bool) if scored is None else scored
  held = [z for z, s in zip(np.asarray(assignments), chosen) if s]
  asked = {
    "assignments": [system_lib.make_job(graph.dag, z, weights) for z in held],
    "identity": [system_lib.make_job(graph.dag, weights=weights)] if identity else [],
  }
  values, evaluations = problem_lib.score(problem, asked)
  utility = np.full(len(assignments), np.nan, np.float32)
  utility[chosen] = values["assignments"]
  num = len(problem.experts.names)
  jfk, noise = jax.device_get(contribution.credit(assignments, utility, num))
  info = problem_lib.info(
    "weight",
    np.append(utility, values["identity"]),
    "assignment",
    evaluations,
    jfk=jfk.tolist(),
    jfk_noise=float(noise),
  )
  return Credit(jfk, utility, next(iter(values["identity"]), np.nan), info)
