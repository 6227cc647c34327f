"""Rows of tokens -> right-padded rectangles -> one result a row, on the first device.

For what is read off a pool without replies (`readings`, `logits`): there is nothing to
keep full, so neither lanes nor packs are needed. Rows of all experts of a group share a
rectangle, each with its own adapter, on the weights that are installed.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import Any, NamedTuple

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.engine import adapter_forms
from jswarm.engine.limits import Limits, is_out_of_memory
from jswarm.engine.packing import size_of
from jswarm.engine.settings import Settings
from jswarm.formats import tokenizer
from jswarm.model import lora
from jswarm.model.decoder import Decoder, is_unstacked, make_decoder
from jswarm.pool.load import Group, Text

_LEAST = 32  # tokens of a rectangle's rows: with `size_of`, few shapes
MOST_ROWS = 64


class Source(NamedTuple):
  """One group of a pool: what it is, and what its experts run on now."""

  group: Group
  particles: Any  # resident.Resident: mixed, alone, dense, costly
  settings: Settings
  limits: Limits  # rows and tokens of a rectangle, by its width

  def row(self, expert: int) -> int:
    """The place of an expert of the pool in its group."""
    return self.group.members.index(expert)

  def text(self, expert: int) -> Text:
    """How an expert of the pool reads and ends text."""
    return self.group.text(self.row(expert))


class Row(NamedTuple):
  """The tokens of one row; what is asked of them begins at `begin`."""

  owner: int  # the expert's place in its group
  tokens: Sequence[int]
  begin: int = 1


class Batch(NamedTuple):
  """A rectangle on the device, and what its rows run on: see `Decoder.apply`."""

  decoder: Decoder
  params: Any
  adapters: Any
  mix: Any
  tokens: jax.Array  # int32 [B, T]
  lengths: jax.Array  # int32 [B], 0 where a row only fills the batch

  def call(self, function: Callable, *more, **static):
    """`function` of these and more: one program, or where layers are a list, which
    compiles slowly as a whole, a few small ones."""
    eager = is_unstacked(self.params)
    run = function if eager else _compiled(function, ("decoder", *static))
    return run(*self, *more, **static)


@functools.cache
def _compiled(function, static):
  return jax.jit(function, static_argnames=static)


def by_source(sources: Sequence[Source], requests) -> list[tuple[Source, list[int]]]:
  """(group, indices of its requests) for each group that is asked."""
  found = []
  for source in sources:
    mine = [i for i, r in enumerate(requests) if r.expert in source.group.members]
    found += [(source, mine)] if mine else []
  if sum(len(mine) for _, mine in found) != len(requests):
    known = sorted(e for source in sources for e in source.group.members)
    unknown = sorted({r.expert for r in requests} - set(known))
    raise ValueError(f"there are no experts {unknown}: the pool has {known}.")
  return found


def encode(source: Source, requests, replies: Sequence[str] = ()) -> list[list[int]]:
  """Token ids of the prompts, each with the reply behind it if there are replies."""
  return encode_each(requests, source.text, replies)


def encode_each(
  requests, text: Callable[[int], Text], replies: Sequence[str] = ()
) -> list[list[int]]:
  """`encode`, each request with the tokenizer of its expert, many at a time."""
  tokens: list[list[int]] = [[]] * len(requests)
  alike: dict[tuple[int, bool], list[int]] = {}
  for i, request in enumerate(requests):
    words = text(request.expert).tokenizer
    alike.setdefault((id(words), bool(request.chat)), []).append(i)
  for (_, chat), mine in alike.items():
    words = text(requests[mine[0]].expert).tokenizer
    after = [replies[i] for i in mine] if replies else ()
    prompts = [requests[i].prompt for i in mine]
    encoded = tokenizer.encode(words, prompts, chat, after)
    for i, ids in zip(mine, encoded):
      tokens[i] = ids
  return tokens


def begun(source: Source, expert: int, tokens: list[int]) -> list[int]:
  """Tokens of a prompt; of one without any, BOS, or EOS of a tokenizer without BOS: a
  model has to begin somewhere."""
  if tokens:
    return tokens
  words = source.text(expert).tokenizer
  first = words.eos_token_id if words.bos_token_id is None else words.bos_token_id
  if first is None:
    name = source.group.specs[source.row(expert)].name
    raise ValueError(
      f"an empty prompt for {name}, whose tokenizer has neither"
      " BOS nor EOS to begin with: give a prompt of at least one token."
    )
  return [first]


def check(
  source: Source, expert: int, tokens: Sequence[int], new: int, prompt: str
) -> None:
  """Raises ValueError where tokens and `new` more exceed the context."""
  most = source.text(expert).max_positions
  if len(tokens) + new > most:
    raise ValueError(
      f"{len(tokens)} tokens and {new} new ones exceed the context of {most}:"
      f" {prompt[:80]!r}... Shorten the prompt, see `Experts.clip`."
    )


def streams(
  source: Source, owners: Sequence[int]
) -> Iterator[tuple[adapter_forms.Weights, list[int]]]:
  """(weights, which rows run on them): mixed rows together, other experts alone."""
  of = lambda chosen: [i for i, owner in enumerate(owners) if owner in chosen]
  form, alone = "", sorted(set(owners))
  if source.group.kind == "lora":
    form, alone = adapter_forms.choose(
      source.settings.form,
      jax.default_backend(),
      owners,
      len(source.group.members),
      source.particles.dense,
      not source.settings.int8,
      source.particles.costly,
    )
  mixed = set(owners) - set(alone)
  if mixed:
    yield _first_device(source, source.particles.mixed(form)), of(mixed)
  for owner in alone:
    yield _first_device(source, source.particles.alone(owner)), of({owner})


def _first_device(source, weights):
  """Of copies on several devices the first; parts of one base stay where they are,
  and XLA puts the product together."""
  if source.settings.tensor > 1:
    return weights
  first = lambda x: x.addressable_shards[0].data
  return adapter_forms.Weights(
    params=jax.tree.map(first, weights.params),
    adapters=jax.tree.map(first, weights.adapters),
    mix=weights.mix,
  )


def batch(
  source: Source, weights: adapter_forms.Weights, rows: Sequence[Row], size: int
) -> Batch:
  """The rectangle of `size` rows, those that are given first."""
  tokens = np.zeros((size, width(rows)), np.int32)
  lengths, owners = np.zeros(size, np.int32), np.zeros(size, np.int32)
  for b, row in enumerate(rows):
    tokens[b, : len(row.tokens)] = row.tokens
    lengths[b], owners[b] = len(row.tokens), row.owner
  adapters, mix = weights.adapters, None
  if isinstance(adapters, lora.Grouped):
    adapters = adapters.replace(owners=jnp.asarray(owners))
  elif adapters is not None and weights.mix is not None:
    mix = jnp.asarray(weights.mix[owners])
  decoder = make_decoder(source.group.config)
  rectangle = jnp.asarray(tokens), jnp.asarray(lengths)
  return Batch(decoder, weights.params, adapters, mix, *rectangle)


def run(
  source: Source, rows: Sequence[Row], compute: Callable[[Batch, list[Row]], jax.Array]
) -> list[np.ndarray]:
  """One result for each row: compute(batch, its rows) gives [B, ...].

  Rows share rectangles with those beside them, so give them sorted by length, or those
  that belong together side by side.
  """
  found: dict[int, np.ndarray] = {}
  while left := [i for i in range(len(rows)) if i not in found]:
    for weights, mine in streams(source, [rows[i].owner for i in left]):
      _fill(source, weights, rows, [left[i] for i in mine], compute, found)
  return [found[i] for i in range(len(rows))]


def _fill(source, weights, rows, mine, compute, found):
  """Puts the results of rows `mine` into `found`; where memory runs out, fewer of them,
  and the next ones will be computed in smaller rectangles."""
  made, part = [], []
  try:
    for part in _cut(rows, mine, source.limits):
      chosen = [rows[i] for i in part]
      size = size_of(len(part), 1)
      made.append((part, compute(batch(source, weights, chosen, size), chosen)))
    # Fetched at last: the device computes while the host pads what follows.
    for part, out in made:
      found.update(zip(part, np.asarray(out)))
  except jax.errors.JaxRuntimeError as error:
    length = width([rows[i] for i in part])
    count = size_of(len(part), 1)
    if not is_out_of_memory(error) or not source.limits.halve(length, count, 0):
      raise
    logging.warning(
      "Out of device memory: from now on %d rows of %d tokens at a time.",
      source.limits.rows(length),
      length,
    )


def width(rows: Sequence[Row]) -> int:
  """T, tokens of the rectangle that holds these rows."""
  return size_of(max(len(row.tokens) for row in rows), _LEAST)


def _cut(rows, mine, limits):
  """Indices of each rectangle: of about as many tokens, padding included, as its width
  allows."""
  left = list(mine)
  while left:
    length = width([rows[left[0]]])
    count = min(max(1, limits.pack(length) // length), limits.rows(length))
    yield left[:count]
    left = left[count:]
