"""Asks each identical call once: messages -> memo -> the pool's `ask`.

A call is (weights of the expert, prompt, limit, chat). The weights enter by a
fingerprint of all their bits, so no entry answers for weights that have moved. Replies
outlive an evaluation: what the weight-step asked on the same weights is there for
the next role-step.
"""

from collections.abc import Callable, Sequence
import hashlib
import itertools
from typing import Any

from jswarm.core.digests import digest, fingerprints
from jswarm.core.types import Experts, PyTree, Reply, Request
from jswarm.systems.budget import Meter


def versions(experts: Experts, weights: tuple[PyTree, ...]) -> list[str]:
  """A digest for each expert of the weights that it answers with."""
  named = [
    f"{name}{fixed}"
    for name, fixed in itertools.zip_longest(experts.names, experts.fixed, fillvalue="")
  ]
  digests = [digest(None, name)[:24] for name in named]
  for members, group in zip(experts.groups, weights, strict=True):
    moving = fingerprints(group, [named[expert] for expert in members])
    for expert, name in zip(members, moving):
      digests[expert] = name[:24]
  return digests


class Memo:
  """A pool whose `ask` shares identical calls. `experts` is the wrapped record."""

  def __init__(self, experts: Experts, meter: Meter, clock=None, on_made=None):
    self._inner = experts
    self._meter = meter
    self._clock = clock or (lambda: 0.0)
    self._on_made = on_made or (lambda made, asked: None)
    self._replies: dict[str, Reply] = {}
    self._watchers: list[Callable[[set[str]], None]] = []
    self._versions = self._loaded = versions(experts, experts.weights)
    self._weights = experts.weights
    self._judges: set[str] = set()
    self.experts = experts._replace(ask=self.ask, install=self.install)

  @property
  def installed(self) -> Sequence[str]:
    """A digest for each expert of the weights that it answers with."""
    return self._versions

  def watch(self, forget: Callable[[set[str]], None]) -> None:
    """`forget(held)` is called when replies of all weights but `held` are dropped."""
    self._watchers.append(forget)

  def install(self, weights: tuple[PyTree, ...]) -> None:
    """Installs weights and forgets the replies of weights that are gone."""
    self._inner.install(weights)
    self._weights, self._versions = weights, versions(self._inner, weights)

  def as_loaded(self, expert: int) -> Callable[[Sequence[Request]], list[Reply]]:
    """An `ask` of one expert on the weights that it came with, whatever is installed:
    a judge that moved with the swarm would be a scale that does."""

    def ask(requests):
      requests = [request._replace(expert=expert) for request in requests]
      if self._versions[expert] == self._loaded[expert]:
        return self.ask(requests)
      moved = self._weights
      self.install(self._inner.weights)
      try:
        return self.ask(requests)
      finally:
        self.install(moved)

    self._judges.add(self._loaded[expert])
    return ask

  def forget(self, *kept: tuple[PyTree, ...]) -> None:
    """Drops the replies of all weights but the installed ones and those `kept`."""
    held = {v for weights in kept for v in versions(self._inner, weights)}
    held |= set(self._versions) | self._judges
    for forget in self._watchers:
      forget(held)
    self._replies = {
      key: reply for key, reply in self._replies.items() if key.split(":", 1)[0] in held
    }

  def ask(self, requests: Sequence[Request]) -> list[Reply]:
    """Replies in order; raises `Budget` before a call that has no budget left."""
    keys = [self._key(request) for request in requests]
    new = {
      key: request for key, request in zip(keys, requests) if key not in self._replies
    }
    if new:
      self._meter.check()
      start = self._clock()
      made = self._inner.ask(list(new.values()))
      self._meter.seconds += self._clock() - start
      self._replies.update(zip(new, made))
      self._meter.spent["made"] += len(made)
      self._meter.spent["prompt_tokens"] += sum(r.prompt_tokens for r in made)
      self._meter.spent["new_tokens"] += sum(r.new_tokens for r in made)
    self._meter.spent["calls"] += len(requests)
    self._on_made(len(new), len(requests))
    return [self._replies[key] for key in keys]

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

  def _key(self, request: Request) -> str:
    text = f"{request.limit}|{request.chat}|{request.prompt}"
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{self._versions[request.expert]}:{name}"
