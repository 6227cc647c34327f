"""What is executed: a directed acyclic graph of nodes, as arrays.

    edges, end -> make_dag -> Dag -> messages

A `Dag` comes out of `decode.decode`, out of `topologies`, or, through
`from_edges`, out of a file. Everything but `from_edges` works under jit and vmap.
"""

from collections.abc import Sequence

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jswarm.core import quick


@flax.struct.dataclass
class Dag:
  """Nodes that speak to each other; a batch has a leading [G] on every field.

  Attributes:
    edges: bool [N, N]; [i, j]: the output of node i is given to node j.
    order: int32 [N]; the nodes in the order of execution, inactive ones last.
    end: int32 []; the node whose output is the answer.
    active: bool [N]; the node reaches `end`. Other nodes are never executed, and
      no edge of theirs leads into an active node.
    depth: int32 [N]; 0 for a node that hears nobody, else one more than the
      deepest node that it hears; -1 if not active.
  """

  edges: jax.Array
  order: jax.Array
  end: jax.Array
  active: jax.Array
  depth: jax.Array


@quick.jit
def make_dag(edges: jax.Array, end: jax.Array, rank: jax.Array) -> Dag:
  """The Dag of acyclic edges [N, N] and their end node; see `Dag`.

  `rank` int32 [N] is a permutation: every edge leads from a larger to a smaller rank,
  so one walk through the nodes settles what would else take N rounds over all edges.
  """
  node = jnp.arange(len(edges))
  turn = jnp.zeros_like(node).at[rank].set(node)  # the nodes by their rank
  active = _reaches(edges, end, turn)
  live = edges & active[:, None] & active[None, :]
  depth, sweep = _longest_paths(live, turn)
  return Dag(
    edges=edges,
    order=_order(active, sweep),
    end=jnp.asarray(end, jnp.int32),
    active=active,
    depth=jnp.where(active, depth, -1),
  )


def rank_of(dag: Dag) -> jax.Array:
  """int32 [N], 0 for the end node: every edge leads from a larger to a smaller rank.

  Of the edges of nodes that are not executed, which stand behind all others, that holds
  only as far as they lead to active nodes.
  """
  size = len(dag.order)
  node = jnp.arange(size, dtype=jnp.int32)
  place = jnp.zeros(size, jnp.int32).at[dag.order].set(node)
  last = jnp.sum(dag.active, dtype=jnp.int32) - 1
  return jnp.where(dag.active, last - place, place)


def _reaches(edges, end, turn):
  """bool [N]: the nodes with a path to `end`, `end` among them."""

  def look(k, seen):
    u = turn[k]
    return seen.at[u].set(seen[u] | jnp.any(edges[u] & seen))

  return lax.fori_loop(0, len(edges), look, jnp.arange(len(edges)) == end)


def _longest_paths(live, turn):
  """int32 [N], twice: most edges, and most backward edges, on a path to the node.

  A backward edge leads to a smaller index.
  """
  node, heard = jnp.arange(len(live)), live.T

  def look(k, longest):
    u = turn[len(live) - 1 - k]
    lengths = (1, (node > u).astype(jnp.int32))
    return tuple(
      x.at[u].set(jnp.max(jnp.where(heard[u], x + length, 0)))
      for x, length in zip(longest, lengths)
    )

  start = jnp.zeros(len(live), jnp.int32)
  return lax.fori_loop(0, len(live), look, (start, start))


def _order(active, sweep):
  """The order of the public executor, which sweeps over the nodes by index.

  It executes whatever is ready until all is done, so a node waits one more sweep
  for each backward edge on its way, and none otherwise.
  """
  size = len(active)
  node = jnp.arange(size)
  key = jnp.where(active, sweep, size) * size + node
  place = jnp.sum(key[None, :] < key[:, None], axis=1)
  return jnp.zeros(size, jnp.int32).at[place].set(node.astype(jnp.int32))


def from_edges(edges: Sequence | np.ndarray, end: int | None = None) -> Dag:
  """The Dag of a 0/1 matrix.

  Args:
    edges: [N, N]; [i, j] = 1: the output of node i is given to node j. Nodes
      without any edge are allowed; they are not executed.
    end: the node that answers; None: the one node that hears others and speaks to
      nobody.

  Raises:
    ValueError: not a square 0/1 matrix, a cycle, or no single end node.
  """
  matrix = np.asarray(edges)
  _check_matrix(matrix)
  matrix = matrix.astype(bool)
  rank = _rank(matrix).astype(np.int32)
  return make_dag(matrix, np.int32(_end_node(matrix, end)), rank)


def _check_matrix(matrix):
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
    raise ValueError(
      f"edges have the shape {matrix.shape}: allowed is [N, N] with"
      " N >= 1, one row and one column a node."
    )
  bad = np.argwhere((matrix != 0) & (matrix != 1))
  if len(bad):
    i, j = bad[0]
    raise ValueError(
      f"edges[{i}, {j}] is {matrix[i, j]}: allowed are 0 and 1. Decode"
      " a continuous adjacency with graphs.decode."
    )


def _rank(matrix):
  """int [N]: every edge leads from a larger to a smaller rank; refuses cycles."""
  rank = np.empty(len(matrix), int)
  left = np.arange(len(matrix))
  while len(left):
    heard = matrix[np.ix_(left, left)].any(axis=0)
    if heard.all():
      raise ValueError(
        f"edges have a cycle among or above the nodes {left.tolist()}:"
        " a graph must be acyclic, remove an edge of the cycle."
      )
    rank[left[~heard]] = np.arange(heard.sum(), len(left))
    left = left[heard]
  return rank


def _end_node(matrix, end):
  silent = ~matrix.any(axis=1)
  if end is not None:
    if not 0 <= end < len(matrix) or not silent[end]:
      raise ValueError(
        f"end={end}: allowed is a node in 0..{len(matrix) - 1} without"
        f" outgoing edges: {np.flatnonzero(silent).tolist()}."
      )
    return end
  ends = np.flatnonzero(silent & (matrix.any(axis=0) | (len(matrix) == 1)))
  if len(ends) != 1:
    raise ValueError(
      f"edges have {len(ends)} end nodes, {ends.tolist()}: exactly one"
      " node may hear others and speak to nobody. Add edges, or say"
      " which one answers with end=."
    )
  return int(ends[0])
