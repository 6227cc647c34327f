"""The search: role-step and weight-step in turn (the paper's Algorithm 1 and 2).

    start -> State -> (role_step -> weight_step) -> State -> ...

A step returns `(state, info)` and logs nothing. Everything a bit-exact resume
needs is in `State`; keys are folded from (seed, iteration, step), never stored.

Two modes. `as_published` follows the public code: the weight-step runs on the best
graph of the iteration, assignments are redrawn every time and scores that were
measured on different graphs are compared. `fixed` compares only what is comparable:
the weight-step runs on the best graph found, its bests are scored anew whenever
that graph changes; the role-step runs on the weights of the best system found, and
its best graph is scored anew on them. (JFK-scores reward experts that do well
anywhere; graphs that are scored on weights in mid-flight forget who was good where.)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Experts, PyTree
from jswarm.graphs import decode
from jswarm.swarm import contribution, motion, pso, racing
from jswarm.swarm.state import Settings, State, keep, moves_weights
from jswarm.systems import system as system_lib
from jswarm.systems.evaluate import Evaluation, Evaluator
from jswarm.systems.system import Graph, System


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


_start = jax.jit(pso.start, static_argnums=3)
_ask = jax.jit(pso.ask, static_argnums=2)
_tell = jax.jit(pso.tell)
_rescored = jax.jit(pso.rescore)


def start(
  key: jax.Array, problem: Problem, settings: Settings
) -> tuple[State, list[Info]]:
  """Scores G random graphs and the experts as they are; iteration 0."""
  num = len(problem.experts.names)
  weights = problem.experts.weights
  graph_key, decode_key, role_key, assign_key, weight_key = jax.random.split(
    jax.random.fold_in(key, 0), 5
  )
  problem.experts.install(weights)
  adjacency = decode.init_adjacency(graph_key, settings.graphs, num)
  swarm = _decode(decode_key, adjacency, settings)
  utility, evaluations = _score(problem, _jobs(swarm))
  infos = [_info("role", utility, "graph", evaluations)]
  top = int(_argmax(utility))
  system = System(
    graph=_pick(swarm, top),
    assignment=jnp.arange(num, dtype=jnp.int32),
    weights=weights,
    utility=jnp.float32(utility[top]),
    iteration=jnp.int32(0),
    step=jnp.int32(0),
  )
  assignments = contribution.draw_assignments(
    assign_key, settings.assignments, num, num
  )
  swarms = ()
  if moves_weights(problem.experts, settings):
    jfk, info, _ = _score_weights(problem, system.graph, assignments)
    swarms = tuple(
      _start(
        jax.random.fold_in(weight_key, g),
        group,
        jfk[jnp.asarray(members)],
        settings.weight,
      )
      for g, (members, group) in enumerate(zip(problem.experts.groups, weights))
    )
    infos.append(info)
  state = State(
    iteration=jnp.int32(0),
    stalled=jnp.int32(0),
    role=_start(role_key, adjacency, jnp.asarray(utility), settings.role),
    weight=swarms,
    swarm_best=system.graph,
    reference=system.graph,
    assignments=assignments,
    best=system,
    initial=system,
  )
  return state, infos


def iterate(
  key: jax.Array, state: State, problem: Problem, settings: Settings
) -> tuple[State, list[Info]]:
  """One iteration: role-step, then weight-step, as `settings.steps` says."""
  t = int(state.iteration) + 1
  key = jax.random.fold_in(key, t)
  before = float(state.best.utility)
  infos = []
  problem.experts.install(role_weights(state, settings))
  latest = state.reference
  if settings.steps != "weight":
    state, latest, info = role_step(
      jax.random.fold_in(key, 0), state, problem, settings
    )
    infos.append(info)
  if moves_weights(problem.experts, settings):
    state, info = weight_step(
      jax.random.fold_in(key, 1), state, latest, problem, settings
    )
    infos.append(info)
  scored = any(info.evaluations for info in infos)
  improved = not float(state.best.utility) <= before  # also when it was missing
  improved &= bool(np.isfinite(state.best.utility))
  stalled = jnp.where(improved, 0, state.stalled + int(scored))
  return state.replace(iteration=jnp.int32(t), stalled=stalled.astype(jnp.int32)), infos


def exhausted(state: State, settings: Settings) -> bool:
  """Has the search stalled? `fixed` watches the best system, the public code the
  role swarm's best alone (its weight-step cannot keep a search alive)."""
  if settings.mode == "as_published" and settings.steps != "weight":
    return bool(pso.exhausted(state.role, settings.role))
  return int(state.stalled) >= settings.role.patience


def role_step(key, state: State, problem: Problem, settings: Settings):
  """Moves and scores the G graphs. Returns (state, best graph of the step, info)."""
  t = int(state.iteration) + 1
  move_key, decode_key, drop_key = jax.random.split(key, 3)
  role = _ask(move_key, state.role, settings.role)
  swarm = _decode(decode_key, role.position, settings)
  scored = np.asarray(motion.draw_scored(drop_key, settings.graphs, settings.role))
  jobs = [job for job, s in zip(_jobs(swarm), scored) if s]
  again = settings.mode == "fixed" and len(jobs) > 0
  if again:  # the weights have moved since: what is the best graph worth today?
    jobs.append(system_lib.make_job(state.swarm_best.dag))
  bars = racing.bars(problem.evaluator.task, role, scored, len(jobs), settings)
  values, evaluations = _score(problem, jobs, bars)
  old, old_value = state.swarm_best, values[-1] if again else np.nan
  if np.isfinite(old_value):
    role = role.replace(swarm_best_utility=jnp.float32(old_value))
  num = int(scored.sum())
  utility = np.full(settings.graphs, np.nan, np.float32)
  utility[scored] = values[:num]
  top = int(_argmax(utility))
  latest = _pick(swarm, top) if np.isfinite(utility[top]) else old
  better = utility[top] > float(role.swarm_best_utility)
  role = _tell(role, jnp.asarray(utility), jnp.asarray(scored))
  state = state.replace(role=role, swarm_best=latest if better else old)
  identity = jnp.arange(len(problem.experts.names), dtype=jnp.int32)
  weights = role_weights(state, settings)
  for value, graph in ((utility[top], latest), (old_value, old)):
    state = keep(state, value, graph, identity, weights, t, 0)
  return (
    state,
    latest,
    _info(
      "role",
      racing.measured(values, evaluations)[:num],
      "graph",
      evaluations,
      best_now=float(role.swarm_best_utility),
      **racing.summary(bars, jobs, evaluations),
    ),
  )


def weight_step(key, state: State, latest: Graph, problem: Problem, settings: Settings):
  """Moves the experts' weights and credits each by its JFK-score.

  `latest` is the best graph of this iteration's role-step. Returns (state, info).
  """
  t = int(state.iteration) + 1
  move_key, assign_key, drop_key = jax.random.split(key, 3)
  reference = state.swarm_best if settings.mode == "fixed" else latest
  state, rescored = _refer(assign_key, state, reference, problem, settings)
  state, repaired = _move_weights(move_key, state, settings)
  weights = _positions(state)
  problem.experts.install(weights)
  scored = np.asarray(
    motion.draw_scored(drop_key, settings.assignments, settings.weight)
  )
  identity = settings.mode == "fixed" and bool(scored.any())
  jfk, info, utility = _score_weights(
    problem, reference, state.assignments, scored, identity
  )
  state = state.replace(
    weight=tuple(
      _tell(swarm, jfk[jnp.asarray(members)], jnp.isfinite(jfk[jnp.asarray(members)]))
      for swarm, members in zip(state.weight, problem.experts.groups)
    )
  )
  candidates = (
    list(zip(utility, state.assignments)) if settings.keep_assignments else []
  )
  if identity:
    candidates.insert(0, (utility[-1], jnp.arange(len(jfk), dtype=jnp.int32)))
  for value, assignment in candidates:
    state = keep(state, value, reference, assignment, weights, t, 1)
  info.metrics.update(repaired=repaired, rescored=len(rescored))
  return state, info._replace(evaluations=info.evaluations + rescored)


def _refer(key, state, reference, problem, settings):
  """(state, evaluations): from now on weights are scored on this graph.

  `fixed` keeps graph and assignments while the best graph is the same, so that
  utilities can be compared, and measures the personal bests anew when it changes:
  utilities of another graph say nothing on this one.
  """
  published = settings.mode == "as_published"
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
    moved = _ask(
      jax.random.fold_in(key, g), swarm, settings.weight, _due(state, swarm, settings)
    )
    swarm, count = pso.repair(moved)
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
  bests = tuple(swarm.best_position for swarm in state.weight)
  problem.experts.install(bests)
  jfk, info, _ = _score_weights(problem, state.reference, state.assignments)
  swarms = tuple(
    _rescored(swarm, jfk[jnp.asarray(members)])
    for swarm, members in zip(state.weight, problem.experts.groups)
  )
  renamed = [(f"best_{name}", e) for name, e in info.evaluations]
  return state.replace(weight=swarms), renamed


def _score_weights(problem, graph, assignments, scored=None, identity=False):
  """(JFK [E], info, utility [A (+1 with identity)]) of the installed weights."""
  num = len(problem.experts.names)
  keep = np.ones(len(assignments), bool) if scored is None else scored
  jobs = [
    system_lib.make_job(graph.dag, z)
    for z, s in zip(np.asarray(assignments), keep)
    if s
  ]
  if identity:
    jobs.append(system_lib.make_job(graph.dag))
  values, evaluations = _score(problem, jobs)
  utility = np.full(len(assignments) + identity, np.nan, np.float32)
  utility[: len(assignments)][keep] = values[: int(keep.sum())]
  if identity:
    utility[-1] = values[-1]
  credited = jnp.asarray(utility[: len(assignments)])
  jfk = contribution.jfk_score(assignments, credited, num)
  noise = contribution.jfk_noise(assignments, credited, jfk)
  info = _info(
    "weight",
    utility,
    "assignment",
    evaluations,
    jfk=np.asarray(jfk).tolist(),
    jfk_noise=float(noise),
  )
  return jfk, info, utility


def _score(problem, jobs, bars=None):
  """(utility float32 [len(jobs)], [Evaluation]); with `bars` jobs may be dropped."""
  if not jobs:
    return np.zeros(0, np.float32), []
  evaluations = (
    racing.race(problem.evaluator, jobs, problem.examples, bars)
    if bars
    else problem.evaluator.evaluate(jobs, problem.examples)
  )
  return np.array([e.utility for e in evaluations], np.float32), evaluations


def _decode(key, adjacency, settings) -> Graph:
  """A batched `Graph` [G]; the key of graph g is folded from g."""
  decode.check_adjacency(adjacency)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(adjacency)))
  return Graph(adjacency, decode.decode_swarm(adjacency, keys, settings.graph))


def _jobs(swarm: Graph):
  dags = jax.tree.map(np.asarray, swarm.dag)
  return [system_lib.make_job(_pick(dags, g)) for g in range(len(dags.end))]


def _pick(tree, index):
  return jax.tree.map(lambda leaf: leaf[index], tree)


def _argmax(utility):
  """Index of the largest that is not missing; 0 if all are."""
  return np.argmax(np.where(np.isnan(utility), -np.inf, utility))


def role_weights(state: State, settings: Settings) -> tuple[PyTree, ...]:
  """The weights on which the next role-step scores its graphs."""
  if settings.role_weights == "best" or not state.weight:
    return state.best.weights
  return _positions(state)


def _positions(state):
  return tuple(swarm.position for swarm in state.weight)


def _info(step, utility, what, evaluations, **metrics):
  known = np.asarray(utility)[~np.isnan(utility)]
  summary = (
    {"mean": float(known.mean()), "max": float(known.max()), "min": float(known.min())}
    if len(known)
    else {}
  )
  return Info(
    step,
    {"failed": sum(bool(e.error) for e in evaluations), **summary, **metrics},
    [(f"{what}_{i}", e) for i, e in enumerate(evaluations)],
  )
