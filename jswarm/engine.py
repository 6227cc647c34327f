"""Serves a pool: requests (expert, prompt, limit) -> replies, in few device calls.

Rows of all experts of a group run in one batch, each with its own adapter. A batch
is a rectangle from a short list of shapes, so a search compiles few programs.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import os

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from jswarm import experts as experts_lib
from jswarm import decoder as decoder_lib
from jswarm import hf, text
from jswarm.generate import generate
from jswarm.sampling import Sampling
from jswarm.types import Experts, PyTree, Reply, Request

SPACES = ("factors", "dense")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a pool is served.

  Attributes:
    rows: most rows of a batch.
    batch_tokens: most rows x (prompt + new) tokens of a batch.
    max_prompt_tokens: longest prompt, chat template included; 0: what the model's
      context leaves.
    space: how adapters move: "factors" (A and B, as published) or "dense" (their
      products; exact, as coefficients over the initial experts).
    sampling: how tokens are drawn; seed: of the draws.
  """

  rows: int
  batch_tokens: int
  max_prompt_tokens: int
  space: str
  sampling: Sampling
  seed: int

  def __post_init__(self):
    if self.space not in SPACES:
      raise ValueError(f"pool.space={self.space!r}: allowed are {', '.join(SPACES)}.")
    for field in ("rows", "batch_tokens"):
      if getattr(self, field) < 1:
        raise ValueError(f"engine.{field}={getattr(self, field)}: at least 1.")


def make_experts(pool: experts_lib.Pool, settings: Settings) -> Experts:
  """The pool as the search sees it."""
  served = [_Served(group, settings) for group in pool.groups]
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

  def __init__(self, group: experts_lib.Group, settings: Settings):
    self.group, self._settings = group, settings
    self._decoder = decoder_lib.make_decoder(group.config)
    self._dense = settings.space == "dense" and group.kind == "lora"
    size = len(group.members)
    self.start: PyTree = (
        {"mix": jnp.eye(size, dtype=jnp.float32)} if self._dense
        else jax.tree.map(lambda x: x.astype(jnp.float32), group.particles))
    self._params = None if group.params is None else self._place(group.params)
    self._row = {expert: i for i, expert in enumerate(group.members)}
    self._overhead = 1 + max(
        len(text.encode(group.tokenizer, [""], chat)[0]) for chat in (False, True))
    self.install(self.start)

  def install(self, particles: PyTree) -> None:
    """Serves these particles from now on."""
    group = self.group
    if group.kind == "full":
      self._models = [None] * len(group.members)
      self._particles = particles
    elif self._dense:
      self._adapters, self._mix = self._pack(group.particles), np.asarray(particles["mix"])
    else:
      self._adapters, self._mix = self._pack(particles), np.eye(
          len(group.members), dtype=np.float32)

  def room(self, limit: int) -> int:
    context = self.group.config.max_positions - limit
    wanted = self._settings.max_prompt_tokens or context
    return min(wanted, context) - self._overhead

  def ask(self, requests: list[Request]) -> list[Reply]:
    if not requests:
      return []
    tokens = self._encode(requests)
    replies: list[Reply | None] = [None] * len(requests)
    for batch in _batches(requests, tokens, self._settings,
                          split_experts=self.group.kind == "full"):
      said = self._generate([requests[i] for i in batch], [tokens[i] for i in batch])
      texts = text.decode(self.group.tokenizer, said)
      for i, ids, reply in zip(batch, said, texts):
        replies[i] = Reply(reply, len(tokens[i]), len(ids))
    return replies

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

  def _generate(self, requests, tokens):
    """New token ids of each row."""
    rows = _bucket(len(requests), 8)
    width = _bucket(max(map(len, tokens)), 16)
    limit = max(r.limit for r in requests)
    padded = np.zeros((rows, width), np.int32)
    for b, ids in enumerate(tokens):
      padded[b, :len(ids)] = ids
    fill = lambda values, rest, dtype: np.array(
        list(values) + [rest] * (rows - len(requests)), dtype)
    params, adapters, mix = self._weights(requests, rows)
    new, counts = generate(
        self._decoder, params, adapters, mix, jnp.asarray(padded),
        jnp.asarray(fill(map(len, tokens), 1, np.int32)),
        jnp.asarray(fill((r.limit for r in requests), 0, np.int32)),
        jnp.asarray(self.group.stops, jnp.int32),
        jnp.asarray(fill(map(self._seed, requests), 0, np.uint32)),
        new_tokens=limit, sampling=self._settings.sampling)
    new, counts = np.asarray(new), np.asarray(counts)
    return [new[b, :counts[b]].tolist() for b in range(len(requests))]

  def _weights(self, requests, rows):
    """(params, adapters, mix [B, E]) for a batch."""
    if self.group.kind == "full":
      return self._model(self._row[requests[0].expert]), None, None
    mix = np.zeros((rows, len(self.group.members)), np.float32)
    mix[:len(requests)] = self._mix[[self._row[r.expert] for r in requests]]
    return self._params, self._adapters, jnp.asarray(mix)

  def _model(self, i):
    """Full-weight expert i; one of them is placed at a time."""
    if self._models[i] is None:
      self._models = [None] * len(self._models)
      dtype = jax.tree.leaves(self.group.particles)[0].dtype
      self._models[i] = self._place(
          jax.tree.map(lambda x: x[i].astype(dtype), self._particles))
    return self._models[i]

  def _place(self, params):
    # Stacked layers are copied at every step by the CPU backend.
    if jax.default_backend() == "cpu":
      params = decoder_lib.unstack(params)
    return jax.tree.map(jnp.asarray, params)

  def _pack(self, particles):
    # Once an update, not once a batch.
    return decoder_lib.pack(particles, self._params["embed"].dtype,
                            decoder_lib.is_unstacked(self._params))

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
    if self._dense:
      adapter = experts_lib.dense_adapter(group.particles, np.asarray(particles["mix"][i]))
    else:
      adapter = jax.tree.map(lambda x: np.asarray(x[i]), particles)
    hf.save_adapter(target, adapter, spec.base, group.config)
    return {"kind": "lora", "path": place, "base": spec.base}


def _batches(requests, tokens, settings, split_experts):
  """Index lists: rows of like length together, full-weight experts apart."""
  order = sorted(range(len(requests)), key=lambda i: (
      requests[i].expert if split_experts else 0, requests[i].limit, -len(tokens[i])))
  batches, current = [], []
  for i in order:
    width = _bucket(len(tokens[current[0]] if current else tokens[i]), 16)
    room = min(settings.rows,
               max(1, settings.batch_tokens // (width + requests[i].limit)))
    fits = current and len(current) < room and (
        requests[current[0]].limit == requests[i].limit) and not (
        split_experts and requests[current[0]].expert != requests[i].expert)
    if not fits and current:
      batches.append(current)
      current = []
    current.append(i)
  if current:
    batches.append(current)
  logging.debug("%d requests in %d batches", len(requests), len(batches))
  return batches


def _bucket(n: int, least: int) -> int:
  """The smallest of least * {1, 1.5, 2, 3, 4, 6, 8 ...} that holds n."""
  size = least
  while size < n:
    size = size * 3 // 2 if size * 3 // 2 >= n and size >= 2 * least else size * 2
  return size
