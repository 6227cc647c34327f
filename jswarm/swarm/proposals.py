"""How a role-step comes by its graphs, and what it learns from their utilities.

  role swarm, bests -> propose -> graphs [G] -> utility (outside) -> learn -> bests

Three methods with one signature, at the same number of scored graphs: `pso` moves
adjacencies and samples a graph from each, `evolution` changes the best of those that
were scored, `random` draws new ones and is what the others have to beat.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jswarm.core import quick
from jswarm.graphs import decode
from jswarm.graphs.imprint import imprint
from jswarm.graphs.mutate import mutate
from jswarm.swarm import motion, pso
from jswarm.swarm import problem as problem_lib
from jswarm.systems.system import Graph, Job
from jswarm.systems.weights import Weights

PARENTS = 0.2  # the share of the best graphs that have children; docs/worlds.md
_ask = quick.jit(pso.ask, static_argnums=2)
imprints_of = quick.jit(jax.vmap(imprint))


class Swarm(NamedTuple):
  """The graphs' side of a search between two iterations.

  Attributes:
    role: the swarm of adjacencies [G, N, N]; in an evolution its bests are the parents.
    bests: a `Graph` [G], the graph that gave each particle its best utility.
  """

  role: pso.State
  bests: Graph


def first(
  key: jax.Array, size: int, num_nodes: int, settings: decode.Settings
) -> jax.Array:
  """float32 [G, N, N]: adjacencies at random, with all that decoding reads."""
  return decode.init_adjacency(key, size, num_nodes, settings.preferences != "raw")


def propose(
  move_key: jax.Array,
  decode_key: jax.Array,
  swarm: Swarm,
  graph: decode.Settings,
  role: motion.Settings,
) -> tuple[pso.State, Graph]:
  """(the moved swarm, its graphs [G]), not yet scored.

  Args:
    move_key: of this iteration. decode_key: the same in every iteration where noise
      belongs to a particle.
    swarm: as of the last iteration.
    graph: how adjacencies decode. role: `method` and its settings.
  """
  return _METHODS[role.method](move_key, decode_key, swarm, graph, role)


def worth(utility: np.ndarray, graphs: Graph, l1: float) -> np.ndarray:
  """What the role swarm maximises, f(A) - lambda_1 mean |a_ij| off the diagonal.

  Args:
    utility: float32 [G], or [] of one graph. graphs: batched as the utility is.
    l1: lambda_1; 0 gives the utility as it is.
  """
  if not l1:
    return utility
  values = np.abs(np.asarray(graphs.adjacency))
  nodes = values.shape[-1]
  total = values.sum(axis=(-2, -1)) - np.trace(values, axis1=-2, axis2=-1)
  price = l1 * total / max(1, nodes * (nodes - 1))
  return np.asarray(utility - price, np.float32)


def decoded(
  key: jax.Array,
  adjacency: jax.Array,
  settings: decode.Settings,
  moves: jax.Array | int = 0,
) -> Graph:
  """A batched `Graph` [G]; the key of graph g is folded from g.

  `moves`: made so far, for a top-p that falls.
  """
  decode.check_adjacency(adjacency)
  return Graph(adjacency, _decoded(key, adjacency, moves, settings))


def drawn(
  key: jax.Array, count: int, nodes: int, settings: decode.Settings, weights: Weights
) -> list[Job]:
  """Random graphs as a search draws its first ones, expert i on node i: what luck
  has."""
  draw_key, decode_key = problem_lib.split(key, 2)
  adjacency = first(draw_key, count, nodes, settings)
  return problem_lib.jobs_of(decoded(decode_key, adjacency, settings), weights)


def learn(
  swarm: Swarm,
  graphs: Graph,
  utility: np.ndarray,
  scored: np.ndarray,
  imprints: bool,
  method: str,
) -> Swarm:
  """The swarm that knows the utilities [G] of the graphs that it proposed.

  Args:
    swarm: its role as `propose` moved it, its bests as they were.
    graphs: what was proposed. scored: bool [G], which of it has a utility.
    imprints: a best holds the graph that scored (see `graphs.imprint`), not the
      adjacency that it was sampled from.
  """
  if method == "evolution":  # its bests are graphs anyway
    return Swarm(*_survive(*swarm, graphs, utility, scored))
  held = imprints_of(graphs.dag) if imprints else None
  return Swarm(*_remember(*swarm, graphs, held, utility, scored))


def _pso(move_key, decode_key, swarm, graph, role):
  moved = _ask(move_key, swarm.role, role)
  return moved, decoded(decode_key, moved.position, graph, moved.iteration)


def _random(move_key, decode_key, swarm, graph, role):
  del role
  size, nodes, _ = swarm.role.position.shape
  fresh = first(move_key, size, nodes, graph)
  return _placed(swarm.role, fresh), decoded(decode_key, fresh, graph)


def _evolution(move_key, decode_key, swarm, graph, role):
  del decode_key, role
  return _bred(move_key, swarm.role, swarm.bests.dag, graph.edge_mode == "single")


_METHODS = {"pso": _pso, "random": _random, "evolution": _evolution}


@quick.jit
def _remember(role, bests, graphs, held, utility, scored):
  """Each particle keeps its own best, as in any particle swarm.

  `held` [G, N, N]: what a best is to hold in place of the particle's position, or None.
  """
  told = pso.tell(role, utility, scored)
  better = told.best_utility > role.best_utility
  if held is not None:
    kept = pso.tell(role.replace(position=held), utility, scored)
    told = told.replace(
      best_position=kept.best_position, swarm_best_position=kept.swarm_best_position
    )
  return told, pso.where(better, graphs, bests)


@quick.jit
def _survive(role, bests, graphs, utility, scored):
  """The G best of parents and children are the next parents; of equals, children."""
  told = pso.tell(role, utility, scored)
  fresh = jnp.where(scored & jnp.isfinite(utility), utility, -jnp.inf)
  value = jnp.concatenate([fresh, role.best_utility])
  kept = jnp.argsort(-value, stable=True)[: len(fresh)]
  join = lambda new, old: jax.tree.map(
    lambda x, y: jnp.concatenate([x, y])[kept], new, old
  )
  return told.replace(
    best_position=join(role.position, role.best_position), best_utility=value[kept]
  ), join(graphs, bests)


@functools.partial(quick.jit, static_argnums=3)
def _bred(key, role, graphs, single):
  """(the role, its positions those of the children; the children as a `Graph`)."""
  children = _children(key, graphs, role.best_utility, single)
  adjacency = jax.vmap(imprint)(children)
  return _placed(role, adjacency), Graph(adjacency, children)


def _children(key, graphs, utility, single):
  """A batched `Dag` [G]: children of the best of the graphs, drawn at random."""
  size = len(utility)
  best = jnp.argsort(-utility, stable=True)[: max(1, round(PARENTS * size))]
  pick_key, key = jax.random.split(key)
  parents = jax.random.choice(pick_key, best, (size,))
  keys = jax.random.split(key, size)
  chosen = jax.tree.map(lambda leaf: leaf[parents], graphs)
  return jax.vmap(mutate, (0, 0, None))(keys, chosen, single)


@functools.partial(quick.jit, static_argnums=3)
def _decoded(key, adjacency, moves, settings):
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(adjacency)))
  top_p = None
  if settings.anneal:
    top_p = optax.linear_schedule(settings.top_p, 0.0, settings.anneal)(moves)
  return decode.decode_swarm(adjacency, keys, settings, top_p)


@quick.jit
def _placed(role, position):
  return role.replace(position=position, iteration=role.iteration + 1)
