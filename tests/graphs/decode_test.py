"""Any finite adjacency becomes a graph that can be executed."""

import dataclasses
import json
import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from jswarm.graphs import dag as dag_lib
from jswarm.graphs import decode as decode_lib
from jswarm.graphs import topologies

GOLDEN = json.loads(
  (pathlib.Path(__file__).parents[1] / "golden/decode.json").read_text()
)
EVERY_SETTING = [
  decode_lib.Settings(top_p=p, edge_mode=mode, threshold=tau, as_published=published)
  for p, mode, tau, published in (
    (0.0, "single", 0.0, False),
    (0.8, "single", 0.0, False),
    (1.0, "single", 0.2, False),
    (0.8, "single", 0.0, True),
    (0.8, "multi", 0.2, False),
  )
]
NASTY = [0.0, -0.0, 1.0, -1.0, 0.5, 1e30, -1e30, 3e38, -3e38, 1e-30, 1e-45, 0.2, 1e-3]


def adjacencies():
  entries = st.sampled_from(NASTY) | st.floats(-2, 2, width=32)
  sizes = st.sampled_from((1, 5))  # few, since each is compiled
  return sizes.flatmap(lambda n: hnp.arrays(np.float32, (n, n), elements=entries))


def check_executable(dag, adjacency, threshold):
  """Acyclic, one active sink, everything active reaches it, depths as networkx's."""
  edges, active, end = np.asarray(dag.edges), np.asarray(dag.active), int(dag.end)
  graph = nx.from_numpy_array(edges, create_using=nx.DiGraph)
  assert nx.is_directed_acyclic_graph(graph)
  assert not edges[end].any() and not edges.diagonal().any()
  assert set(np.flatnonzero(active)) == nx.ancestors(graph, end) | {end}
  live = graph.subgraph(np.flatnonzero(active))
  assert [n for n in live if live.out_degree(n) == 0] == [end]
  depth = np.full(len(edges), -1)
  for d, layer in enumerate(nx.topological_generations(live)):
    depth[list(layer)] = d
  np.testing.assert_array_equal(dag.depth, depth)
  order = np.asarray(dag.order)
  assert sorted(order) == list(range(len(edges)))
  assert active[order].tolist() == sorted(active, reverse=True)
  place = np.argsort(order)
  assert all(place[i] < place[j] for i, j in live.edges)
  if threshold > 0:
    assert (adjacency[edges] >= threshold).all()
  else:
    assert active.all() and (edges.sum(1) >= 1).sum() == len(edges) - 1


def decode(adjacency, key, setting):
  return decode_lib.decode(adjacency, key, **dataclasses.asdict(setting))


def test_decode_reproduces_the_published_decoder():
  assert len(GOLDEN) == 130
  for case in GOLDEN:
    dag = decode_lib.decode(np.array(case["adjacency"], np.float32))
    np.testing.assert_array_equal(dag.edges, case["edges"])
    assert dag.order.tolist() == case["topological_order"]
    assert int(dag.end) == case["end"]


@pytest.mark.parametrize("setting", EVERY_SETTING, ids=str)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(adjacency=adjacencies(), seed=st.integers(0, 2**31))
def test_every_finite_adjacency_becomes_an_executable_graph(setting, adjacency, seed):
  before = adjacency.copy()
  dag = decode(adjacency, jax.random.key(seed), setting)
  np.testing.assert_array_equal(adjacency, before)
  check_executable(dag, adjacency, setting.threshold)
  if setting.edge_mode == "single":
    assert (np.asarray(dag.edges).sum(1) <= 1).all()


@pytest.mark.parametrize("setting", EVERY_SETTING, ids=str)
def test_a_swarm_decodes_like_its_graphs_one_by_one(setting):
  adjacency = decode_lib.init_adjacency(jax.random.key(1), 5, 5)
  keys = jax.random.split(jax.random.key(2), 5)
  swarm = decode_lib.decode_swarm(adjacency, keys, setting)
  for g in range(5):
    one = decode(adjacency[g], keys[g], setting)
    jax.tree.map(
      np.testing.assert_array_equal, one, jax.tree.map(lambda leaf, g=g: leaf[g], swarm)
    )


def test_top_p_draws_nodes_and_then_edges():
  # Out-degrees 0.1, 3, 1: the end is node 0; then node 1 has softmax 0.881.
  adjacency = jnp.array([[0, 0.05, 0.05], [2, 0, 1], [0.5, 0.5, 0]], jnp.float32)
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = lambda **kw: decode_lib.decode_swarm(
    jnp.broadcast_to(adjacency, (4000, 3, 3)), keys, decode_lib.Settings(**kw)
  )
  strict = draw(top_p=0.8)
  assert set(strict.end.tolist()) == {0} and strict.edges[:, 1, 0].all()
  assert abs(float(strict.edges[:, 2, 0].mean()) - 0.5) < 0.03
  # Edge 1 -> 2 needs node 2 to join first (0.119), and to be chosen (0.269).
  assert abs(float(draw(top_p=0.9).edges[:, 1, 2].mean()) - 0.119 * 0.269) < 0.01


@pytest.mark.parametrize(
  "p, published, expected",
  [
    (0.0, True, [1, 0, 0, 0]),
    (0.78, False, [1, 0, 0, 0]),
    (0.85, False, [78 / 89, 11 / 89, 0, 0]),
    (1.0, False, [0.78, 0.11, 0.06, 0.05]),
    (1.0, True, [0.40, 0.21, 0.20, 0.19]),
  ],
)
def test_the_nucleus_is_renormalised_unless_as_published(p, published, expected):
  setting = decode_lib.Settings(top_p=p, as_published=published)
  scores = jnp.log(jnp.array([0.78, 0.11, 0.06, 0.05]))
  noise = jax.random.uniform(jax.random.key(0), (4000, 4), minval=1e-30)
  mask, p = jnp.ones(4, bool), setting.top_p
  drawn = jax.vmap(lambda u: decode_lib._top_p(u, scores, mask, setting, p))(noise)
  share = np.bincount(drawn, minlength=4) / 4000
  np.testing.assert_allclose(share, expected, atol=0.03)


def test_multi_mode_draws_each_edge_by_its_probability():
  adjacency = jnp.array([[0, 0.01, 0.01], [0, 0, 3], [1, 1, 0]], jnp.float32)
  keys = jax.random.split(jax.random.key(0), 4000)
  edges = decode_lib.decode_swarm(
    jnp.broadcast_to(adjacency, (4000, 3, 3)),
    keys,
    decode_lib.Settings(top_p=0.0, edge_mode="multi"),
  ).edges
  # Node 2 joins last with softmax (.5, .5); nothing drawn (1/4) forces node 1.
  assert abs(float(edges[:, 2, 0].mean()) - 0.5) < 0.03
  assert abs(float(edges[:, 2, 1].mean()) - 0.75) < 0.03


def test_a_threshold_leaves_nodes_without_edges_unconnected():
  adjacency = np.array([[0, 0.1, 0.1], [0.9, 0, 0.8], [0.15, 0.1, 0]], np.float32)
  dag = decode_lib.decode(adjacency, threshold=0.2)
  assert dag.edges.sum() == 1 and dag.edges[1, 2] and int(dag.end) == 2
  assert dag.active.tolist() == [False, True, True]
  assert dag.depth.tolist() == [-1, 0, 1] and dag.order.tolist() == [1, 2, 0]


@pytest.mark.parametrize("name", decode_lib.TOPOLOGIES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_topologies_are_executable_and_whole(name, n):
  check_executable(
    decode_lib.topology(name, n, jax.random.key(n)), np.zeros((n, n)), 0.0
  )


def test_topologies_have_the_shape_of_their_name():
  size = lambda name: int(decode_lib.topology(name, 10, jax.random.key(0)).edges.sum())
  assert {
    name: size(name) for name in ("chain", "star", "complete", "random", "tree")
  } == {"chain": 9, "star": 9, "complete": 45, "random": 9, "tree": 9}
  depth = lambda name: int(decode_lib.topology(name, 10).depth.max())
  assert (depth("chain"), depth("star"), depth("tree"), depth("layered")) == (
    9,
    1,
    3,
    2,
  )
  assert (depth("broadcast"), size("broadcast")) == (2, 16)
  assert int(topologies.star(4, hub=1).end) == 1
  with pytest.raises(ValueError, match="known are chain, star, complete"):
    decode_lib.topology("ring", 3)


def test_edges_of_a_file_are_the_same_graph_again():
  dag = decode_lib.decode(np.array(GOLDEN[50]["adjacency"], np.float32))
  again = dag_lib.from_edges(np.asarray(dag.edges).astype(int))
  jax.tree.map(np.testing.assert_array_equal, dag, again)


@pytest.mark.parametrize(
  "edges, words",
  [
    ([[0, 1], [1, 0]], "cycle"),
    ([[1, 0], [0, 0]], "cycle"),
    ([[0, 2], [0, 0]], r"edges\[0, 1\] is 2"),
    ([[0, 1, 1], [0, 0, 0], [0, 0, 0]], r"2 end nodes, \[1, 2\]"),
    ([[0, 0], [0, 0]], "0 end nodes"),
    ([[0, 1]], "shape"),
  ],
)
def test_edges_that_are_no_graph_are_refused(edges, words):
  with pytest.raises(ValueError, match=words):
    dag_lib.from_edges(edges)


def test_an_end_may_be_named_where_several_nodes_could_be():
  dag = dag_lib.from_edges([[0, 1, 1], [0, 0, 0], [0, 0, 0]], end=2)
  assert dag.active.tolist() == [True, False, True]
  with pytest.raises(ValueError, match="without outgoing edges"):
    dag_lib.from_edges([[0, 1], [0, 0]], end=0)


def test_entries_that_are_not_finite_are_named():
  adjacency = np.zeros((3, 4, 4), np.float32)
  decode_lib.check_adjacency(adjacency)
  adjacency[2, 1, 3] = np.nan
  with pytest.raises(ValueError, match=r"graph 2, entry \[1, 3\] is nan .*finite"):
    decode_lib.check_adjacency(adjacency)
  with pytest.raises(ValueError, match="shape"):
    decode_lib.check_adjacency(np.zeros((3, 4)))


@pytest.mark.parametrize(
  "field",
  [{"top_p": 1.5}, {"top_p": float("nan")}, {"edge_mode": "many"}, {"threshold": -0.1}],
)
def test_settings_out_of_range_are_refused_by_name(field):
  with pytest.raises(ValueError, match=next(iter(field))):
    decode_lib.Settings(**field)


def test_random_decoding_asks_for_a_key():
  for setting in ({"top_p": 0.5}, {"edge_mode": "multi"}):
    with pytest.raises(ValueError, match="key is None"):
      decode_lib.decode(jnp.zeros((3, 3)), **setting)
  with pytest.raises(ValueError, match="decode_swarm"):
    decode_lib.decode(jnp.zeros((2, 3, 3)))


def test_greedy_swarms_need_no_keys():
  adjacency = decode_lib.init_adjacency(jax.random.key(1), 5, 5)
  swarm = decode_lib.decode_swarm(adjacency, None, decode_lib.Settings(top_p=0.0))
  for g in range(5):
    np.testing.assert_array_equal(swarm.edges[g], decode_lib.decode(adjacency[g]).edges)


def test_initial_graphs_do_not_depend_on_how_many_there_are():
  key = jax.random.key(0)
  many = decode_lib.init_adjacency(key, 8, 5)
  np.testing.assert_array_equal(decode_lib.init_adjacency(key, 5, 5), many[:5])
  assert (many >= 0).all() and (many < 1).all()
  assert not np.diagonal(many, axis1=1, axis2=2).any()


def test_an_entry_that_is_not_a_number_is_an_error_of_decode():
  with pytest.raises(ValueError, match=r"entry \[0, 1\] is nan"):
    decode_lib.decode(jnp.array([[0.0, jnp.nan], [1.0, 0.0]]))
