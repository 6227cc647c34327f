"""Asks each identical call once: waves -> memo -> the pool.

A call is (version of the expert, prompt, limit, chat). The weights enter by a
fingerprint of all their bits, so no entry answers for weights that have moved. Replies
outlive an evaluation: what the weight-step asked on the same weights is there for
the next role-step.
"""

from collections.abc import Callable, Mapping, Sequence
import hashlib
from typing import Any, Protocol

import numpy as np

from jswarm.core.types import AskFn, Candidates, Experts, PyTree, Reply, Request
from jswarm.systems.budget import Meter
from jswarm.systems.weights import Standing, Weights, named

_KEPT = 2  # named weights; their arrays stay in memory as long


class Ledger(Protocol):
  """What keeps calls from one life of a search to the next; see `run.ledger`."""

  @property
  def known(self) -> Mapping[str, tuple[Reply, float]]:
    """Replies by key, each with the seconds that it took."""
    ...

  def put(self, made: Mapping[str, Reply], seconds: float) -> None: ...


class Memo:
  """What a pool said, on any weights.

  Attributes:
    experts: the pool. first: the weights that it came with.
    ledger: where calls are kept as soon as they are made; what it knows is not asked.
  """

  def __init__(
    self,
    experts: Experts,
    meter: Meter | None = None,
    clock: Callable[[], float] | None = None,
    on_made: Callable[[int, int], None] | None = None,
    ledger: Ledger | None = None,
  ):
    self.experts = experts
    self._ledger = ledger
    self._meter = meter or Meter()
    self._clock = clock or (lambda: 0.0)
    self._on_made = on_made or (lambda made, asked: None)
    self._replies: dict[str, Reply] = {}
    self._watchers: list[Callable[[set[str]], None]] = []
    self._standing = Standing(experts)
    self._named: list[Weights] = []  # the latest last
    self._judges: set[str] = set()
    self.first = self._standing.first

  def named(self, trees: tuple[PyTree, ...]) -> Weights:
    """The weights under their versions, which are worked out once."""
    for weights in [self.first, *self._named]:
      if weights.are(trees):
        return weights
    self._named = [*self._named[1 - _KEPT :], named(self.experts, trees)]
    return self._named[-1]

  def watch(self, forget: Callable[[set[str]], None]) -> None:
    """`forget(held)` is called when replies of all versions but `held` are dropped."""
    self._watchers.append(forget)

  def as_loaded(self, expert: int) -> AskFn:
    """An `ask` of one expert on the weights that it came with, whatever has moved:
    a judge that moved with the swarm would be a scale that does."""

    def ask(requests: Sequence[Request]) -> list[Reply]:
      return self.ask([request._replace(expert=expert) for request in requests])

    self._judges.add(self.first.versions[expert])
    return ask

  def on(self, weights: Weights) -> Experts:
    """The pool, answering with these weights until the next call of this memo: for
    `score`, `logits` and `hidden`, which are neither kept nor counted here."""
    self._standing.install(weights)
    return self.experts

  def forget(self, *kept: tuple[PyTree, ...]) -> None:
    """Drops the replies of all weights but those `kept`; a judge's stay."""
    held = {version for trees in kept for version in self.named(trees).versions}
    held |= self._judges
    for forget in self._watchers:
      forget(held)
    self._replies = {
      key: reply for key, reply in self._replies.items() if key.split(":", 1)[0] in held
    }

  def ask(
    self, requests: Sequence[Request], weights: Sequence[Weights | None] | None = None
  ) -> list[Reply]:
    """Replies in order.

    Args:
      requests: what is asked.
      weights: that each is made on; None: those that the pool came with.

    Raises:
      Budget: there are new calls among them, and no budget is left.
    """
    on = [w or self.first for w in weights or [None] * len(requests)]
    keys = [_key(request, w) for request, w in zip(requests, on)]
    new = {
      key: (request, w)
      for key, request, w in zip(keys, requests, on)
      if key not in self._replies
    }
    if new:
      self._meter.check()
      self._make(new)
    self._meter.spent["calls"] += len(requests)
    self._on_made(len(new), len(requests))
    return [self._replies[key] for key in keys]

  def recall(
    self, requests: Sequence[Request], weights: Sequence[Weights | None]
  ) -> list[Reply]:
    """Replies that are known; nothing is asked and nothing counts.

    Raises:
      KeyError: a call was not made yet, or is forgotten.
    """
    pairs = zip(requests, weights)
    return [self._replies[_key(request, w or self.first)] for request, w in pairs]

  def score(
    self, candidates: Sequence[Candidates], weights: Sequence[Weights]
  ) -> list[list[np.ndarray]]:
    """Log-likelihoods as of `Experts.score`, each on weights; one is a call, not kept.

    Raises:
      Budget: no budget is left.
      ValueError: this pool has no `score`.
    """
    if self.experts.score is None:
      raise ValueError("this pool gives no likelihoods: ask one whose `score` is set.")
    self._meter.check()
    found: list[list[np.ndarray]] = [[]] * len(candidates)
    owners = [(c.expert, w) for c, w in zip(candidates, weights)]
    for standing, mine in self._standing.parts(owners):
      self._standing.install(standing)
      scores = self.experts.score([candidates[i] for i in mine])
      for i, score in zip(mine, scores):
        found[i] = score
    self._meter.spent["calls"] += len(candidates)
    self._meter.spent["made"] += len(candidates)
    return found

  def _make(self, new):
    """Makes the calls {key: (request, weights)}, part by part; what came is kept."""
    paid = self._ledger.known if self._ledger else {}
    # 1. What was made in an earlier life of the search, and is not in its checkpoint.
    for key in new:
      if key in paid:
        reply, seconds = paid[key]
        self._count_made({key: reply}, seconds)
    # 2. The rest, part by part.
    names = [key for key in new if key not in paid]
    calls = [new[key] for key in names]
    owners = [(request.expert, weights) for request, weights in calls]
    for weights, mine in self._standing.parts(owners):
      start = self._clock()
      self._standing.install(weights)
      replies = self.experts.ask([calls[i][0] for i in mine])
      made = dict(zip([names[i] for i in mine], replies))
      seconds = self._clock() - start
      if self._ledger:
        self._ledger.put(made, seconds)
      self._count_made(made, seconds)

  def _count_made(self, made, seconds):
    self._replies.update(made)
    self._meter.spent["made"] += len(made)
    self._meter.spent["prompt_tokens"] += sum(r.prompt_tokens for r in made.values())
    self._meter.spent["new_tokens"] += sum(r.new_tokens for r in made.values())
    self._meter.seconds += seconds

  def count(self, calls: int) -> None:
    """Counts calls of which somebody has kept what came of them."""
    if calls:
      self._meter.spent["calls"] += calls
      self._on_made(0, calls)

  def state(self) -> dict[str, Any]:
    """Everything that a bit-exact resume needs, JSON-able."""
    return {key: list(reply) for key, reply in self._replies.items()}

  def restore(self, state: dict[str, Any]) -> None:
    self._replies = {key: Reply(*reply) for key, reply in state.items()}
    for forget in self._watchers:  # what they have may be of other replies
      forget(set())


def _key(request, weights):
  drawn = f"{request.draw}|" if request.draw else ""
  text = f"{drawn}{request.limit}|{request.chat}|{request.prompt}"
  name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
  return f"{weights.versions[request.expert]}:{name}"
