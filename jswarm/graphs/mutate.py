"""A graph -> one that differs from it a little: the moves of an evolution on graphs.

    Dag -> order (rank) -> swap | shift | rewire -> Dag

Each kind of change keeps the graph acyclic, since edges lead from a larger to a smaller
rank before and after it.
"""

import functools

import jax
import jax.numpy as jnp

from jswarm.graphs.dag import Dag, make_dag, rank_of

KINDS = ("swap", "shift", "rewire")


@functools.partial(jax.jit, static_argnames="single")
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
  size = len(dag.order)
  if size < 2:
    return dag
  keys = jax.random.split(key, 4)
  # One change always, the second and third with probability a third each.
  more = jax.random.uniform(keys[0], (3,)) < jnp.array([1.0, 1 / 3, 1 / 3])

  def step(graph, change):
    change_key, wanted = change
    edges, rank = graph
    changed = _change(change_key, edges, rank, single)
    return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), changed, graph), 0

  begin = dag.edges, rank_of(dag)
  (edges, rank), _ = jax.lax.scan(step, begin, (keys[1:], more))
  return make_dag(edges, jnp.argmin(rank), rank)


def _change(key, edges, rank, single):
  """(edges, rank) after one change of a random kind."""
  kind_key, pick_key, draw_key = jax.random.split(key, 3)
  kind = jax.random.randint(kind_key, (), 0, len(KINDS))
  edges, rank = jax.lax.switch(
    kind,
    (_swap, _shift, functools.partial(_rewire, single=single)),
    pick_key,
    edges,
    rank,
  )
  return _mended(draw_key, edges, rank, single)


def _swap(key, edges, rank):
  """Two nodes change places."""
  size = len(rank)
  a, b = jax.random.choice(key, size, (2,), replace=False)
  node = jnp.arange(size)
  other = node.at[a].set(b).at[b].set(a)
  return edges[other][:, other], rank[other]


def _shift(key, edges, rank):
  """One node goes to another place in the order; the others keep theirs."""
  size = len(rank)
  node_key, place_key = jax.random.split(key)
  node = jax.random.randint(node_key, (), 0, size)
  drawn = jax.random.randint(place_key, (), 0, size - 1)
  target = drawn + (drawn >= rank[node])  # another place than now
  # Half a place behind, or before, whoever stands there.
  wanted = jnp.where(
    jnp.arange(size) == node, target + jnp.where(target > rank[node], 0.5, -0.5), rank
  )
  return edges, jnp.argsort(jnp.argsort(wanted)).astype(jnp.int32)


def _rewire(key, edges, rank, single):
  """One node (not the end) speaks to another one."""
  node_key, target_key = jax.random.split(key)
  size = len(rank)
  place = jax.random.randint(node_key, (), 1, size)
  node = jnp.argmax(rank == place)
  open_ = rank < place
  # Another than now, where there is another.
  fresh = open_ & ~edges[node] if single else open_
  fresh = jnp.where(jnp.any(fresh), fresh, open_)
  target = _one_of(target_key, fresh)
  if single:
    row = jnp.arange(size) == target
  else:
    row = edges[node] ^ (jnp.arange(size) == target)
  return edges.at[node].set(row), rank


def _mended(key, edges, rank, single):
  """(edges, rank): edges lead to smaller ranks, and every node but the end has one."""
  size = len(rank)
  candidates = rank[None, :] < rank[:, None]
  kept = edges & candidates
  if single:
    # A node with several (a graph of another kind was the parent) keeps the first.
    kept &= jnp.cumsum(kept, axis=1) == 1
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(size))
  drawn = jax.vmap(_one_of)(keys, candidates)
  drawn = (drawn[:, None] == jnp.arange(size)[None]) & candidates
  return jnp.where(jnp.any(kept, axis=1, keepdims=True), kept, drawn), rank


def _one_of(key, mask):
  """int32 []: a uniformly drawn index where mask [N] is true; 0 if nowhere."""
  noise = jax.random.uniform(key, mask.shape)
  return jnp.argmax(jnp.where(mask, noise, -1.0)).astype(jnp.int32)
