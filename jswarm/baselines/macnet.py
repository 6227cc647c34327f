"""MACNet: solutions travel along the edges of a graph and are improved on each.

Qian et al., arXiv 2406.07155. On an edge u -> v, v is asked twice: as an instructor,
what is wrong with u's solution, and as an assistant, to mend it. Only solutions travel.
"""

from collections.abc import Hashable, Sequence
import dataclasses
import functools
import re
from typing import NamedTuple

import numpy as np

from jswarm.baselines import asking
from jswarm.baselines.base import Found, Setting
from jswarm.core import lookup
from jswarm.graphs import topologies
from jswarm.systems.answerer import Answering
from jswarm.systems.prompts import Question, Terms
from jswarm.systems.weights import Weights

FAMILIES = ("chain", "star", "tree", "mesh", "layered", "random")
_GROUP = 2  # solutions that are merged at a time


class Words(NamedTuple):
  """What a node is asked; own words. `finished` ends an instructor's doubts."""

  solve: str = "Answer the question below."
  instruct: str = (
    "The response below is an answer to the question. Point out the most serious"
    " mistake in it. If there is none, reply only [Finished]."
  )
  assist: str = (
    "Response 1 below is an answer to the question, response 2 says what is wrong with"
    " it. Give the corrected answer in full."
  )
  merge: str = (
    "The responses below are answers to the question. Compare them and give one answer"
    " that keeps what is right in them."
  )
  finished: str = r"\bfinished\b"


@dataclasses.dataclass(frozen=True, eq=False)
class MacNet:
  """Experts on the nodes of a DAG; node i is held by expert i.

  A node works when all of its predecessors have a solution, and merges what it made of
  them two at a time. What several ends came to, `sink` merges.

  Attributes:
    edges: bool [N, N], edges[u, v] only for u < v.
    sink: an expert.
    words: what is asked.
  """

  edges: np.ndarray
  sink: int
  words: Words = Words()
  weights: Weights | None = None

  def __post_init__(self):
    if np.tril(self.edges).any():
      raise ValueError("edges of MACNet lead from a node to later ones alone.")

  @functools.cached_property
  def heard(self) -> list[list[int]]:
    """The nodes that each node hears."""
    return [np.flatnonzero(column).tolist() for column in self.edges.T]

  @functools.cached_property
  def layers(self) -> list[list[int]]:
    """Nodes by depth: each stands behind all that it hears."""
    depth: list[int] = []
    for heard in self.heard:
      depth.append(1 + max((depth[u] for u in heard), default=-1))
    return [
      [v for v, d in enumerate(depth) if d == layer] for layer in range(1 + max(depth))
    ]

  @property
  def ends(self) -> list[int]:
    """The nodes that speak to nobody."""
    return np.flatnonzero(~self.edges.any(1)).tolist()

  @property
  def most(self) -> int:
    """Calls that an answer takes at most: fewer where an instructor has finished."""
    indegree = self.edges.sum(0)
    merges = np.maximum(indegree - 1, 0).sum() + len(self.ends) - 1
    return int(2 * indegree.sum() + (indegree == 0).sum() + merges)

  def members(self) -> Sequence[int]:
    return [*range(len(self.edges)), self.sink]

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.edges.tobytes(), self.sink, self.words

  def answer(self, question: Question, terms: Terms) -> Answering:
    ask = functools.partial(self._ask, question=question, terms=terms)
    solution: dict[int, str] = {}
    for layer in self.layers:
      # 1. Sources answer; the others say, as instructors, what is wrong.
      sources = [v for v in layer if not self.heard[v]]
      pairs = [(u, v) for v in layer for u in self.heard[v]]
      said = yield [
        *[ask(v, self.words.solve, []) for v in sources],
        *[ask(v, self.words.instruct, [solution[u]]) for u, v in pairs],
      ]
      solution.update(zip(sources, said))
      comments = dict(zip(pairs, said[len(sources) :]))
      # 2. As assistants they mend it, where something is.
      drafts = yield from self._mended(ask, solution, comments)
      # 3. And merge what they made of all of their predecessors.
      made = {v: [drafts[u, v] for u in self.heard[v]] for v in layer if self.heard[v]}
      solution |= yield from self._merged(ask, made)
    last = {-1: [solution[v] for v in self.ends]}
    return (yield from self._merged(ask, last))[-1]

  def _mended(self, ask, solution, comments):
    """{(u, v): u's solution as v has it}."""
    ended = lambda text: re.search(self.words.finished, text, re.IGNORECASE)
    wrong = {pair: said for pair, said in comments.items() if not ended(said)}
    drafts = {(u, v): solution[u] for u, v in comments}
    if wrong:
      said = yield [
        ask(v, self.words.assist, [solution[u], comment])
        for (u, v), comment in wrong.items()
      ]
      drafts.update(zip(wrong, said))
    return drafts

  def _merged(self, ask, drafts):
    """{node: one solution}, of several each; rounds of pairs, of all nodes together."""
    while max(map(len, drafts.values()), default=1) > 1:
      pairs = {
        (v, first): mine[first : first + _GROUP]
        for v, mine in drafts.items()
        for first in range(0, len(mine), _GROUP)
      }
      several = [place for place, pair in pairs.items() if len(pair) > 1]
      said = yield [ask(v, self.words.merge, pairs[v, first]) for v, first in several]
      winners = {place: pair[0] for place, pair in pairs.items()}
      winners.update(zip(several, said))
      drafts = {v: [] for v in drafts}
      for (v, _), winner in winners.items():
        drafts[v].append(winner)
    return {v: mine[0] for v, mine in drafts.items()}

  def _ask(self, node, instruction, replies, question, terms):
    expert = self.sink if node < 0 else node
    return asking.ask(node, expert, instruction, replies, question, terms)


def topology(name: str, size: int, seed: int = 0) -> np.ndarray:
  """bool [N, N] of a family: edges lead from a node to later ones.

  chain; star, node 0 to all others; tree, i to 2i + 1 and 2i + 2; mesh, to all later
  ones; layered, floor(log2 N) layers of equal size; random, from N - 1 to all of the
  mesh's edges.

  Raises:
    ValueError: no such family.
  """
  lookup.check("topology", name, FAMILIES)
  edges = np.zeros((size, size), bool)
  later = np.triu(np.ones((size, size), bool), 1)
  node = np.arange(size)
  if name == "chain":
    return np.asarray(topologies.chain(size).edges)
  if name == "mesh":
    return later
  if name == "star":
    edges[0, 1:] = True
  elif name == "tree":
    edges[(node[1:] - 1) // 2, node[1:]] = True
  elif name == "layered":
    layers = np.array_split(node, max(1, int(np.log2(size))))
    for speakers, hearers in zip(layers, layers[1:]):
      edges[np.ix_(speakers, hearers)] = True
  else:
    rng, pairs = np.random.default_rng(seed), np.argwhere(later)
    count = rng.integers(min(size - 1, len(pairs)), len(pairs) + 1)
    edges[tuple(rng.permutation(pairs)[:count].T)] = True
  return edges


def macnet(setting: Setting) -> Found:
  """The family of graphs that is best on dev, all experts as the pool names them.

  Families are tried while the budget holds the most calls of the next one, the cheapest
  first; the best expert on dev merges where a graph has several ends. Options:
  `topologies` (all six).
  """
  size, sink = len(setting.experts.names), setting.by_dev[0]
  tried = []
  for name in setting.option("topologies", FAMILIES):
    edges = topology(name, size, setting.seed)
    tried.append((name, MacNet(edges, sink, weights=setting.first)))
  tried.sort(key=lambda named: named[1].most)
  bought, cost = [], 0
  for name, answerer in tried:
    cost += answerer.most * len(setting.problem.examples)
    if not setting.left(cost):
      break
    bought.append((name, answerer))
  dev = float("nan")
  name, answerer = tried[0]
  if bought:
    index, dev = setting.best([answerer for _, answerer in bought])
    name, answerer = bought[index]
  notes = {"topology": name, "tried": [name for name, _ in bought]}
  return Found(answerer, dev, notes=notes)
