"""Votes: all experts answer alone, or one of them several times; most votes win."""

from collections.abc import Hashable, Sequence
import dataclasses

from jswarm.baselines.base import Found, Setting
from jswarm.systems import answerers
from jswarm.systems.answerer import Answering
from jswarm.systems.answerers import ReadFn
from jswarm.systems.prompts import Question, Terms
from jswarm.systems.weights import Weights

TEMPERATURE = 0.7  # of self-consistency


@dataclasses.dataclass(frozen=True)
class Vote:
  """Plurality; ties by the sum of trust, free text by its medoid (`elected`).

  Attributes:
    experts: who votes. trust: of each, its dev utility.
    read: what a reply votes for.
    samples: an expert is asked so often, each reply another draw.
  """

  experts: tuple[int, ...]
  trust: tuple[float, ...]
  read: ReadFn
  samples: int = 1
  weights: Weights | None = None

  def members(self) -> Sequence[int]:
    return self.experts * self.samples

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.experts, self.trust, self.read, self.samples

  def answer(self, question: Question, terms: Terms) -> Answering:
    asks = answerers.opening(self.experts, question, terms)
    drawn = [
      ask._replace(node=draw * len(asks) + ask.node, draw=draw)
      for draw in range(self.samples)
      for ask in asks
    ]
    replies = yield drawn
    trust = self.trust * self.samples
    return answerers.elected(question, replies, self.read, trust)


def prediction_merge(setting: Setting) -> Found:
  """All experts answer; plurality, ties by the dev utilities of the voters.

  Options: `top_k`, only the best on dev vote (all).
  """
  top = setting.by_dev[: setting.option("top_k", len(setting.by_dev))]
  voters = tuple(sorted(top))  # in the order of the pool, which ends ties
  trust = tuple(float(setting.singles[e]) for e in voters)
  vote = Vote(voters, trust, setting.read, weights=setting.first)
  names = [setting.experts.names[e] for e in voters]
  return Found(vote, setting.dev(vote), notes={"voters": names})


def self_consistency(setting: Setting) -> Found:
  """The best single expert, asked several times at a temperature; plurality.

  Wang et al., arXiv 2203.11171: a control for what several calls a question buy by
  themselves. Options: `samples` (as many as there are experts: what a graph of all of
  them costs), `temperature` (0.7).
  """
  temperature = setting.option("temperature", TEMPERATURE)
  samples = setting.option("samples", len(setting.experts.names))
  pool = setting.lend("sampling")(temperature)
  expert = setting.by_dev[0]
  vote = Vote((expert,), (float(setting.singles[expert]),), setting.read, samples)
  notes = {
    "expert": pool.names[expert],
    "samples": samples,
    "temperature": temperature,
  }
  return Found(vote, setting.dev(vote, pool), pool, notes)
