"""What a search is made of: Settings, and the State between two iterations."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Experts, PyTree
from jswarm.graphs import decode
from jswarm.swarm import motion, pso
from jswarm.systems.system import Graph, System

MODES = ("fixed", "paper", "as_published")
CREDITS = ("jfk", "replace")
STEPS = ("both", "role", "weight")
RESULTS = ("best", "last")
ROLE_WEIGHTS = ("current", "best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Sizes and rules of a search.

  Attributes:
    mode, steps: see the module; `steps` leaves the other step out (ablations).
    graphs: G, adjacency particles (N of the paper).
    assignments: A, random assignments a weight-step (M of the paper).
    iterations: most iterations (the paper's 20).
    keep_assignments: a random assignment that scores best may be the result, as
      in the public code; off: only systems with expert i on node i.
    role_weights: the role-step scores graphs on the "current" weights of the weight
      swarm, as published, or on those of the "best" system so far.
    race: the role-step scores its graphs by so many examples at a time and drops
      those that the rest cannot make matter (see `racing`); 0: all at once.
    credit: of an expert in the weight-step, see `weight_step`: by "jfk" or "replace".
    result: the "best" system that was scored, or the "last" one, as the paper's
      Algorithm 3 makes it (see `steps.last_system`).
    imprint: the role swarm's bests hold the graph that scored, not the adjacency that
      it was sampled from; see `graphs.imprint`.
    l1: lambda_1, a price on the entries of adjacencies: the role swarm maximises
      f(A) - lambda_1 mean |a_ij|, off the diagonal (the paper prints +, which would
      reward connections). The best system is still that of the greatest f.
    dropout_r, dropout_w: probability that an iteration leaves out its whole role-step,
      its whole weight-step.
    graph: how adjacencies decode; role, weight: the two swarms' PSO settings.
  """

  mode: str
  steps: str
  graphs: int
  assignments: int
  iterations: int
  keep_assignments: bool
  role_weights: str
  credit: str
  result: str
  imprint: bool
  graph: decode.Settings
  role: motion.Settings
  weight: motion.Settings
  race: int = 0
  dropout_r: float = 0.0
  dropout_w: float = 0.0
  l1: float = 0.0

  def __post_init__(self):
    for field, allowed in (
      ("mode", MODES),
      ("steps", STEPS),
      ("role_weights", ROLE_WEIGHTS),
      ("credit", CREDITS),
      ("result", RESULTS),
    ):
      if getattr(self, field) not in allowed:
        raise ValueError(
          f"search.{field}={getattr(self, field)!r}: allowed are {', '.join(allowed)}."
        )
    for field, least in (
      ("graphs", 1),
      ("assignments", 1),
      ("iterations", 0),
      ("race", 0),
    ):
      if getattr(self, field) < least:
        raise ValueError(f"search.{field}={getattr(self, field)}: at least {least}.")
    for field in ("dropout_r", "dropout_w"):
      if not 0 <= getattr(self, field) < 1:
        raise ValueError(
          f"search.{field}={getattr(self, field)}: allowed is 0 to less than 1."
        )
    if not 0 <= self.l1 < float("inf"):
      raise ValueError(f"search.l1={self.l1}: allowed is 0 (no price) or more.")
    if self.l1 and (self.role.method != "pso" or self.race):
      raise ValueError(
        f"search.l1={self.l1} is a price on the entries that a particle swarm moves:"
        f" allowed with role.method='pso', which is {self.role.method!r}, and"
        f" search.race=0, which is {self.race}."
      )


class State(flax.struct.PyTreeNode):
  """Everything between two iterations.

  Attributes:
    iteration: of the last finished one; 0 after `start`.
    stalled: scored iterations since `best` improved.
    role, weight: the swarms; weight has one for each group that shares a base.
    bests: [G], the graph that gave each particle of the role swarm its best utility.
    swarm_best: the graph that gave the role swarm its best utility.
    reference: the graph on which the weight swarm's utilities were measured.
    assignments: int32 [A, N] of the last weight-step.
    best, initial: best system so far, and after `start`.
  """

  iteration: jax.Array
  stalled: jax.Array
  role: pso.State
  weight: tuple[pso.State, ...]
  bests: Graph
  swarm_best: Graph
  reference: Graph
  assignments: jax.Array
  best: System
  initial: System


def blank(experts: Experts, settings: Settings) -> State:
  """A state of the right shapes and dtypes, to restore a checkpoint into."""
  num, key = len(experts.names), jax.random.key(0)
  adjacency = jnp.zeros((settings.graphs, num, num), jnp.float32)
  keys = jax.random.split(key, settings.graphs)
  swarm = Graph(adjacency, decode.decode_swarm(adjacency, keys, settings.graph))
  graph = jax.tree.map(lambda leaf: leaf[0], swarm)
  zero = jnp.int32(0)
  system = System(
    graph=graph,
    assignment=jnp.zeros(num, jnp.int32),
    weights=experts.weights,
    utility=jnp.float32(0),
    iteration=zero,
    step=zero,
  )
  weight = tuple(
    pso.start(key, group, jnp.zeros(len(members)), settings.weight)
    for members, group in zip(experts.groups, experts.weights)
  )
  return State(
    iteration=zero,
    stalled=zero,
    role=pso.start(key, adjacency, jnp.zeros(settings.graphs), settings.role),
    weight=weight if moves_weights(experts, settings) else (),
    bests=swarm,
    swarm_best=graph,
    reference=graph,
    assignments=jnp.zeros((settings.assignments, num), jnp.int32),
    best=system,
    initial=system,
  )


def template(experts: Experts, settings: Settings) -> State:
  """`blank` as shapes, each particle of weights where the pool has its first ones, the
  best and the worst on all of those devices."""
  state = jax.eval_shape(lambda: blank(experts, settings))

  def like(shapes, weights, spec=None):
    return jax.tree.map(
      lambda s, x: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=_sharding(x, spec)),
      shapes,
      weights,
    )

  def place(swarm, weights):
    each = {
      name: like(getattr(swarm, name), weights)
      for name in ("position", "velocity", "best_position")
    }
    one = {
      name: like(getattr(swarm, name), weights, jax.sharding.PartitionSpec())
      for name in ("swarm_best_position", "swarm_worst_position")
    }
    return swarm.replace(**each, **one)

  return state.replace(
    weight=tuple(map(place, state.weight, experts.weights)),
    best=state.best.replace(weights=like(state.best.weights, experts.weights)),
    initial=state.initial.replace(weights=like(state.initial.weights, experts.weights)),
  )


def _sharding(x, spec):
  """That of a weight which is spread over devices, or another `spec` on those."""
  sharding = getattr(x, "sharding", None)
  if not isinstance(sharding, jax.sharding.NamedSharding):
    return None
  return sharding if spec is None else sharding.update(spec=spec)


def moves_weights(experts: Experts, settings: Settings) -> bool:
  """Is there a weight-step, and is there a pair of experts that it can mix?"""
  return settings.steps != "role" and bool(experts.groups)


def keep(
  state: State,
  value: float,
  graph: Graph,
  assignment: jax.Array | np.ndarray,
  weights: tuple[PyTree, ...],
  iteration: int,
  step: int,
) -> State:
  """The state whose best system is this one, if it is strictly better."""
  # `not >` so that a search whose first evaluations failed can still find a best.
  if not np.isfinite(value) or float(value) <= float(state.best.utility):
    return state
  return state.replace(
    best=System(
      graph=graph,
      assignment=jax.device_put(np.asarray(assignment, np.int32)),
      weights=weights,
      utility=jax.device_put(np.float32(value)),
      iteration=jax.device_put(np.int32(iteration)),
      step=jax.device_put(np.int32(step)),
    )
  )
