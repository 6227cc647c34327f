"""Serves a pool: requests (expert, prompt, limit) -> replies, in few device calls.

Rows of all experts of a group run side by side, each with its own adapter:
`adapter_forms` says how adapters meet the base, `batcher` keeps the lanes full,
`devices` spreads them. This file is the pool as a whole: requests -> its groups.
"""

from collections.abc import Sequence
import dataclasses
import functools

from jswarm.core import waits
from jswarm.core.types import Experts, Reply, Request
from jswarm.engine import logits, readings
from jswarm.engine.counters import Statistics
from jswarm.engine.group import Served
from jswarm.engine.limits import Limits
from jswarm.engine.rectangles import MOST_ROWS, Source
from jswarm.engine.settings import Settings
from jswarm.pool import load

_every: list[Statistics] = []  # one a pool; small, and kept when the pool is gone


def statistics() -> dict:
  """What all engines of this process have done since `reset_statistics`; of one pool
  see `Experts.statistics`."""
  return sum(_every, Statistics()).summary()


def reset_statistics() -> None:
  """Counts from zero again, in every engine of this process."""
  for each in _every:
    each.reset()


def make_experts(pool: load.Pool, settings: Settings, keep: bool = True) -> Experts:
  """The pool as the search sees it; `keep` as of `place`."""
  return place(pool, settings, keep).experts()


def place(pool: load.Pool, settings: Settings, keep: bool = True) -> "Placed":
  """Puts a pool on the devices.

  `keep`: the pool itself is used afterwards. Else its weights are taken out of it as
  they are placed, so that they are never in memory twice.
  """
  own = Statistics()
  _every.append(own)
  with waits.told(f"placing {len(pool.names)} experts"):
    served = [Served(group, settings, own, keep) for group in pool.groups]
  return Placed(pool.names, served, settings, own)


@dataclasses.dataclass(frozen=True)
class Placed:
  """A pool on the devices; it does not hold on to what was loaded."""

  names: tuple[str, ...]
  served: list[Served]
  settings: Settings
  statistics: Statistics

  def sampled(self, temperature: float) -> Experts:
    """The pool as it came, in memory once, whose replies are drawn; it never moves."""
    sampling = dataclasses.replace(self.settings.sampling, temperature=temperature)
    settings = dataclasses.replace(self.settings, sampling=sampling, speculate=False)
    served = [s.under(settings) for s in self.served]
    experts = Placed(self.names, served, settings, self.statistics).experts()
    still = [s.particles for s in served if len(s.group.members) > 1]

    def ask(requests: Sequence[Request]) -> list[Reply]:
      # Others may have moved what both stand on: it is put back when this has answered.
      moved = [(p, p.installed) for p in still if p.installed is not p.start]
      for particles, _ in moved:
        particles.install(particles.start)
      replies = experts.ask(requests)
      for particles, installed in moved:
        particles.install(installed)
      return replies

    return experts._replace(
      groups=(),
      weights=(),
      install=lambda weights: None,
      ask=ask,
      save=lambda folder, weights, members: experts.save(
        folder, experts.weights, members
      ),
      score=None,
      logits=None,
      hidden=None,
    )

  def experts(self) -> Experts:
    """The pool as the search sees it."""
    names, served, settings = self.names, self.served, self.settings
    by_expert = {expert: s for s in served for expert in s.group.members}
    mixable = [s for s in served if len(s.group.members) > 1]
    limits = lambda: Limits(MOST_ROWS, settings.pack_tokens)
    sources = [Source(s.group, s.particles, settings, limits()) for s in served]

    def install(weights):
      for s, particles in zip(mixable, weights, strict=True):
        s.particles.install(particles)

    def ask(requests: Sequence[Request]) -> list[Reply]:
      replies = [None] * len(requests)
      for s in served:
        mine = [i for i, r in enumerate(requests) if by_expert[r.expert] is s]
        for i, reply in zip(mine, s.ask([requests[i] for i in mine])):
          replies[i] = reply
      return replies

    def save(folder, weights, members):
      every = dict(zip((id(s) for s in mixable), weights, strict=True))
      return {
        names[e]: by_expert[e].save(folder, every.get(id(by_expert[e])), e)
        for e in members
      }

    return Experts(
      names=names,
      groups=tuple(s.group.members for s in mixable),
      weights=tuple(s.particles.start for s in mixable),
      install=install,
      ask=ask,
      count=lambda e, t: by_expert[e].reader(e).count(t),
      clip=lambda e, t, n: by_expert[e].reader(e).clip(t, n),
      room=lambda e, limit: by_expert[e].reader(e).room(limit),
      save=save,
      fixed=tuple(by_expert[e].fixed(e) for e in range(len(names))),
      holders=tuple(by_expert[e].holders(e) for e in range(len(names))),
      score=functools.partial(readings.score, sources),
      logits=logits.make_logits(sources),
      hidden=functools.partial(readings.hidden, sources),
      statistics=self.statistics.summary,
    )
