"""An adjacency made of a graph leads back to that graph."""

import jax
import numpy as np
import pytest

from jswarm.graphs import decode, topologies
from jswarm.graphs.imprint import imprint


def _graphs(count, size, **fields):
  keys = jax.random.split(jax.random.key(1), count)
  adjacency = decode.init_adjacency(jax.random.key(0), count, size)
  return decode.decode_swarm(adjacency, keys, decode.Settings(**fields))


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("top_p", [0.0, 0.8])
def test_the_greedy_decode_of_an_imprint_is_the_graph(size, top_p):
  graphs = _graphs(64, size, top_p=top_p)
  again = decode.decode_swarm(
    jax.vmap(imprint)(graphs), None, decode.Settings(top_p=0.0)
  )
  np.testing.assert_array_equal(again.edges, graphs.edges)
  np.testing.assert_array_equal(again.end, graphs.end)


def test_sampled_with_the_papers_p_an_imprint_is_nearly_the_graph():
  graphs = _graphs(64, 10)
  keys = jax.random.split(jax.random.key(2), 64)
  again = decode.decode_swarm(jax.vmap(imprint)(graphs), keys, decode.Settings())
  shared = np.asarray(again.edges & graphs.edges).sum(axis=(1, 2)) / 9
  assert shared.mean() > 0.9
  fresh = decode.decode_swarm(
    decode.init_adjacency(jax.random.key(0), 64, 10), keys, decode.Settings()
  )
  assert np.asarray(fresh.edges & graphs.edges).sum(axis=(1, 2)).mean() / 9 < 0.5


@pytest.mark.parametrize("make", [topologies.chain, topologies.star, topologies.tree])
def test_hand_made_graphs_come_back(make):
  graph = make(7)
  again = decode.decode(imprint(graph))
  np.testing.assert_array_equal(again.edges, graph.edges)
  assert int(again.end) == int(graph.end)


def test_edges_of_a_graph_with_several_a_node_are_the_likeliest_of_their_rows():
  graph = topologies.layered(9)
  adjacency, edges = np.asarray(imprint(graph)), np.asarray(graph.edges)
  for row, spoken in zip(adjacency, edges):
    if spoken.any():
      others = np.delete(row, np.flatnonzero(spoken))
      assert row[spoken].min() > others.max()
