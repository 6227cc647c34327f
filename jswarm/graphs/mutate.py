"""A graph -> one that differs from it a little: the moves of an evolution on graphs.

    Dag -> order (rank) -> swap | shift | rewire -> Dag

Each kind of change keeps the graph acyclic, since edges lead from a larger to a smaller
rank before and after it. All that is drawn is drawn at once: a generator inlined in
every branch would be most of the program.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jswarm.core import quick
from jswarm.graphs.dag import Dag, make_dag, rank_of

MOST = 3  # changes of one child
AGAIN = 1 / 3  # chance of the second, and of the third


class _Noise(NamedTuple):
  """Numbers in [0, 1) that decide changes; leading [MOST] on all of them.

  Attributes:
    wanted: is there this change at all? kind: of the change.
    a, b: nodes, or a node and a place. row [N]: whom a node speaks to now.
    mend [N, N]: whom nodes speak to whose edges led the wrong way.
  """

  wanted: jax.Array
  kind: jax.Array
  a: jax.Array
  b: jax.Array
  row: jax.Array
  mend: jax.Array


@functools.partial(quick.jit, static_argnames="single")
def mutate(key: jax.Array, dag: Dag, single: bool = True) -> Dag:
  """A child of `dag`: one change, and with falling probability some more.

  Changes, one of them at random each time:
    swap: two nodes change places, with all that they hear and say.
    shift: a node goes to another place in the order; edges that now lead the wrong
      way are drawn anew.
    rewire: a node speaks to another one; unless `single`, it speaks to one more or
      to one less.

  Args:
    key: of all draws.
    dag: fields [N]; batched ones through vmap.
    single: every node but the end speaks to one node; else to at least one.
  """
  if len(dag.order) < 2:
    return dag

  def step(graph, noise):
    changed = _change(noise, graph[0], graph[1], single)
    pick = lambda new, old: jnp.where(noise.wanted, new, old)
    return jax.tree.map(pick, changed, graph), None

  begin = dag.edges, rank_of(dag)
  (edges, rank), _ = jax.lax.scan(step, begin, _draw(key, len(dag.order)))
  return make_dag(edges, jnp.argmin(rank), rank)


def _draw(key, size):
  numbers = jax.random.uniform(key, (MOST, 4 + size + size**2))
  chance = jnp.array([1.0] + [AGAIN] * (MOST - 1))
  return _Noise(
    wanted=numbers[:, 0] < chance,
    kind=numbers[:, 1],
    a=numbers[:, 2],
    b=numbers[:, 3],
    row=numbers[:, 4 : 4 + size],
    mend=numbers[:, 4 + size :].reshape(MOST, size, size),
  )


def _change(noise, edges, rank, single):
  """(edges, rank) after one change of a random kind."""
  size = len(rank)
  a = _index(noise.a, size)
  # Another number than a, or, for a shift, another place than that of a.
  other = lambda taken: (drawn := _index(noise.b, size - 1)) + (drawn >= taken)
  rewired = _rewire(noise, edges, rank, single)
  results = (
    _swap(a, other(a), edges, rank),
    (edges, _shifted(a, other(rank[a]), rank)),
    (rewired, rank),
  )
  kind = _index(noise.kind, len(results))
  edges, rank = jax.tree.map(lambda *r: jnp.stack(r)[kind], *results)
  return _mended(noise.mend, edges, rank, single), rank


def _swap(a, b, edges, rank):
  """Two nodes change places."""
  node = jnp.arange(len(rank))
  other = jnp.where(node == a, b, jnp.where(node == b, a, node))
  return edges[other][:, other], rank[other]


def _shifted(node, target, rank):
  """The ranks when one node goes to another place, and the others keep their order."""
  # Half a place behind, or before, whoever stands there.
  side = jnp.where(target > rank[node], 0.5, -0.5)
  wanted = jnp.where(jnp.arange(len(rank)) == node, target + side, rank)
  return jnp.sum(wanted[None, :] < wanted[:, None], axis=1, dtype=jnp.int32)


def _rewire(noise, edges, rank, single):
  """The edges when one node (not the end) speaks to another one."""
  size = len(rank)
  node = jnp.argmax(rank == 1 + _index(noise.a, size - 1))
  open_ = rank < rank[node]
  # Another than now, where there is another.
  fresh = open_ & ~edges[node] if single else open_
  fresh = jnp.where(jnp.any(fresh), fresh, open_)
  chosen = jnp.arange(size) == _one_of(noise.row, fresh)
  row = chosen if single else edges[node] ^ chosen
  return jnp.where((jnp.arange(size) == node)[:, None], row[None, :], edges)


def _mended(noise, edges, rank, single):
  """The edges that lead to smaller ranks; every node but the end has one."""
  size = len(rank)
  candidates = rank[None, :] < rank[:, None]
  kept = edges & candidates
  if single:
    # A node with several (a graph of another kind was the parent) keeps the first.
    kept &= jnp.cumsum(kept, axis=1) == 1
  drawn = _one_of(noise, candidates)
  drawn = (drawn[:, None] == jnp.arange(size)[None]) & candidates
  return jnp.where(jnp.any(kept, axis=1, keepdims=True), kept, drawn)


def _index(noise, size):
  """int32: uniform in 0 .. size - 1, of a number in [0, 1)."""
  return jnp.floor(noise * size).astype(jnp.int32)


def _one_of(noise, mask):
  """int32 [...]: along the last axis an index where `mask` is true, uniformly; 0 if
  nowhere."""
  return jnp.argmax(jnp.where(mask, noise, -1.0), axis=-1).astype(jnp.int32)
