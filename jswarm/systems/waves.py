"""Runs all answerers together, in lockstep: asks of all that wait are one wave.

Wave w of a graph holds its nodes of depth w, so the number of times that the pool is
asked is the depth of the deepest graph, whatever the number of graphs and questions.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import NamedTuple

from absl import logging

from jswarm.core.types import Experts, Reply, Request
from jswarm.systems.answerer import Answerer, Answering, Ask
from jswarm.systems.prompts import Question, Terms
from jswarm.systems.weights import Weights

AskOn = Callable[[Sequence[Request], Sequence[Weights | None]], list[Reply]]
"""(requests, the weights that each is made on) -> replies in order."""


class Item(NamedTuple):
  """One answerer on one question."""

  answerer: Answerer
  question: Question


@dataclasses.dataclass
class Answered:
  """What came of an item.

  Attributes:
    reply: its answer. asks, said: for each wave what it asked, and what it was told.
  """

  reply: str = ""
  asks: list[list[Ask]] = dataclasses.field(default_factory=list)
  said: list[list[str]] = dataclasses.field(default_factory=list)

  @property
  def by_node(self) -> dict[int, str]:
    """What each node said last."""
    return {
      ask.node: reply
      for asks, said in zip(self.asks, self.said)
      for ask, reply in zip(asks, said)
    }


def run(
  items: Sequence[Item],
  terms: Terms,
  ask: AskOn,
  on_wave: Callable[[list[int]], None] = lambda asked: None,
) -> list[Answered]:
  """Answers every item.

  Args:
    items: they may share prompts and experts at no cost where `ask` shares identical
      requests.
    terms: of all of them.
    ask: who is asked; called once a wave.
    on_wave: called after each wave with the number of asks of each item in it.

  Raises:
    ValueError: a question alone does not fit an expert's context.
  """
  done = [Answered() for _ in items]
  # 1. Every item says what it asks first.
  going: dict[int, Answering] = {}
  for i, item in enumerate(items):
    going[i] = item.answerer.answer(item.question, terms)
  waiting = _advance(going, dict.fromkeys(going), done)
  while waiting:
    # 2. What all of them ask at the same time is one wave.
    requests, weights = [], []
    for i, asks in waiting.items():
      for a in asks:
        requests.append(Request(a.expert, a.prompt, terms.limit, terms.chat, a.draw))
        weights.append(items[i].answerer.weights)
    replies = iter(ask(requests, weights))
    # 3. Each is told what its own asks brought.
    told = {i: [next(replies).text for _ in asks] for i, asks in waiting.items()}
    for i, said in told.items():
      done[i].said.append(said)
    on_wave([len(waiting.get(i, ())) for i in range(len(items))])
    # 4. And says what it asks next, or its answer.
    waiting = _advance(going, told, done)
  _log_cuts(done)
  return done


def direct(experts: Experts) -> AskOn:
  """An `ask` without a memo, on the weights that the pool came with."""
  return lambda requests, weights: experts.ask(requests)


def grid(
  answerers: Sequence[Answerer], questions: Sequence[Sequence[Question]]
) -> list[Item]:
  """Items of each answerer on its own questions [len(answerers)][X], in order."""
  return [
    Item(answerer, question)
    for answerer, mine in zip(answerers, questions, strict=True)
    for question in mine
  ]


def _advance(going, told, done):
  """{item: its next asks} of those that go on; the others leave `going`."""
  waiting = {}
  for i, said in told.items():
    try:
      asks = going[i].send(said)
    except StopIteration as stop:
      done[i].reply = stop.value
      del going[i]
    else:
      done[i].asks.append(asks)
      waiting[i] = asks
  return waiting


def _log_cuts(done):
  asks = [ask for answered in done for wave in answered.asks for ask in wave]
  cuts = sum(ask.cut for ask in asks)
  if cuts:
    logging.info(
      "%d of %d prompts had replies or context shortened to fit.", cuts, len(asks)
    )
