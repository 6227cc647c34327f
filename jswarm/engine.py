"""Serves a pool: requests (expert, prompt, limit) -> replies, in few device calls.

Rows of all experts of a group run side by side, each with its own adapter: `forms`
says how adapters meet the base, `serve` keeps the lanes full, `parallel` spreads them
over devices. This file is text and weights: requests -> tokens -> replies.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from jswarm import decoder as decoder_lib
from jswarm import experts as experts_lib
from jswarm import forms, hf, lora, schedule, text
from jswarm.forms import FORMS
from jswarm.parallel import Desks
from jswarm.sampling import Sampling
from jswarm.serve import Server, Statistics
from jswarm.types import Experts, PyTree, Reply, Request

SPACES = ("factors", "dense")
_MOST_ROWS = {"cpu": 64}
_PLANNED_TOKENS = 1024  # slots a lane is planned with where `rows` is 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a pool is served.

  Attributes:
    rows: B, most lanes of a device; 0: what its memory holds.
    pack_tokens: T, most tokens of a prefill.
    form: how adapters meet the base: one of `forms.FORMS`.
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
    if self.space == "dense" and self.form == "grouped":
      raise ValueError("engine.form='grouped' needs rows of one expert each, but with"
                       " pool.space='dense' rows mix experts: use auto or masked.")
    for field, least in (("rows", 0), ("devices", 0), ("tensor", 1),
                         ("pack_tokens", schedule.SPAN_BLOCK)):
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


def make_experts(pool: experts_lib.Pool, settings: Settings) -> Experts:
  """The pool as the search sees it."""
  served = [_Served(group, settings, _statistics) for group in pool.groups]
  by_expert = {expert: s for s in served for expert in s.group.members}
  mixable = [s for s in served if len(s.group.members) > 1]

  def install(weights):
    for s, particles in zip(mixable, weights, strict=True):
      s.install(particles)

  def ask(requests: Sequence[Request]) -> list[Reply]:
    replies = [None] * len(requests)
    for s in served:
      mine = [i for i, r in enumerate(requests) if by_expert[r.expert] is s]
      for i, reply in zip(mine, s.ask([requests[i] for i in mine])):
        replies[i] = reply
    return replies

  def save(folder, weights, members):
    every = dict(zip((id(s) for s in mixable), weights, strict=True))
    return {pool.names[e]: by_expert[e].save(folder, every.get(id(by_expert[e])), e)
            for e in members}

  return Experts(
      names=pool.names,
      groups=tuple(s.group.members for s in mixable),
      weights=tuple(s.start for s in mixable),
      install=install, ask=ask,
      count=lambda e, t: len(text.encode(by_expert[e].group.tokenizer, [t], False)[0]),
      clip=lambda e, t, n: text.clip(by_expert[e].group.tokenizer, t, n),
      room=lambda e, limit: by_expert[e].room(limit), save=save)


class _Served:
  """One group on the device."""

  def __init__(self, group: experts_lib.Group, settings: Settings,
               statistics: Statistics):
    self.group, self._settings, self._statistics = group, settings, statistics
    self._desks = Desks(_devices(settings.devices), settings.tensor)
    self._dense = settings.space == "dense" and group.kind == "lora"
    size = len(group.members)
    self.start: PyTree = (
        {"mix": jnp.eye(size, dtype=jnp.float32)} if self._dense
        else jax.tree.map(lambda x: x.astype(jnp.float32), group.particles))
    self._row = {expert: i for i, expert in enumerate(group.members)}
    self._overhead = 1 + max(
        len(text.encode(group.tokenizer, [""], chat)[0]) for chat in (False, True))
    self._params = None if group.params is None else self._place(group.params)
    self._server = Server(
        decoder_lib.make_decoder(group.config), self._desks, group.stops,
        settings.sampling, rows=settings.rows or self._fitting_rows(),
        pack_tokens=settings.pack_tokens, statistics=statistics)
    self.install(self.start)

  def install(self, particles: PyTree) -> None:
    """Serves these particles from now on."""
    self._particles, self._ready = particles, {}

  def room(self, limit: int) -> int:
    context = self.group.config.max_positions - limit
    wanted = self._settings.max_prompt_tokens or context
    return min(wanted, context) - self._overhead

  def ask(self, requests: list[Request]) -> list[Reply]:
    if not requests:
      return []
    began = time.perf_counter()
    tokens = self._encode(requests)
    prompts = [schedule.Prompt(i, self._row[r.expert], ids, r.limit, self._seed(r))
               for i, (r, ids) in enumerate(zip(requests, tokens))]
    self._statistics.text_seconds += time.perf_counter() - began
    said = {}
    for weights, mine in self._streams(prompts):
      said.update(self._server.serve(weights, mine))
    began = time.perf_counter()
    texts = text.decode(self.group.tokenizer, [said[i] for i in range(len(said))])
    self._statistics.text_seconds += time.perf_counter() - began
    return [Reply(reply, len(tokens[i]), len(said[i])) for i, reply in enumerate(texts)]

  def _encode(self, requests):
    tokens = [None] * len(requests)
    for chat in (False, True):
      mine = [i for i, r in enumerate(requests) if r.chat == chat]
      encoded = text.encode(self.group.tokenizer, [requests[i].prompt for i in mine], chat)
      for i, ids in zip(mine, encoded):
        tokens[i] = ids
    for request, ids in zip(requests, tokens):
      most = self.group.config.max_positions - request.limit
      if len(ids) > most:
        raise ValueError(f"a prompt of {len(ids)} tokens and {request.limit} new ones"
                         f" exceed the context of {self.group.config.max_positions}:"
                         f" {request.prompt[:80]!r}...")
    return tokens

  def _streams(self, prompts):
    """(weights, prompts) of each stream of rows: mixed ones together, others alone."""
    owners = [p.owner for p in prompts]
    if self.group.kind == "full":
      form, alone = "", sorted(set(owners))
    else:
      form, alone = forms.choose(self._settings.form, self._desks.platform, owners,
                                 len(self.group.members), self._dense)
    mixed = [p for p in prompts if p.owner not in alone]
    if mixed:
      yield self._mixed(form), mixed
    for owner in alone:
      yield self._alone(owner), [p for p in prompts if p.owner == owner]

  def _mixed(self, form):
    """All experts in one batch. Laid out once an update, not once a batch."""
    if form not in self._ready:
      dtype, unstacked = self._params["embed"].dtype, decoder_lib.is_unstacked(self._params)
      factors = self.group.particles if self._dense else self._particles
      lay_out = lora.pack if form == "masked" else lora.group
      size = len(self.group.members)
      mix = np.asarray(self._particles["mix"]) if self._dense else np.eye(
          size, dtype=np.float32)
      self._ready[form] = forms.Weights(
          params=self._params, mix=mix if form == "masked" else None,
          adapters=self._desks.share(lay_out(factors, dtype, unstacked)))
    return self._ready[form]

  def _alone(self, owner):
    """One expert, merged or whole; one of them is placed at a time."""
    if owner not in self._ready:
      for other in [k for k in self._ready if isinstance(k, int)]:
        del self._ready[other]
      self._ready[owner] = forms.Weights(params=self._expert(owner))
    return self._ready[owner]

  def _expert(self, owner):
    if self.group.kind == "full":
      dtype = jax.tree.leaves(self.group.particles)[0].dtype
      return self._place(jax.tree.map(lambda x: x[owner].astype(dtype), self._particles))
    return _merge(self._params, jax.tree.map(jnp.asarray, self._adapter(
        self._particles, owner)))

  def _adapter(self, particles, i):
    """Factors of one expert, without an expert axis."""
    if self._dense:
      return experts_lib.dense_adapter(self.group.particles, np.asarray(particles["mix"][i]))
    return jax.tree.map(lambda x: x[i], particles)

  def _place(self, params):
    # Stacked layers are copied at every step by the CPU backend.
    if self._desks.platform == "cpu":
      params = decoder_lib.unstack(params)
    return self._desks.share(jax.tree.map(jnp.asarray, params))

  def _fitting_rows(self):
    """Lanes whose cache fits the memory that base and adapters leave, in full."""
    c, most = self.group.config, _MOST_ROWS.get(self._desks.platform, schedule.LANES[-1])
    held = sum(x.nbytes for x in jax.tree.leaves((self._params, self.start)))
    width = 4 if self._desks.platform == "cpu" else 2
    token = 2 * c.layers * c.kv_heads * c.head_dim * width
    lane = token * min(c.max_positions, _PLANNED_TOKENS) + 4 * c.vocab
    free = self._desks.memory() - 2 * held
    fitting = [n for n in schedule.LANES if n <= most and n * lane <= free]
    return fitting[-1] if fitting else schedule.LANES[0]

  def _seed(self, request):
    """Of the row's draws: a function of the request, never of the batch."""
    name = self.group.specs[self._row[request.expert]].name
    words = f"{self._settings.seed}|{name}|{request.limit}|{request.prompt}"
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little")

  def save(self, folder, particles, expert):
    """Writes one expert below `folder/experts`; where it is and what it stands on."""
    group, i = self.group, self._row[expert]
    spec = group.specs[i]
    place = os.path.join("experts", spec.name)
    target = os.path.join(folder, place)
    particles = self.start if particles is None else particles
    if group.kind == "full":
      hf.save_base(target, group.config, jax.tree.map(lambda x: x[i], particles))
      group.tokenizer.save_pretrained(target)
      return {"kind": "full", "path": place}
    adapter = jax.tree.map(np.asarray, self._adapter(particles, i))
    hf.save_adapter(target, adapter, spec.base, group.config)
    return {"kind": "lora", "path": place, "base": spec.base}


@jax.jit
def _merge_layers(layers, adapter):
  return decoder_lib.merge({"layers": layers}, adapter)["layers"]


def _merge(params, adapter):
  """The base with one adapter added in; layer by layer where there is a list."""
  layers = params["layers"]
  if not isinstance(layers, list):
    return {**params, "layers": _merge_layers(layers, adapter)}
  each = lora.by_layer(adapter, len(layers))
  return {**params, "layers": [_merge_layers(*pair) for pair in zip(layers, each)]}


def _devices(count):
  """The first `count` local devices; 0: all of them."""
  every = jax.local_devices()
  if count > len(every):
    raise ValueError(f"engine.devices={count}: this process has {len(every)}"
                     f" ({every[0].platform}); 0 takes all.")
  return every[:count] if count else every
