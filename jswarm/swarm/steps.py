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

from collections.abc import Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Experts, PyTree
from jswarm.graphs import decode
from jswarm.swarm import contribution, guard, motion, pso, racing
from jswarm.swarm.state import Settings, State, keep, moves_weights
from jswarm.systems import system as system_lib
from jswarm.systems.evaluate import Evaluation, Evaluator
from jswarm.systems.system import Graph, Job, System
from jswarm.systems.weights import Weights


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


# Outside of jit the smallest operation is a program of its own, compiled at first: keys
# are made by jitted functions, and numbers of the host are placed, not computed.
_fold = jax.jit(jax.random.fold_in)
_start = jax.jit(pso.start, static_argnums=3)
_ask = jax.jit(pso.ask, static_argnums=2)
_tell = jax.jit(pso.tell)
_rescored = jax.jit(pso.rescore)


@functools.partial(jax.jit, static_argnums=1)
def _split(key, count):
  return tuple(jax.random.split(key, count))


def start(
  key: jax.Array, problem: Problem, settings: Settings
) -> tuple[State, list[Info]]:
  """Scores G random graphs and the experts as they are; iteration 0."""
  num = len(problem.experts.names)
  trees = problem.experts.weights
  weights = problem.evaluator.named(trees)
  graph_key, decode_key, role_key, assign_key, weight_key = _split(_fold(key, 0), 5)
  # 1. Graphs at random, each scored; the best of them is the first system.
  adjacency = decode.init_adjacency(graph_key, settings.graphs, num)
  graphs = _decode(decode_key, adjacency, settings)
  utility, evaluations = _score(problem, {"graphs": _jobs(graphs, weights)})
  infos = [_info("role", utility["graphs"], "graph", evaluations)]
  top = int(_argmax(utility["graphs"]))
  system = System(
    graph=_pick_one(graphs, top),
    assignment=_place(np.arange(num, dtype=np.int32)),
    weights=trees,
    utility=_place(utility["graphs"][top]),
    iteration=_place(np.int32(0)),
    step=_place(np.int32(0)),
  )
  # 2. On its graph each expert gets its first credit.
  assignments = contribution.draw_assignments(
    assign_key, settings.assignments, num, num
  )
  swarms = ()
  if moves_weights(problem.experts, settings):
    credit = _score_weights(problem, system.graph, assignments, weights)
    swarms = tuple(
      _start(
        _fold(weight_key, g),
        group,
        credit.jfk[list(members)],
        settings.weight,
      )
      for g, (members, group) in enumerate(zip(problem.experts.groups, trees))
    )
    infos.append(credit.info)
  state = State(
    iteration=_place(np.int32(0)),
    stalled=_place(np.int32(0)),
    role=_start(role_key, adjacency, utility["graphs"], settings.role),
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
  key = _fold(key, t)
  before = float(state.best.utility)
  infos = []
  latest = state.reference
  if settings.steps != "weight":
    state, latest, info = role_step(_fold(key, 0), state, problem, settings)
    infos.append(info)
  if moves_weights(problem.experts, settings):
    state, info = weight_step(_fold(key, 1), state, latest, problem, settings)
    infos.append(info)
  scored = any(info.evaluations for info in infos)
  improved = not float(state.best.utility) <= before  # also when it was missing
  improved &= bool(np.isfinite(state.best.utility))
  stalled = 0 if improved else int(state.stalled) + int(scored)
  return state.replace(
    iteration=_place(np.int32(t)), stalled=_place(np.int32(stalled))
  ), infos


def exhausted(state: State, settings: Settings) -> bool:
  """Has the search stalled? `fixed` watches the best system, the public code the
  role swarm's best alone (its weight-step cannot keep a search alive)."""
  if settings.mode == "as_published" and settings.steps != "weight":
    return bool(pso.exhausted(state.role, settings.role))
  return int(state.stalled) >= settings.role.patience


def role_step(
  key: jax.Array, state: State, problem: Problem, settings: Settings
) -> tuple[State, Graph, Info]:
  """Moves and scores the G graphs. Returns (state, best graph of the step, info)."""
  t = int(state.iteration) + 1
  move_key, decode_key, drop_key = _split(key, 3)
  trees = role_weights(state, settings)
  weights = problem.evaluator.named(trees)
  # 1. Move the adjacencies, decode each to a graph.
  role = _ask(move_key, state.role, settings.role)
  graphs = _decode(decode_key, role.position, settings)
  scored = _scored(drop_key, settings.graphs, settings.role)
  # 2. Score them, and beside them the swarm's best: since the weights have moved, what
  #    is it worth today?
  jobs = [job for job, s in zip(_jobs(graphs, weights), scored) if s]
  earlier = []
  if settings.mode == "fixed" and jobs:
    earlier = [system_lib.make_job(state.swarm_best.dag, weights=weights)]
  asked = {"graphs": jobs, "earlier": earlier}
  bars = racing.bars(
    problem.evaluator.task, role, scored, len(jobs) + len(earlier), settings
  )
  values, evaluations = _score(problem, asked, bars)
  old, old_value = state.swarm_best, next(iter(values["earlier"]), np.nan)
  if np.isfinite(old_value):
    role = role.replace(swarm_best_utility=_place(np.float32(old_value)))
  # 3. Tell the swarm; a graph that beats its best is its best from now on.
  utility = np.full(settings.graphs, np.nan, np.float32)
  utility[scored] = values["graphs"]
  top = int(_argmax(utility))
  latest = _pick_one(graphs, top) if np.isfinite(utility[top]) else old
  better = utility[top] > float(role.swarm_best_utility)
  role = _tell(role, utility, scored)
  state = state.replace(role=role, swarm_best=latest if better else old)
  # 4. Keep the best system so far.
  identity = np.arange(len(problem.experts.names), dtype=np.int32)
  for value, graph in ((utility[top], latest), (old_value, old)):
    state = keep(state, value, graph, identity, trees, t, 0)
  return (
    state,
    latest,
    _info(
      "role",
      racing.measured(values["graphs"], evaluations[: len(jobs)]),
      "graph",
      evaluations,
      best_now=float(role.swarm_best_utility),
      **racing.summary(bars, [*jobs, *earlier], evaluations),
    ),
  )


def weight_step(
  key: jax.Array,
  state: State,
  latest: Graph,
  problem: Problem,
  settings: Settings,
) -> tuple[State, Info]:
  """Moves the experts' weights and credits each by its JFK-score.

  `latest` is the best graph of this iteration's role-step. Returns (state, info).
  """
  t = int(state.iteration) + 1
  move_key, assign_key, drop_key = _split(key, 3)
  # 1. The graph on which weights are compared, and what the bests are worth on it.
  reference = state.swarm_best if settings.mode == "fixed" else latest
  state, rescored = _refer(assign_key, state, reference, problem, settings)
  # 2. Move the weights; what a move has broken is rolled back.
  state, repaired = _move_weights(move_key, state, settings)
  trees = positions(state)
  # 3. Credit every expert, and score the system that they make together.
  scored = _scored(drop_key, settings.assignments, settings.weight)
  identity = settings.mode == "fixed" and bool(scored.any())
  weights = problem.evaluator.named(trees)
  credit = _score_weights(
    problem, reference, state.assignments, weights, scored, identity
  )
  # 4. Tell each group's swarm.
  parts = [credit.jfk[list(members)] for members in problem.experts.groups]
  state = state.replace(
    weight=tuple(
      _tell(swarm, part, np.isfinite(part)) for swarm, part in zip(state.weight, parts)
    )
  )
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
    moved = _ask(_fold(key, g), swarm, settings.weight, _due(state, swarm, settings))
    swarm, count = guard.roll_back(moved, state.initial.weights[g])
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
  credit = _score_weights(problem, state.reference, state.assignments, bests)
  swarms = tuple(
    _rescored(swarm, credit.jfk[list(members)])
    for swarm, members in zip(state.weight, problem.experts.groups)
  )
  renamed = [(f"best_{name}", e) for name, e in credit.info.evaluations]
  return state.replace(weight=swarms), renamed


def _score_weights(
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
  values, evaluations = _score(problem, asked)
  utility = np.full(len(assignments), np.nan, np.float32)
  utility[chosen] = values["assignments"]
  num = len(problem.experts.names)
  jfk, noise = jax.device_get(contribution.credit(assignments, utility, num))
  info = _info(
    "weight",
    np.append(utility, values["identity"]),
    "assignment",
    evaluations,
    jfk=jfk.tolist(),
    jfk_noise=float(noise),
  )
  return Credit(jfk, utility, next(iter(values["identity"]), np.nan), info)


def _score(
  problem: Problem,
  asked: Mapping[str, Sequence[Job]],
  bars: racing.Bars | None = None,
) -> tuple[dict[str, np.ndarray], list[Evaluation]]:
  """Scores jobs of several purposes together.

  Args:
    asked: the jobs by what they are asked for.
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


def _decode(key, adjacency, settings) -> Graph:
  """A batched `Graph` [G]; the key of graph g is folded from g."""
  decode.check_adjacency(adjacency)
  return Graph(adjacency, _decoded(key, adjacency, settings.graph))


@functools.partial(jax.jit, static_argnums=2)
def _decoded(key, adjacency, settings):
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(adjacency)))
  return decode.decode_swarm(adjacency, keys, settings)


def _jobs(graphs: Graph, weights: Weights) -> list[Job]:
  """A job for each of the batched graphs, expert i on node i."""
  dags = jax.tree.map(np.asarray, graphs.dag)
  return [
    system_lib.make_job(_pick(dags, g), weights=weights) for g in range(len(dags.end))
  ]


def _pick(tree, index):
  return jax.tree.map(lambda leaf: leaf[index], tree)


def _pick_one(graphs, index):
  """Graph `index` of the batched ones, placed on the device again."""
  return jax.device_put(_pick(jax.tree.map(np.asarray, graphs), index))


def _scored(key, size, settings):
  """bool [size] on the host: what to score; without dropout nothing is drawn."""
  if not settings.dropout_k and not settings.dropout_n:
    return np.ones(size, bool)
  return np.asarray(motion.draw_scored(key, size, settings))


def _place(value):
  """A host value as a leaf of the state; unlike `jnp.int32(...)`, no program."""
  return jax.device_put(value)


def _argmax(utility):
  """Index of the largest that is not missing; 0 if all are."""
  return np.argmax(np.where(np.isnan(utility), -np.inf, utility))


def role_weights(state: State, settings: Settings) -> tuple[PyTree, ...]:
  """The weights on which the next role-step scores its graphs."""
  if settings.role_weights == "best" or not state.weight:
    return state.best.weights
  return positions(state)


def positions(state: State) -> tuple[PyTree, ...]:
  """Where the weight swarms are now; () without a weight-step."""
  return tuple(swarm.position for swarm in state.weight)


def _info(step, utility, what, evaluations, **metrics):
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
