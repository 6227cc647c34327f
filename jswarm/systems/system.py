"""A multi-LLM system: what is searched (`System`) and what is executed (`Job`)."""

from collections.abc import Hashable, Sequence
import dataclasses
import functools
import hashlib

import flax.struct
import jax
import numpy as np

from jswarm.core.types import PyTree
from jswarm.graphs import dag as dag_lib
from jswarm.systems.answerer import Answering, Ask
from jswarm.systems.prompts import Question, Terms, node_prompt
from jswarm.systems.weights import Weights


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
  """One graph of experts, ready to execute: an `Answerer`. Its arrays are the host's.

  Attributes:
    edges: bool [N, N]; edges[i, j]: what node i says is given to node j.
    depth: int [N]; wave in which the node runs, -1 for a node that never runs.
    position: int [N]; place of the node in the topological order.
    end: the node whose reply is the system's.
    assignment: [N]; the expert that each node holds.
    weights: of those experts; None: those that the pool came with.
  """

  edges: np.ndarray
  depth: np.ndarray
  position: np.ndarray
  end: int
  assignment: tuple[int, ...]
  weights: Weights | None = None

  @functools.cached_property
  def waves(self) -> list[list[tuple[int, list[int]]]]:
    """For each depth its nodes, each with the nodes that it hears."""
    heard = self.edges & (self.depth >= 0)[:, None]
    return [
      [(int(n), np.flatnonzero(heard[:, n]).tolist()) for n in nodes]
      for nodes in (np.flatnonzero(self.depth == w) for w in range(self.size))
    ]

  @property
  def size(self) -> int:
    """Waves: the depth of the deepest node that runs, plus one."""
    return 1 + int(self.depth.max())

  @property
  def digest(self) -> str:
    """Eight hex digits: equal for systems that execute the same graph of experts."""
    return hashlib.sha256(repr(self._identity).encode()).hexdigest()[:8]

  def members(self) -> Sequence[int]:
    return [e for e, d in zip(self.assignment, self.depth) if d >= 0]

  @functools.cached_property
  def _identity(self):
    runs = self.depth >= 0
    return (
      (self.edges & runs[:, None] & runs).tobytes(),
      self.depth.tobytes(),
      self.end,
      tuple(e if r else -1 for e, r in zip(self.assignment, runs)),
    )

  def identity(self, question: Question, terms: Terms) -> Hashable:
    """Its executed nodes alone, and their places where chunks are read by place."""
    placed = question.chunks and terms.wording.chunks_by == "position"
    places = self.position[self.depth >= 0].tobytes() if placed else b""
    return type(self), self._identity, places

  def answer(self, question: Question, terms: Terms) -> Answering:
    said: dict[int, str] = {}
    for nodes in self.waves:
      replies = yield [
        self._ask(node, [said[p] for p in heard], question, terms)
        for node, heard in nodes
      ]
      said.update(zip((node for node, _ in nodes), replies))
    return said[self.end]

  def _ask(self, node, replies, question, terms):
    wording, expert = terms.wording, self.assignment[node]
    instruction = wording.first
    if replies:
      instruction = wording.last if node == self.end else wording.middle
    place = self.position[node] if wording.chunks_by == "position" else node
    # There are chunks for as many nodes as the pool has experts; a graph may have more.
    chunks = question.chunks
    chunk = chunks[place % len(chunks)] if chunks else ""
    prompt, cut = node_prompt(question, replies, chunk, instruction, expert, terms)
    return Ask(expert, prompt, node, cut)


def make_job(
  dag: dag_lib.Dag,
  assignment: Sequence[int] | None = None,
  weights: Weights | None = None,
) -> Job:
  """A host job from a `dag.Dag`; node i holds expert i unless told otherwise."""
  edges = np.asarray(dag.edges, bool)
  order = np.asarray(dag.order)
  position = np.empty(len(order), int)
  position[order] = np.arange(len(order))
  holders = range(len(edges)) if assignment is None else assignment
  return Job(
    edges,
    np.asarray(dag.depth),
    position,
    int(dag.end),
    tuple(int(e) for e in holders),
    weights,
  )


def single(expert: int, weights: Weights | None = None) -> Job:
  """The system of one expert alone; it reads the first node's prompt."""
  zero = np.zeros(1, int)
  return Job(np.zeros((1, 1), bool), zero, zero, 0, (expert,), weights)


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
