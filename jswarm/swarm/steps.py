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

import jax
import numpy as np

from jswarm.core import quick
from jswarm.swarm import contribution, proposals, pso
from jswarm.swarm import problem as problem_lib
from jswarm.swarm.problem import Info, Problem, fold, place
from jswarm.swarm.role_step import positions, role_step, role_weights
from jswarm.swarm.state import Settings, State, moves_weights
from jswarm.swarm.weight_step import score_weights, weight_step
from jswarm.systems.system import System

__all__ = (
  "Info",
  "Problem",
  "exhausted",
  "iterate",
  "last_system",
  "positions",
  "role_step",
  "role_weights",
  "start",
  "weight_step",
)

_start = quick.jit(pso.start, static_argnums=3)


def start(
  key: jax.Array, problem: Problem, settings: Settings
) -> tuple[State, list[Info]]:
  """Scores G random graphs and the experts as they are; iteration 0."""
  num = len(problem.experts.names)
  trees = problem.experts.weights
  weights = problem.evaluator.named(trees)
  graph_key, decode_key, role_key, assign_key, weight_key = problem_lib.split(
    fold(key, 0), 5
  )
  # 1. Graphs at random, each scored; the best of them is the first system.
  adjacency = proposals.first(graph_key, settings.graphs, num, settings.graph)
  graphs = proposals.decoded(decode_key, adjacency, settings.graph)
  jobs = problem_lib.jobs_of(graphs, weights)
  utility, evaluations = problem_lib.score(problem, {"graphs": jobs})
  infos = [
    problem_lib.info(
      "role",
      utility["graphs"],
      "graph",
      evaluations,
      **problem_lib.variety(jobs),
    )
  ]
  worth = proposals.worth(utility["graphs"], graphs, settings.l1)
  top = problem_lib.argmax(worth)
  system = System(
    graph=problem_lib.pick_one(graphs, top),
    assignment=place(np.arange(num, dtype=np.int32)),
    weights=trees,
    utility=place(utility["graphs"][top]),
    iteration=place(np.int32(0)),
    step=place(np.int32(0)),
  )
  # 2. On its graph each expert gets its first credit.
  assignments = contribution.draw_assignments(
    assign_key, settings.assignments, num, num
  )
  swarms = ()
  if moves_weights(problem.experts, settings):
    credit = score_weights(problem, system.graph, assignments, weights)
    swarms = tuple(
      _start(
        fold(weight_key, g),
        group,
        credit.jfk[list(members)],
        settings.weight,
      )
      for g, (members, group) in enumerate(zip(problem.experts.groups, trees))
    )
    infos.append(credit.info)
  state = State(
    iteration=place(np.int32(0)),
    stalled=place(np.int32(0)),
    role=_role(role_key, graphs, worth, settings),
    bests=graphs,
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
  root, key = key, fold(key, t)
  before = float(state.best.utility)
  infos = []
  latest = state.reference
  skip_role, skip_weight = _skipped(key, settings)
  if settings.steps != "weight" and not skip_role:
    state, latest, info = role_step(root, fold(key, 0), state, problem, settings)
    infos.append(info)
  if moves_weights(problem.experts, settings) and not skip_weight:
    state, info = weight_step(fold(key, 1), state, latest, problem, settings)
    infos.append(info)
  scored = any(info.evaluations for info in infos)
  improved = not float(state.best.utility) <= before  # also when it was missing
  improved &= bool(np.isfinite(state.best.utility))
  stalled = 0 if improved else int(state.stalled) + int(scored)
  return state.replace(
    iteration=place(np.int32(t)), stalled=place(np.int32(stalled))
  ), infos


def last_system(
  key: jax.Array, state: State, problem: Problem, settings: Settings
) -> State:
  """The state whose best system is the paper's result (its Algorithm 3).

  A graph that is decoded once more from the best adjacency, expert i on node i, with
  the experts' last weights: not a system that scored best, and scored here.
  """
  t = int(state.iteration)
  decode_key = fold(fold(key, t), 3)
  adjacency = state.swarm_best.adjacency[None]
  graphs = proposals.decoded(decode_key, adjacency, settings.graph, t)
  trees = positions(state) or state.best.weights
  job = problem_lib.jobs_of(graphs, problem.evaluator.named(trees))[0]
  values, _ = problem_lib.score(problem, {"last": [job]})
  system = System(
    graph=problem_lib.pick_one(graphs, 0),
    assignment=place(np.arange(len(problem.experts.names), dtype=np.int32)),
    weights=trees,
    utility=place(values["last"][0]),
    iteration=place(np.int32(t)),
    step=place(np.int32(1)),
  )
  return state.replace(best=system)


def exhausted(state: State, settings: Settings) -> bool:
  """Has the search stalled? `fixed` watches the best system, the public code the
  role swarm's best alone (its weight-step cannot keep a search alive)."""
  if settings.mode == "as_published" and settings.steps != "weight":
    return bool(pso.exhausted(state.role, settings.role))
  return int(state.stalled) >= settings.role.patience


def _role(key, graphs, utility, settings):
  """The role swarm after its first scoring."""
  role = _start(key, graphs.adjacency, utility, settings.role)
  if not settings.imprint:
    return role
  bests = proposals.imprints_of(graphs.dag)
  top = problem_lib.pick_one(bests, problem_lib.argmax(utility))
  return role.replace(best_position=bests, swarm_best_position=top)


def _skipped(key, settings):
  """(is the role-step left out, is the weight-step?): Dropout-R and Dropout-W."""
  if not settings.dropout_r and not settings.dropout_w:
    return False, False
  draws = np.asarray(jax.random.uniform(fold(key, 2), (2,)))
  return bool(draws[0] < settings.dropout_r), bool(draws[1] < settings.dropout_w)
