"""Serves a pool: requests (expert, prompt, limit) -> replies, in few device calls.

Rows of all experts of a group run side by side, each with its own adapter: `forms`
says how adapters meet the base, `serve` keeps the lanes full, `parallel` spreads them
over devices. This file is text and weights: requests -> tokens -> replies.
"""

from collections.abc import Sequence
import collections
import dataclasses
import hashlib
import os
import time

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from jswarm import decoder as decoder_lib
from jswarm import experts as experts_lib
from jswarm import forms, hf, lora, quantize, schedule, store, text
from jswarm.forms import FORMS
from jswarm.parallel import Desks, tensor_specs
from jswarm.sampling import Sampling
from jswarm.serve import Server, Statistics
from jswarm.types import Experts, PyTree, Reply, Request

SPACES = ("factors", "dense")
_MOST_ROWS = {"cpu": 64}
_PROBE = Request(0, "A train leaves at nine and arrives at noon. How long is the journey?"
                 " It takes three hours, because twelve minus nine is three.", 1)
_PLANNED_TOKENS = 1024  # slots a lane is planned with where `rows` is 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a pool is served.

  Attributes:
    rows: B, most lanes of a device; 0: what its memory holds.
    pack_tokens: T, most tokens of a prefill.
    form: how adapters meet the base: one of `forms.FORMS`.
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
      raise ValueError("engine.speculate needs greedy decoding: set"
                       " generation.temperature=0, or leave it off.")
    if self.int8 and self.form == "merged":
      raise ValueError("engine.form='merged' adds adapters to the kernels, which"
                       " engine.int8 rounds: use another form.")
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
        group.config, self._desks, group.stops, settings.sampling, rows=settings.rows or self._fitting_rows(),
        pack_tokens=settings.pack_tokens, statistics=statistics,
        leaps=settings.speculate)
    self._store = store.Store(settings.memo) if settings.memo else None
    if self._store:
      self._base_digest = _digest(f"{group.config}{group.stops}", group.params)
      self._tokenizer_digest = experts_lib.digest(group.tokenizer)
    self.install(self.start)

  def install(self, particles: PyTree) -> None:
    """Serves these particles from now on."""
    self._particles, self._ready, self._digests = particles, {}, {}

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
    keys = [self._key(p) for p in prompts] if self._store else []
    known = self._store.get(keys) if self._store else [None] * len(prompts)
    new = [p for p, reply in zip(prompts, known) if reply is None]
    self._statistics.stored += len(prompts) - len(new)
    for prompt, reply in zip(new, self._generate(new)):
      known[prompt.index] = reply
    if self._store:
      self._store.put([keys[p.index] for p in new], [known[p.index] for p in new])
    return known

  def _generate(self, prompts):
    """A `Reply` to each prompt."""
    said = {}
    for weights, mine in self._streams(prompts):
      said.update(self._server.serve(weights, mine))
    began = time.perf_counter()
    texts = text.decode(self.group.tokenizer, [said[p.index] for p in prompts])
    self._statistics.text_seconds += time.perf_counter() - began
    return [Reply(reply, len(p.tokens), len(said[p.index]))
            for p, reply in zip(prompts, texts)]

  def _key(self, prompt):
    """Of a reply on disk: all that it depends on."""
    s = self._settings
    drawn = f"|{prompt.seed}" if s.sampling.temperature else ""
    return store.key(self._version(prompt.owner), prompt.tokens, prompt.limit,
                     f"{s.sampling}|int8={s.int8}{drawn}", self._tokenizer_digest)

  def _version(self, owner):
    """Digest of the bytes that expert `owner` answers with: base, adapter, stops."""
    if owner not in self._digests:
      particles = jax.tree.map(lambda x: x[owner], self._particles)
      fixed = self.group.particles if self._dense else None
      self._digests[owner] = _digest(self._base_digest, (particles, fixed))
    return self._digests[owner]

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
                                 len(self.group.members), self._dense,
                                 mergeable=not self._settings.int8)
    mixed = [p for p in prompts if p.owner not in alone]
    if mixed:
      yield self._mixed(form), mixed
    if self.group.kind == "full" and self._desks.count > 1:
      yield from self._rounds(prompts)
      return
    for owner in alone:
      yield self._alone(owner), [p for p in prompts if p.owner == owner]

  def _rounds(self, prompts):
    """Whole experts on the desks, as many at a time as there are; the busiest first."""
    rows = collections.Counter(p.owner for p in prompts)
    order = sorted(rows, key=lambda o: (-rows[o], o))
    for first in range(0, len(order), self._desks.count):
      chosen = order[first:first + self._desks.count]
      desks = tuple(chosen[d % len(chosen)] for d in range(self._desks.count))
      yield self._on_desks(desks), [p for p in prompts if p.owner in chosen]

  def _on_desks(self, desks):
    """Expert desks[d] on desk d; kept while all of them fit one round."""
    if desks not in self._ready:
      self._ready.clear()
      trees = [self._layout(self._rounded(self._whole(owner))) for owner in desks]
      self._ready[desks] = forms.Weights(
          params=self._desks.split(trees, self._specs(trees[0])), desks=desks)
    return self._ready[desks]

  def _whole(self, owner):
    """Params of a full-weight expert, in the dtype that it is served in."""
    dtype = jax.tree.leaves(self.group.particles)[0].dtype
    return jax.tree.map(lambda x: x[owner].astype(dtype), self._particles)

  def _mixed(self, form):
    """All experts in one batch. Laid out once an update, not once a batch."""
    if form not in self._ready:
      dtype, unstacked = self._params["embed"].dtype, decoder_lib.is_unstacked(self._params)
      factors = self.group.particles if self._dense else self._particles
      lay_out = lora.pack if form == "masked" else lora.group
      size, adapters = len(self.group.members), lay_out(factors, dtype, unstacked)
      mix = np.asarray(self._particles["mix"]) if self._dense else np.eye(
          size, dtype=np.float32)
      self._ready[form] = forms.Weights(
          params=self._params, mix=mix if form == "masked" else None,
          adapters=self._desks.share(adapters, self._specs(adapters)))
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
      return self._place(self._whole(owner))
    return _merge(self._params, jax.tree.map(jnp.asarray, self._adapter(
        self._particles, owner)))

  def _adapter(self, particles, i):
    """Factors of one expert, without an expert axis."""
    if self._dense:
      return experts_lib.dense_adapter(self.group.particles, np.asarray(particles["mix"][i]))
    return jax.tree.map(lambda x: x[i], particles)

  def _layout(self, params):
    # Stacked layers are copied at every step by the CPU backend.
    return decoder_lib.unstack(params) if self._desks.platform == "cpu" else params

  def _place(self, params):
    params = self._layout(self._rounded(jax.tree.map(jnp.asarray, params)))
    return self._desks.share(params, self._specs(params))

  def _rounded(self, params):
    if not self._settings.int8:
      return params
    rounded = quantize.quantize(params)
    error = quantize.logit_error(decoder_lib.make_decoder(self.group.config), params,
                                 rounded, self._encode([_PROBE])[0])
    logging.info("int8 base: log-probabilities move by %.4f on average, %.3f at most;"
                 " %.1f %% of the likeliest tokens stay.", error["mean"], error["max"],
                 100 * error["agree"])
    return rounded

  def _specs(self, tree):
    return tensor_specs(tree) if self._desks.tensor > 1 else None

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


def _digest(start, tree):
  """sha256 of a text and the bytes of all leaves."""
  digest = hashlib.sha256(start.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = np.asarray(leaf)
    digest.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
    digest.update(np.ascontiguousarray(leaf).view(np.uint8))
  return digest.hexdigest()


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
