"""A graph of perfect experts, walked in plain Python."""

import numpy as np

from jswarm.graphs import dag as dag_lib


def graph(edges, n=10):
  """The Dag of pairs (speaker, hearer)."""
  matrix = np.zeros((n, n))
  for speaker, hearer in edges:
    matrix[speaker, hearer] = 1
  return dag_lib.from_edges(matrix)


def walk(dag, say):
  """What the end node says; `say(node, heard)` is what a node does."""
  edges, depth = np.asarray(dag.edges), np.asarray(dag.depth)
  said = {}
  for node in sorted(np.flatnonzero(depth >= 0), key=lambda v: (depth[v], v)):
    heard = [said[v] for v in np.flatnonzero(edges[:, node]) if v in said]
    said[node] = say(int(node), heard)
  return said[int(dag.end)]
