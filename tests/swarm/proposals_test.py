"""Where graphs come from, and what their utilities leave behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.graphs import decode, imprint
from jswarm.swarm import motion, proposals, pso

GRAPH = decode.Settings()
SIZE, NODES = 6, 5


def _swarm(method="pso", utility=None):
  keys = jax.random.split(jax.random.key(7), SIZE)
  adjacency = proposals.first(jax.random.key(0), SIZE, NODES, GRAPH)
  graphs = proposals.Graph(adjacency, decode.decode_swarm(adjacency, keys, GRAPH))
  settings = motion.Settings(method=method)
  value = jnp.arange(float(SIZE)) if utility is None else utility
  role = pso.start(jax.random.key(1), adjacency, value, settings)
  return proposals.Swarm(role, graphs), settings


def _step(swarm, settings, seed=0, graph=GRAPH):
  keys = jax.random.split(jax.random.key(seed))
  return proposals.propose(keys[0], keys[1], swarm, graph, settings)


def _learn(swarm, role, graphs, utility, method, imprints=False):
  scored = np.isfinite(utility)
  return proposals.learn(
    proposals.Swarm(role, swarm.bests), graphs, utility, scored, imprints, method
  )


@pytest.mark.parametrize("method", motion.METHODS)
def test_every_method_proposes_a_graph_a_particle_and_counts_its_move(method):
  swarm, settings = _swarm(method)
  role, graphs = _step(swarm, settings)
  assert graphs.adjacency.shape == (SIZE, NODES, NODES)
  np.testing.assert_array_equal(role.position, graphs.adjacency)
  assert int(role.iteration) == 1
  again, same = _step(swarm, settings)
  jax.tree.map(np.testing.assert_array_equal, (role, graphs), (again, same))


def test_random_graphs_owe_nothing_to_the_swarm():
  one, settings = _swarm("random")
  other, _ = _swarm("random", jnp.arange(float(SIZE))[::-1])
  np.testing.assert_array_equal(
    _step(one, settings)[1].dag.edges, _step(other, settings)[1].dag.edges
  )


def test_an_evolution_keeps_the_best_of_parents_and_children():
  swarm, settings = _swarm("evolution")
  role, graphs = _step(swarm, settings)
  utility = np.array([9, -1, np.nan, 4.5, -2, -3], np.float32)
  learnt = _learn(swarm, role, graphs, utility, "evolution")
  np.testing.assert_array_equal(learnt.role.best_utility, [9, 5, 4.5, 4, 3, 2])
  for place, source, index in ((0, graphs, 0), (1, swarm.bests, 5), (2, graphs, 3)):
    np.testing.assert_array_equal(
      learnt.bests.dag.edges[place], source.dag.edges[index]
    )


def test_only_the_best_graphs_have_children():
  swarm, settings = _swarm("evolution")  # graph 5 is the best, graph 0 the worst
  graph_of_the_worst = lambda leaf: leaf.at[:4].set(leaf[0])
  others = swarm._replace(bests=jax.tree.map(graph_of_the_worst, swarm.bests))
  children, same = (_step(s, settings)[1] for s in (swarm, others))
  jax.tree.map(np.testing.assert_array_equal, children, same)
  best_too = swarm._replace(
    bests=jax.tree.map(lambda x: x[:1].repeat(SIZE, 0), swarm.bests)
  )
  other = _step(best_too, settings)[1]
  assert not np.array_equal(children.dag.edges, other.dag.edges)


def test_of_equals_the_child_survives():
  swarm, settings = _swarm("evolution", jnp.zeros(SIZE))
  role, graphs = _step(swarm, settings)
  learnt = _learn(swarm, role, graphs, np.zeros(SIZE, np.float32), "evolution")
  jax.tree.map(np.testing.assert_array_equal, learnt.bests, graphs)


@pytest.mark.parametrize("imprints", [False, True])
def test_a_best_is_the_adjacency_or_the_graph_that_scored(imprints):
  swarm, settings = _swarm()
  role, graphs = _step(swarm, settings)
  utility = np.array([9, 0, 8, -1, 0, 0], np.float32)
  learnt = _learn(swarm, role, graphs, utility, "pso", imprints)
  # 1. Utilities and positions do not depend on what a best holds.
  told = pso.tell(role, utility)
  for name in ("position", "utility", "best_utility", "swarm_best_utility"):
    np.testing.assert_array_equal(getattr(learnt.role, name), getattr(told, name))
  # 2. Particles 0 and 2 found a new best.
  held = jax.vmap(imprint.imprint)(graphs.dag) if imprints else role.position
  for i in (0, 2):
    np.testing.assert_array_equal(learnt.role.best_position[i], held[i])
    np.testing.assert_array_equal(learnt.bests.dag.edges[i], graphs.dag.edges[i])
  np.testing.assert_array_equal(learnt.role.swarm_best_position, held[0])
  # 3. The others keep theirs.
  for i in (1, 3):
    np.testing.assert_array_equal(
      learnt.role.best_position[i], swarm.role.best_position[i]
    )
    np.testing.assert_array_equal(learnt.bests.dag.edges[i], swarm.bests.dag.edges[i])


def test_annealed_to_zero_decoding_is_greedy():
  adjacency = proposals.first(jax.random.key(0), SIZE, NODES, GRAPH)
  settings = decode.Settings(anneal=5)
  end = [proposals.decoded(jax.random.key(k), adjacency, settings, 5) for k in (1, 2)]
  np.testing.assert_array_equal(end[0].dag.edges, end[1].dag.edges)
  begin = [proposals.decoded(jax.random.key(k), adjacency, settings) for k in (1, 2)]
  assert (np.asarray(begin[0].dag.edges) != np.asarray(begin[1].dag.edges)).any()
  usual = proposals.decoded(jax.random.key(1), adjacency, GRAPH)
  np.testing.assert_array_equal(usual.dag.edges, begin[0].dag.edges)


def test_standard_preferences_read_the_end_node_from_the_diagonal():
  settings = decode.Settings(preferences="standard", temperature=1e-4)
  adjacency = proposals.first(jax.random.key(0), SIZE, NODES, settings)
  graphs = proposals.decoded(jax.random.key(1), adjacency, settings)
  diagonal = np.diagonal(np.asarray(adjacency), axis1=1, axis2=2)
  np.testing.assert_array_equal(graphs.dag.end, diagonal.argmax(axis=1))
  # At so low a temperature the key says nothing.
  again = proposals.decoded(jax.random.key(2), adjacency, settings)
  np.testing.assert_array_equal(graphs.dag.edges, again.dag.edges)


def test_a_price_on_entries_is_their_mean_off_the_diagonal():
  swarm, _ = _swarm()
  adjacency = jnp.asarray(np.full((2, 3, 3), -0.5) + 10 * np.eye(3))
  graphs = swarm.bests.replace(adjacency=adjacency)
  utility = np.array([0.75, np.nan], np.float32)
  found = proposals.worth(utility, graphs, 0.5)
  np.testing.assert_allclose(found, [0.5, np.nan])
  assert proposals.worth(utility, graphs, 0.0) is utility
  one = graphs.replace(adjacency=adjacency[0])
  assert float(proposals.worth(np.asarray(0.75, np.float32), one, 0.5)) == 0.5
