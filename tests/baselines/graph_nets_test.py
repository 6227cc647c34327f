"""Networks on graphs: who sees whom, and what a label teaches."""

import numpy as np

from jswarm.baselines import graph_nets

SIZE = 5


def test_link_prediction_learns_the_label_of_each_edge():
  """An edge is good if the second node hears, bad if the third does."""
  rng = np.random.default_rng(0)
  edges = np.triu(rng.random((20, SIZE, SIZE)) < 0.6, 1)
  label = np.zeros(edges.shape, np.float32)
  label[:, :, 1], label[:, :, 2] = 1, 0
  label = np.where(edges, label, np.nan)
  features = rng.normal(size=(SIZE, graph_nets.WIDTH)).astype(np.float32)
  params = graph_nets.init(rng, graph_nets.WIDTH, ("weight",), ("speaker", "hearer"))
  params = graph_nets.fit(params, features, edges, label)
  logits = np.asarray(graph_nets.predict(params, features, edges[0]))
  assert logits.shape == (SIZE, SIZE)
  assert logits[0, 1] > 0 > max(logits[0, 2], logits[1, 2])


def test_a_node_attends_to_its_neighbours_alone():
  rng = np.random.default_rng(1)
  features = rng.normal(size=(SIZE, graph_nets.WIDTH)).astype(np.float32)
  params = graph_nets.init(rng, graph_nets.WIDTH, ("weight",), ("speaker", "hearer"))
  edges = np.zeros((SIZE, SIZE), bool)
  edges[0, 1] = edges[3, 4] = True
  moved = features.copy()
  moved[3] += 1
  before, after = (
    np.asarray(graph_nets.attend(params, f, edges)) for f in (features, moved)
  )
  np.testing.assert_allclose(before[:3], after[:3], rtol=1e-5)
  assert not np.allclose(before[4], after[4])


def test_a_convolution_keeps_nodes_apart_that_have_the_same_neighbours():
  rng = np.random.default_rng(2)
  features = rng.normal(size=(SIZE, graph_nets.WIDTH)).astype(np.float32)
  params = graph_nets.init(rng, graph_nets.WIDTH, ("own", "near"))
  edges = ~np.eye(SIZE, dtype=bool)
  states = np.asarray(graph_nets.convolve(params, features, edges))
  apart = np.abs(states[:, None] - states[None]).max(-1)
  assert (apart[~np.eye(SIZE, dtype=bool)] > 0.05).all()


def test_links_have_a_direction():
  rng = np.random.default_rng(3)
  params = graph_nets.init(rng, graph_nets.WIDTH, ("own", "near"))
  states = rng.normal(size=(SIZE, graph_nets.WIDTH)).astype(np.float32)
  logits = np.asarray(graph_nets.links(params, states))
  assert np.abs(logits - logits.T).max() > 0.1
