"""A multi-LLM system: what is searched (`System`) and what is executed (`Job`)."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import numpy as np

from jswarm.core.types import PyTree
from jswarm.graphs import dag as dag_lib


class Job(NamedTuple):
  """One multi-LLM system to execute. All arrays live on the host.

  Attributes:
    edges: bool [N, N]; edges[i, j]: what node i says is given to node j.
    depth: int [N]; wave in which the node runs, -1 for a node that never runs.
    position: int [N]; place of the node in the topological order.
    end: the node whose reply is the system's.
    assignment: int [N]; the expert that each node holds.
  """

  edges: np.ndarray
  depth: np.ndarray
  position: np.ndarray
  end: int
  assignment: tuple[int, ...]


def make_job(dag, assignment: Sequence[int] | None = None) -> Job:
  """A host job from a `decode.Dag`; node i holds expert i unless told otherwise."""
  edges = np.asarray(dag.edges, bool)
  order = np.asarray(dag.order)
  position = np.empty(len(order), int)
  position[order] = np.arange(len(order))
  holders = range(len(edges)) if assignment is None else assignment
  return Job(
    edges, np.asarray(dag.depth), position, int(dag.end), tuple(int(e) for e in holders)
  )


def single(expert: int) -> Job:
  """The system of one expert alone; it reads the first node's prompt."""
  zero = np.zeros(1, int)
  return Job(np.zeros((1, 1), bool), zero, zero, 0, (expert,))


@flax.struct.dataclass
class Graph:
  """A continuous adjacency with the DAG that was decoded from it and executed.

  With top-p decoding each decode is another draw, so the two stay together.
  """

  adjacency: jax.Array  # float32 [N, N]
  dag: dag_lib.Dag


@flax.struct.dataclass
class System:
  """A multi-LLM system that was scored: the result of a search.

  Attributes:
    graph: what was executed, never decoded again.
    assignment: int32 [N], node -> expert.
    weights: for each group of the pool, [E_group, ...] leaves.
    utility: on the dev split; iteration and step: when it was scored.
  """

  graph: Graph
  assignment: jax.Array
  weights: tuple[PyTree, ...]
  utility: jax.Array  # float32 []
  iteration: jax.Array  # int32 []
  step: jax.Array  # int32 []: 0 role, 1 weight
