"""Hand-made graphs: the fixed baselines of a search, and its starting points.

Each is `(n, key) -> Dag`; the key is unused, so that all have one signature with
the random graph beside them in `decode.TOPOLOGIES`.
"""

import jax
import numpy as np

from jswarm.graphs.dag import Dag, from_edges


def chain(n: int, key: jax.Array | None = None) -> Dag:
  """0 -> 1 -> ... -> n-1."""
  del key
  return from_edges(np.eye(_size(n), k=1))


def star(n: int, key: jax.Array | None = None, *, hub: int = -1) -> Dag:
  """Every node speaks to the hub (the last node unless told otherwise)."""
  del key
  if not -_size(n) <= hub < n:
    raise ValueError(f"hub={hub}: allowed is a node in 0..{n - 1}, or -1 for the last.")
  edges = np.zeros((n, n))
  edges[:, hub] = 1
  edges[hub, hub] = 0
  return from_edges(edges)


def broadcast(n: int, key: jax.Array | None = None) -> Dag:
  """The first node speaks to all between, and those to the last: 1-8-1 of ten."""
  del key
  edges = np.zeros((_size(n), n))
  edges[0, 1 : n - 1] = 1
  edges[1 : n - 1, n - 1] = 1
  if n == 2:
    edges[0, 1] = 1
  return from_edges(edges)


def complete(n: int, key: jax.Array | None = None) -> Dag:
  """Every node speaks to all later ones."""
  del key
  return from_edges(np.triu(np.ones((_size(n), n)), k=1))


def layered(n: int, key: jax.Array | None = None) -> Dag:
  """About sqrt(n) layers, each speaking to all of the next; the last is one node."""
  del key
  edges = np.zeros((_size(n), n))
  layers = np.array_split(np.arange(n - 1), max(1, round(n**0.5) - 1))
  layers = [*layers, np.array([n - 1])]
  for speakers, hearers in zip(layers, layers[1:]):
    edges[np.ix_(speakers, hearers)] = 1
  return from_edges(edges)


def tree(n: int, key: jax.Array | None = None) -> Dag:
  """A binary tree in which children speak to parents; the last node is the root."""
  del key
  edges = np.zeros((_size(n), n))
  for place in range(1, n):  # as in a heap, counted from the root
    edges[n - 1 - place, n - 1 - (place - 1) // 2] = 1
  return from_edges(edges)


def _size(n):
  if n < 1:
    raise ValueError(f"n={n} nodes: a graph has at least one.")
  return n
