"""Graphs in which a node of its own decides: experts speak, one more node reads them.

  edges [N, N] -> answerer -> on_questions | on_dev

Node N - 1 decides; node i before it is held by expert i % E. Who decides is an option
of every method that draws such graphs: `decision="refer"`, the best expert on dev reads
what it hears, or "vote", what most of them say. If it hears nobody, that expert answers
alone.
"""

from collections.abc import Callable, Hashable, Sequence
import dataclasses
from typing import Any

import numpy as np

from jswarm.baselines import edge_policy
from jswarm.baselines.base import Found, Setting
from jswarm.core import lookup
from jswarm.graphs import dag
from jswarm.systems import system
from jswarm.systems.answerer import Answerer, Answering
from jswarm.systems.answerers import ReadFn, as_said, plurality
from jswarm.systems.prompts import Question, Terms
from jswarm.systems.system import Job
from jswarm.systems.weights import Weights

DECISIONS = ("refer", "vote")


@dataclasses.dataclass(frozen=True, eq=False)
class Voted:
  """A graph whose end node does not speak: it counts votes of those that it hears.

  Attributes:
    graph: its end node is asked only where it hears nobody. read: of votes.
  """

  graph: Job
  read: ReadFn = as_said

  @property
  def weights(self) -> Weights | None:
    return self.graph.weights

  @property
  def voters(self) -> list[int]:
    """The nodes that the end node hears."""
    return np.flatnonzero(self.graph.edges[:, self.graph.end]).tolist()

  def members(self) -> Sequence[int]:
    asked = self.graph.depth >= 0
    if self.voters:
      asked = asked & (np.arange(len(asked)) != self.graph.end)
    return [e for e, a in zip(self.graph.assignment, asked) if a]

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.graph.identity(question, terms), self.read

  def answer(self, question: Question, terms: Terms) -> Answering:
    going = self.graph.answer(question, terms)
    if not self.voters:
      return (yield from going)
    said: dict[int, str] = {}
    asks = next(going)
    # The end node is deeper than all that it hears: the last wave is its own.
    while asks[0].node != self.graph.end:
      replies = yield asks
      said.update((ask.node, reply) for ask, reply in zip(asks, replies))
      asks = going.send(replies)
    return plurality(question, [said[v] for v in self.voters], self.read)


def allowed(setting: Setting) -> np.ndarray:
  """bool [E + 1, E + 1]: any expert may speak to any other, and to who decides."""
  edges = ~np.eye(len(setting.experts.names) + 1, dtype=bool)
  edges[-1] = False
  return edges


def answerer(setting: Setting, edges: np.ndarray) -> Answerer:
  """Of acyclic edges bool [N, N]; the last node speaks to nobody."""
  size, decision = len(setting.experts.names), setting.option("decision", DECISIONS[0])
  lookup.check("decision", decision, DECISIONS)
  holders = [i % size for i in range(len(edges) - 1)] + [setting.by_dev[0]]
  graph = dag.from_edges(edges, len(edges) - 1)
  job = system.make_job(graph, holders, setting.first)
  return job if decision == "refer" else Voted(job, setting.read)


def training(setting: Setting, steps: int, **fields: Any) -> edge_policy.Settings:
  """Of the options `steps`, `batch`, `rate` and `baseline`; `fields`: more of them."""
  return edge_policy.Settings(
    steps=setting.option("steps", steps),
    batch=setting.option("batch", 4),
    rate=setting.option("rate", 0.1),
    baseline=setting.option("baseline", False),
    **fields,
  )


def on_questions(
  setting: Setting, answerer_of: Callable[[np.ndarray], Answerer], reserve: int
) -> Callable[[np.ndarray, Sequence[int]], list[float] | None]:
  """The `edge_policy.ScoreFn` of a setting: each graph on one dev question.

  `reserve`: calls to be left for what comes after.
  """

  def score(edges, picks):
    made = [answerer_of(one) for one in edges]
    if not setting.left(sum(len(a.members()) for a in made) + reserve):
      return None
    splits = [[setting.problem.examples[x]] for x in picks]
    found = setting.problem.evaluator.evaluate_each(made, splits)
    return [e.utility for e in found]

  return score


def affordable(
  setting: Setting, answerers: Sequence[Answerer], reserve: int = 0
) -> list[Answerer]:
  """The first of them, as many as can be scored on all of dev."""
  bought, cost = [], reserve
  for one in answerers:
    cost += len(one.members()) * len(setting.problem.examples)
    if not setting.left(cost):
      break
    bought.append(one)
  return bought


def found(setting: Setting, one: Answerer, **notes: Any) -> Found:
  """Who was found, with its dev utility if the budget still holds that."""
  dev = float("nan")
  if affordable(setting, [one]):
    _, dev = setting.best([one])
  return Found(one, dev, notes=notes)


def described(setting: Setting, edges: np.ndarray) -> list[str]:
  """JSON-able: "a > b" for each edge, by the names of experts."""
  names = setting.experts.names
  called = [names[i % len(names)] for i in range(len(edges) - 1)] + ["decision"]
  return [f"{called[i]} > {called[j]}" for i, j in np.argwhere(edges)]
