"""A graph that was executed -> an adjacency that decodes to it, or nearly.

    Dag -> imprint -> adjacency -> decode.decode_swarm -> Dag

An adjacency says little about a graph that was sampled from it: a softmax over numbers
in (0, 1) is nearly flat, so the next sample is another graph. A best that is to be
found again holds the graph itself, written as an adjacency.
"""

import jax
import jax.numpy as jnp

from jswarm.core import quick
from jswarm.graphs.dag import Dag, rank_of

EDGE = 5.0  # an edge above the rest of its row: e^5 times as probable as each of them
STEP = 3.0  # row sums of nodes drawn one after the other: e^3 times as probable


@quick.jit
def imprint(dag: Dag) -> jax.Array:
  """float32 [N, N]: preferences that a graph follows from.

  Greedily decoded with one edge a node it is the same graph, if every node of it
  speaks to one node; sampled with top-p 0.8 it is nearly the same.

  Args:
    dag: fields [N]; batched ones through vmap.

  Returns:
    A row's edges stand `EDGE` above the rest of the row. The end node's row adds up to
    0; the others' sums fall by `STEP` with the rank, as decoding draws them.
  """
  size = len(dag.order)
  edges = dag.edges.astype(jnp.float32)
  rank = rank_of(dag)
  sums = jnp.where(rank == 0, 0.0, STEP * (size - rank))
  # A row of k edges x + EDGE and otherwise x, the diagonal left out, has that sum.
  rest = (sums - EDGE * jnp.sum(edges, axis=1)) / max(size - 1, 1)
  return jnp.where(jnp.eye(size, dtype=bool), 0.0, rest[:, None] + EDGE * edges)
