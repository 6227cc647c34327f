"""Answerers that are no graph: a majority vote, and a debate of several rounds."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
import dataclasses

import numpy as np

from jswarm.systems.answerer import Answering, Ask
from jswarm.systems.prompts import Question, Terms, node_prompt
from jswarm.systems.weights import Weights
from jswarm.tasks.parse import f1

ReadFn = Callable[[Question, str], Hashable | None]
"""(question, reply) -> what a reply votes for; None: nothing. Two that vote for
the same compare equal."""


def as_said(question: Question, reply: str) -> str | None:
  """A reply votes for its words, whatever their case and spaces."""
  del question
  return " ".join(reply.casefold().split()) or None


@dataclasses.dataclass(frozen=True)
class MajorityVote:
  """All experts answer alone; the answer that most of them give wins.

  The reply of the first voter of the winning answer is the answer; of equally many
  votes the one that was given first wins (order the experts by their dev scores).

  Attributes:
    experts: who votes; one that stands there twice votes twice.
    read: what a reply votes for, e.g. the option that it names.
  """

  experts: tuple[int, ...]
  read: ReadFn = as_said
  weights: Weights | None = None

  def members(self) -> Sequence[int]:
    return self.experts

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.experts, self.read

  def answer(self, question: Question, terms: Terms) -> Answering:
    replies = yield opening(self.experts, question, terms)
    return plurality(question, replies, self.read)


@dataclasses.dataclass(frozen=True)
class Debate:
  """Experts answer alone, then read each other and answer again; then they vote.

  Society of minds (Du et al., arXiv 2305.14325): in each further round an expert reads
  what the others said in the round before.

  Attributes:
    experts: who takes part. rounds: how often each speaks, at least once.
    read: as of `MajorityVote`.
  """

  experts: tuple[int, ...]
  rounds: int = 2
  read: ReadFn = as_said
  weights: Weights | None = None

  def __post_init__(self):
    if self.rounds < 1:
      raise ValueError(f"rounds={self.rounds} of a debate: at least 1.")

  def members(self) -> Sequence[int]:
    return self.experts

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.experts, self.rounds, self.read

  def answer(self, question: Question, terms: Terms) -> Answering:
    replies = yield opening(self.experts, question, terms)
    for _ in range(1, self.rounds):
      asks = []
      for place, expert in enumerate(self.experts):
        others = replies[:place] + replies[place + 1 :]
        prompt, cut = node_prompt(
          question, others, _chunk(question, place), terms.wording.middle, expert, terms
        )
        asks.append(Ask(expert, prompt, place, cut))
      replies = yield asks
    return plurality(question, replies, self.read)


def plurality(question: Question, replies: Sequence[str], read: ReadFn) -> str:
  """The first reply of those that most agree with; the first reply if none votes."""
  votes = [read(question, reply) for reply in replies]
  count = Counter(vote for vote in votes if vote is not None)
  if not count:
    return replies[0]
  winner = max(count, key=lambda vote: (count[vote], -votes.index(vote)))
  return replies[votes.index(winner)]


def elected(
  question: Question,
  replies: Sequence[str],
  read: ReadFn,
  trust: Sequence[float] = (),
) -> str:
  """The first reply of those that most agree with; where none votes, the `medoid`.

  Of equally many votes the most trusted voters win, then who voted first.

  Args:
    replies: one a voter. read: what they vote for.
    trust: of each voter, such as its dev utility; (): all alike. NaN counts as 0.
  """
  known = np.nan_to_num(trust or [0.0] * len(replies))
  count: dict[Hashable, int] = {}
  weight: dict[Hashable, float] = {}
  first: dict[Hashable, int] = {}
  for i, reply in enumerate(replies):
    vote = read(question, reply)
    if vote is not None:
      count[vote] = count.get(vote, 0) + 1
      weight[vote] = weight.get(vote, 0.0) + float(known[i])
      first.setdefault(vote, i)
  if not count:
    return replies[medoid(replies, known)]
  winner = max(count, key=lambda vote: (count[vote], weight[vote], -first[vote]))
  return replies[first[winner]]


def medoid(replies: Sequence[str], trust: Sequence[float] | np.ndarray) -> int:
  """The reply whose mean token F1 with the others is greatest; of equals the most
  trusted, then the first."""
  near = [
    sum(f1(other, mine) for j, other in enumerate(replies) if j != i)
    for i, mine in enumerate(replies)
  ]
  return max(range(len(replies)), key=lambda i: (round(near[i], 9), trust[i], -i))


def opening(experts: Sequence[int], question: Question, terms: Terms) -> list[Ask]:
  """Each expert is asked alone, as the first node of a graph would be."""
  asks = []
  for place, expert in enumerate(experts):
    prompt, cut = node_prompt(
      question, [], _chunk(question, place), terms.wording.first, expert, terms
    )
    asks.append(Ask(expert, prompt, place, cut))
  return asks


def _chunk(question, place):
  """Of the context, if there is one, each place reads a part of its own."""
  return question.chunks[place % len(question.chunks)] if question.chunks else ""
