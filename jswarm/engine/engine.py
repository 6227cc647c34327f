"""Serves a pool: requests (expert, prompt, limit) -> replies, in few device calls.

Rows of all experts of a group run side by side, each with its own adapter: `forms`
says how adapters meet the base, `serve` keeps the lanes full, `parallel` spreads them
over devices. This file is text and weights: requests -> tokens -> replies.
"""

from collections.abc import Sequence
import dataclasses

from jswarm.core.types import Experts, Reply, Request
from jswarm.engine.adapter_forms import FORMS
from jswarm.engine.counters import Statistics
from jswarm.engine.group import Served
from jswarm.formats import tokenizer
from jswarm.model.attention import SPAN_BLOCK
from jswarm.model.sampling import Sampling
from jswarm.pool import load

SPACES = ("factors", "dense")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a pool is served.

  Attributes:
    rows: B, most lanes of a device; 0: what its memory holds.
    pack_tokens: T, most tokens of a prefill.
    form: how adapters meet the base: one of `adapter_forms.FORMS`.
    speculate: draft the last replies of a wave from their prompts (greedy only).
    int8: kernels of the base in 8 bits; its logit error is logged.
    memo: file of replies that outlive a search (`store`); empty: none.
    devices: of this process; 0: all. tensor: how many of them hold one base together.
    max_prompt_tokens: longest prompt, chat template included; 0: what the model's
      context leaves.
    space: how adapters move: "factors" (A and B, as published) or "dense" (their
      products; exact, as coefficients over the initial experts).
    sampling: how tokens are drawn; seed: of the draws.
  """

  rows: int
  pack_tokens: int
  form: str
  speculate: bool
  int8: bool
  memo: str
  devices: int
  tensor: int
  max_prompt_tokens: int
  space: str
  sampling: Sampling
  seed: int

  def __post_init__(self):
    if self.space not in SPACES:
      raise ValueError(f"pool.space={self.space!r}: allowed are {', '.join(SPACES)}.")
    if self.form not in FORMS:
      raise ValueError(f"engine.form={self.form!r}: allowed are {', '.join(FORMS)}.")
    if self.speculate and self.sampling.temperature:
      raise ValueError(
        "engine.speculate needs greedy decoding: set"
        " generation.temperature=0, or leave it off."
      )
    if self.int8 and self.form == "merged":
      raise ValueError(
        "engine.form='merged' adds adapters to the kernels, which"
        " engine.int8 rounds: use another form."
      )
    if self.space == "dense" and self.form == "grouped":
      raise ValueError(
        "engine.form='grouped' needs rows of one expert each, but with"
        " pool.space='dense' rows mix experts: use auto or masked."
      )
    for field, least in (
      ("rows", 0),
      ("devices", 0),
      ("tensor", 1),
      ("pack_tokens", SPAN_BLOCK),
    ):
      if getattr(self, field) < least:
        raise ValueError(f"engine.{field}={getattr(self, field)}: at least {least}.")


_statistics = Statistics()


def statistics() -> dict:
  """What the engines of this process have done since `reset_statistics`."""
  return _statistics.summary()


def reset_statistics() -> None:
  """Counts from zero again, in every engine of this process."""
  fresh = Statistics()
  for field in dataclasses.fields(fresh):
    setattr(_statistics, field.name, getattr(fresh, field.name))


def make_experts(pool: load.Pool, settings: Settings) -> Experts:
  """The pool as the search sees it."""
  served = [Served(group, settings, _statistics) for group in pool.groups]
  by_expert = {expert: s for s in served for expert in s.group.members}
  mixable = [s for s in served if len(s.group.members) > 1]

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
      pool.names[e]: by_expert[e].save(folder, every.get(id(by_expert[e])), e)
      for e in members
    }

  return Experts(
    names=pool.names,
    groups=tuple(s.group.members for s in mixable),
    weights=tuple(s.particles.start for s in mixable),
    install=install,
    ask=ask,
    count=lambda e, t: len(
      tokenizer.encode(by_expert[e].group.tokenizer, [t], False)[0]
    ),
    clip=lambda e, t, n: tokenizer.clip(by_expert[e].group.tokenizer, t, n),
    room=lambda e, limit: by_expert[e].room(limit),
    save=save,
    fixed=tuple(by_expert[e].particles.fixed for e in range(len(pool.names))),
    holders=tuple(by_expert[e].holders(e) for e in range(len(pool.names))),
  )
