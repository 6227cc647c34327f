"""Next-token logits of several experts in lockstep, for decodes that fuse them.

Text and weights are here; the arrays are `model.fusion`. A state holds a stream for
each set of weights: the mixed rows of a group together, merged and whole experts alone.
Where memory runs out, rows are divided among streams of half the size, from then on,
and none is lost.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Logits, Request
from jswarm.engine import adapter_forms, rectangles
from jswarm.engine.limits import Limits, is_out_of_memory
from jswarm.engine.packing import size_of
from jswarm.engine.rectangles import Row, Source
from jswarm.formats import tokenizer
from jswarm.model import fusion, lora
from jswarm.model.decoder import Decoder

_LEAST = 16  # steps that a cache has room for
_ANY = 1 << 30  # rows of a stream, until memory has run out


class _Stream(NamedTuple):
  """Rows of one set of weights: arguments of `fusion.step`, and which requests."""

  decoder: Decoder
  params: Any
  adapters: Any
  mix: Any
  rows: fusion.Rows
  members: list[int]
  limits: Limits  # of its group: most rows, by the slots of their caches


class _Fed(NamedTuple):
  """A prompt in tokens of the expert that is asked; its text, if it had one."""

  expert: int
  tokens: Sequence[int]
  text: str


class _State(NamedTuple):
  streams: list[_Stream]
  left: int  # steps for which the caches have room


_step = jax.jit(fusion.step, static_argnames=("decoder",), donate_argnames=("rows",))


def make_logits(sources: Sequence[Source]) -> Logits:
  """The logits of a pool.

  A state holds the cache of every row, and what its rows run on: experts that are whole
  models, or merged (engine.form), are all on the device until it is dropped.
  """
  of = {expert: source for source in sources for expert in source.group.members}
  words = lambda expert: of[expert].text(expert).tokenizer
  # Not those of `rectangles`, which hold no cache.
  limits = {id(source): Limits(_ANY, _ANY) for source in sources}

  def prefill(requests: Sequence[Request]):
    steps = max((r.limit for r in requests), default=0)
    fed: list[_Fed] = [_Fed(0, (), "")] * len(requests)
    for source, mine in rectangles.by_source(sources, requests):
      encoded = rectangles.encode(source, [requests[i] for i in mine])
      for i, tokens in zip(mine, encoded):
        begun = rectangles.begun(source, requests[i].expert, tokens)
        fed[i] = _Fed(requests[i].expert, begun, requests[i].prompt)
    return open_all(fed, steps)

  def open_all(fed: Sequence[_Fed], steps: int):
    streams = []
    for source, mine in rectangles.by_source(sources, fed):
      streams += _open(source, limits[id(source)], fed, mine, steps)
    return _gather(_State(streams, steps))

  def encode(request: Request) -> list[int]:
    source = of[request.expert]
    (tokens,) = rectangles.encode(source, [request])
    return rectangles.begun(source, request.expert, tokens)

  return Logits(
    prefill=prefill,
    step=_advance,
    encode=encode,
    begin=lambda prompts, limit: open_all([_Fed(e, t, "") for e, t in prompts], limit),
    along=lambda expert, tokens: _along(of[expert], expert, tokens),
    tokens=lambda expert: words(expert).get_vocab(),
    decode=lambda expert, ids: tokenizer.decode(words(expert), [ids])[0],
    stops=tuple(tuple(of[expert].text(expert).stops) for expert in sorted(of)),
  )


def _along(source: Source, expert: int, tokens: Sequence[int]) -> np.ndarray:
  """Logits [T, V] after each of the tokens; see `Logits.along`."""
  rectangles.check(source, expert, tokens, 0, "")
  row = Row(source.row(expert), tokens)
  ((weights, _),) = rectangles.streams(source, [row.owner])
  logits = rectangles.batch(source, weights, [row], 1).call(fusion.along)
  return np.asarray(logits)[0, : len(tokens)]


def _open(source, limits, fed, mine, steps):
  """Streams of one group after their prompts."""
  for i in mine:
    rectangles.check(source, fed[i].expert, fed[i].tokens, steps, fed[i].text)
  rows = [Row(source.row(fed[i].expert), fed[i].tokens) for i in mine]
  for weights, part in rectangles.streams(source, [row.owner for row in rows]):
    chosen = [rows[i] for i in part]
    yield from _begin(source, limits, weights, chosen, [mine[i] for i in part], steps)


def _begin(
  source: Source,
  limits: Limits,
  weights: adapter_forms.Weights,
  rows: list[Row],
  members: list[int],
  steps: int,
):
  """Streams of rows on the same weights: one, unless memory runs out."""
  room = size_of(max(steps, 1), _LEAST)
  while rows:
    slots = rectangles.width(rows) + room
    count = min(len(rows), limits.rows(slots))
    try:
      batch = rectangles.batch(source, weights, rows[:count], count)
      begun = batch.call(fusion.prefill, steps=room)
      jax.block_until_ready(begun.logits)
    except jax.errors.JaxRuntimeError as error:
      _halve(limits, slots, count, error)
      continue
    yield _Stream(*batch[:4], begun, members[:count], limits)
    rows, members = rows[count:], members[count:]


def _halve(limits: Limits, slots: int, count: int, error: Exception) -> None:
  """Plans with half of the rows, or gives up where nothing is left to halve."""
  if not is_out_of_memory(error) or not limits.halve(slots, count, 0):
    raise error
  logging.warning(
    "Out of device memory: from now on logits of %d rows of %d tokens at a time.",
    limits.rows(slots),
    slots,
  )


def _advance(state: _State, tokens: Sequence[int]):
  """The state after one token a row; see `Logits.step`."""
  count = sum(len(stream.members) for stream in state.streams)
  if len(tokens) != count:
    raise ValueError(f"{len(tokens)} tokens for {count} rows: give one a row, or -1.")
  if not state.left:
    raise ValueError(
      "no room for another step: give `prefill` requests of a larger limit."
    )
  if any(stream.rows.position.is_deleted() for stream in state.streams):
    raise ValueError(
      "this state has been stepped already and its cache used again: go on with the"
      " state that came back."
    )
  fed = np.asarray(tokens, np.int32)
  for stream in state.streams:  # all before the first cache is used again
    largest, vocab = fed[stream.members].max(), stream.decoder.config.vocab
    if largest >= vocab:
      raise ValueError(
        f"token {largest} of a vocabulary of {vocab}: give a smaller id."
      )
  streams = []
  for stream in state.streams:
    streams += _stepped(stream, fed)
  return _gather(_State(streams, state.left - 1))


def _stepped(stream: _Stream, fed: np.ndarray) -> list[_Stream]:
  """The stream after a step; where memory runs out, in halves."""
  slots, count = stream.rows.cache.positions.shape[-1], len(stream.members)
  try:
    rows = _step(*stream[:5], jnp.asarray(fed[stream.members]))
    jax.block_until_ready(rows.logits)
    return [stream._replace(rows=rows)]
  except jax.errors.JaxRuntimeError as error:
    # Given to a program that had begun, the cache is gone.
    if any(leaf.is_deleted() for leaf in jax.tree.leaves(stream.rows)):
      raise
    _halve(stream.limits, slots, count, error)
  return [moved for half in _halves(stream) for moved in _stepped(half, fed)]


def _halves(stream: _Stream) -> list[_Stream]:
  """Two streams of its rows, which go by way of the host: there is no room for a second
  copy of them."""
  rows = jax.device_get(stream.rows)
  for leaf in jax.tree.leaves(stream.rows):
    leaf.delete()
  half, count = len(stream.members) // 2, len(stream.members)
  return [
    _part(stream, rows, np.arange(half)),
    _part(stream, rows, np.arange(half, count)),
  ]


def _part(stream, rows, part):
  """A stream of some rows of one."""
  adapters, mix = stream.adapters, stream.mix
  if isinstance(adapters, lora.Grouped) and adapters.owners is not None:
    adapters = adapters.replace(owners=adapters.owners[part])
  if mix is not None:
    mix = mix[part]
  members = [stream.members[b] for b in part]
  mine = jax.device_put(fusion.take(rows, part))
  return stream._replace(adapters=adapters, mix=mix, rows=mine, members=members)


def _gather(state):
  """(logits of each row, in the order of the requests; state)."""
  found: dict[int, np.ndarray] = {}
  for stream in state.streams:
    # Copied: the next step takes the device's buffer.
    logits = np.array(stream.rows.logits)
    for i, row in zip(stream.members, logits):
      found[i] = row
  return [found[i] for i in range(len(found))], state
