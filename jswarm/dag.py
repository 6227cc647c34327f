"""What is executed: a directed acyclic graph of nodes, as arrays.

    edges, end -> make_dag -> Dag -> messages

A `Dag` comes out of `graphs.decode`, out of `topologies`, or, through
`from_edges`, out of a file. Everything but `from_edges` works under jit and vmap.
"""

from collections.abc import Sequence

import flax.struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np


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


@jax.jit
def make_dag(edges: jax.Array, end: jax.Array) -> Dag:
  """The Dag of acyclic edges [N, N] and their end node; see `Dag`."""
  active = _reaches(edges, end)
  live = edges & active[:, None] & active[None, :]
  depth = _longest_path(live, jnp.ones_like(live, jnp.int32))
  return Dag(
      edges=edges, order=_order(live, active), end=jnp.asarray(end, jnp.int32),
      active=active, depth=jnp.where(active, depth, -1))


def _reaches(edges, end):
  """bool [N]: the nodes with a path to `end`, `end` among them."""
  size = len(edges)
  grow = lambda _, seen: seen | jnp.any(edges & seen[None, :], axis=1)
  return lax.fori_loop(0, size, grow, jnp.arange(size) == end)


def _longest_path(edges, lengths):
  """int32 [N]: greatest sum of edge lengths on a path that leads to the node."""
  def relax(_, longest):
    through = jnp.where(edges, longest[:, None] + lengths, 0)
    return jnp.max(through, axis=0)
  return lax.fori_loop(0, len(edges), relax, jnp.zeros(len(edges), jnp.int32))


def _order(live, active):
  """The order of the public executor, which sweeps over the nodes by index.

  It executes whatever is ready until all is done, so a node waits one more sweep
  for each edge on its way that leads to a smaller index, and none otherwise.
  """
  node = jnp.arange(len(live))
  backward = (node[:, None] > node[None, :]).astype(jnp.int32)
  sweep = _longest_path(live, backward)
  return jnp.lexsort((node, sweep, ~active)).astype(jnp.int32)


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
  _check_acyclic(matrix)
  return make_dag(jnp.asarray(matrix), jnp.int32(_end_node(matrix, end)))


def _check_matrix(matrix):
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
    raise ValueError(f"edges have the shape {matrix.shape}: allowed is [N, N] with"
                     " N >= 1, one row and one column a node.")
  bad = np.argwhere((matrix != 0) & (matrix != 1))
  if len(bad):
    i, j = bad[0]
    raise ValueError(f"edges[{i}, {j}] is {matrix[i, j]}: allowed are 0 and 1. Decode"
                     " a continuous adjacency with graphs.decode.")


def _check_acyclic(matrix):
  left = np.arange(len(matrix))
  while len(left):
    heard = matrix[np.ix_(left, left)].any(axis=0)
    if heard.all():
      raise ValueError(f"edges have a cycle among or above the nodes {left.tolist()}:"
                       " a graph must be acyclic, remove an edge of the cycle.")
    left = left[heard]


def _end_node(matrix, end):
  silent = ~matrix.any(axis=1)
  if end is not None:
    if not 0 <= end < len(matrix) or not silent[end]:
      raise ValueError(f"end={end}: allowed is a node in 0..{len(matrix) - 1} without"
                       f" outgoing edges: {np.flatnonzero(silent).tolist()}.")
    return end
  ends = np.flatnonzero(silent & (matrix.any(axis=0) | (len(matrix) == 1)))
  if len(ends) != 1:
    raise ValueError(f"edges have {len(ends)} end nodes, {ends.tolist()}: exactly one"
                     " node may hear others and speak to nobody. Add edges, or say"
                     " which one answers with end=.")
  return int(ends[0])
