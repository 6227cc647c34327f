"""The second contract: whatever answers questions by asking experts can be scored.

An answerer is a pure description. It answers ONE question, written as a generator that
asks and is sent what was said:

  def answer(self, question, terms):
    replies = yield [Ask(0, question.prompt), Ask(1, question.prompt)]
    return max(replies, key=len)

`waves` runs any number of answerers on any number of questions in lockstep: the asks of
all of them that wait at the same time are one wave, and go to the pool together.
"""

from collections.abc import Generator, Hashable, Sequence
from typing import NamedTuple, Protocol

from jswarm.systems.prompts import Question, Terms
from jswarm.systems.weights import Weights


class Ask(NamedTuple):
  """One prompt for one expert of the pool.

  Attributes:
    node: who asks, for traces: a graph's node, a place among voters.
    cut: was something shortened so that the prompt fits?
    draw: which of several samples of one prompt; see `Request`.
  """

  expert: int
  prompt: str
  node: int = 0
  cut: bool = False
  draw: int = 0


Answering = Generator[list[Ask], list[str], str]


class Answerer(Protocol):
  """Anything that turns a question into an answer by asking experts of a pool."""

  @property
  def weights(self) -> Weights | None:
    """Of the experts that it asks; None: those that the pool came with."""
    ...

  def members(self) -> Sequence[int]:
    """The experts that an answer may depend on."""
    ...

  def identity(self, question: Question, terms: Terms) -> Hashable:
    """What an answer depends on beside question, terms and weights: answerers of equal
    identities say the same, and one of them is run."""
    ...

  def answer(self, question: Question, terms: Terms) -> Answering:
    """Answers: yields what it asks at the same time, is sent the replies, returns."""
    ...
