"""Children are acyclic, whole, and not far from their parents."""

import functools

import jax
import numpy as np
import pytest

from jswarm.graphs import decode, topologies
from jswarm.graphs.dag import rank_of
from jswarm.graphs.mutate import mutate


@functools.cache
def _children(size, single, count=200):
  keys = jax.random.split(jax.random.key(0), count)
  adjacency = decode.init_adjacency(jax.random.key(3), count, size)
  settings = decode.Settings(edge_mode="single" if single else "multi")
  parents = decode.decode_swarm(adjacency, keys, settings)
  make = jax.jit(jax.vmap(mutate, (0, 0, None)), static_argnums=2)
  return parents, make(keys, parents, single)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("size", [2, 3, 10])
def test_children_are_acyclic_and_every_node_but_the_end_speaks(size, single):
  children = jax.tree.map(np.asarray, _children(size, single)[1])
  for g in range(25):
    edges, end = np.asarray(children.edges[g]), int(children.end[g])
    # Raises for a cycle, and where the end node speaks.
    again = decode.from_edges(edges, end)
    np.testing.assert_array_equal(again.active, children.active[g])
    spoken = edges.sum(axis=1)
    assert spoken[end] == 0
    assert (np.delete(spoken, end) >= 1).all()
    assert not single or (spoken <= 1).all()


@pytest.mark.parametrize("single", [True, False])
def test_most_edges_are_inherited_and_most_children_are_new(single):
  parents, children = _children(10, single)
  shared = np.asarray(parents.edges & children.edges).sum(axis=(1, 2))
  of = np.asarray(parents.edges).sum(axis=(1, 2))
  assert 0.5 < (shared / of).mean() < 0.95
  same = (np.asarray(parents.edges) == np.asarray(children.edges)).all(axis=(1, 2))
  assert same.mean() < 0.35


def test_every_tree_of_three_nodes_is_reached_from_any():
  graph, seen = topologies.chain(3), set()
  step = jax.jit(mutate, static_argnums=2)
  for k in range(300):
    graph = step(jax.random.key(k), graph, True)
    seen.add(np.asarray(graph.edges).tobytes())
  assert len(seen) == 9  # rooted trees over three named nodes


def test_a_single_node_stays_as_it_is():
  graph = topologies.chain(1)
  child = mutate(jax.random.key(0), graph)
  jax.tree.map(np.testing.assert_array_equal, child, graph)


def test_ranks_fall_along_every_edge_of_an_active_node():
  parents, _ = _children(10, False)
  ranks = np.asarray(jax.jit(jax.vmap(rank_of))(parents))
  for g, rank in enumerate(ranks):
    graph = jax.tree.map(lambda leaf, g=g: leaf[g], parents)
    assert sorted(rank) == list(range(10)) and rank[int(graph.end)] == 0
    for u, v in np.argwhere(np.asarray(graph.edges)):
      assert rank[u] > rank[v]
