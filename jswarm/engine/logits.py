"""Next-token logits of several experts in lockstep, for decodes that fuse them.

Text and weights are here; the arrays are `model.fusion`. A state holds a stream for
each set of weights: the mixed rows of a group together, merged and whole experts alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Logits, Request
from jswarm.engine import rectangles
from jswarm.engine.packing import size_of
from jswarm.engine.rectangles import Row, Source
from jswarm.formats import tokenizer
from jswarm.model import fusion
from jswarm.model.decoder import Decoder

_LEAST = 16  # steps that a cache has room for


class _Stream(NamedTuple):
  """Rows of one set of weights: arguments of `fusion.step`, and which requests."""

  decoder: Decoder
  params: Any
  adapters: Any
  mix: Any
  rows: fusion.Rows
  members: list[int]


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

  def prefill(requests: Sequence[Request]):
    steps = max((r.limit for r in requests), default=0)
    streams = []
    for source, mine in rectangles.by_source(sources, requests):
      streams += _open(source, requests, mine, steps)
    return _gather(_State(streams, steps))

  return Logits(
    prefill=prefill,
    step=_advance,
    tokens=lambda expert: words(expert).get_vocab(),
    decode=lambda expert, ids: tokenizer.decode(words(expert), [ids])[0],
    stops=tuple(tuple(of[expert].text(expert).stops) for expert in sorted(of)),
  )


def _open(source, requests, mine, steps):
  """Streams of one group after their prompts."""
  encoded = rectangles.encode(source, [requests[i] for i in mine])
  prompts = [
    rectangles.begun(source, requests[i].expert, t) for i, t in zip(mine, encoded)
  ]
  for i, tokens in zip(mine, prompts):
    rectangles.check(source, requests[i].expert, tokens, steps, requests[i].prompt)
  rows = [Row(source.row(requests[i].expert), t) for i, t in zip(mine, prompts)]
  for weights, part in rectangles.streams(source, [row.owner for row in rows]):
    chosen = [rows[i] for i in part]
    batch = rectangles.batch(source, weights, chosen, len(part))
    begun = batch.call(fusion.prefill, steps=size_of(max(steps, 1), _LEAST))
    yield _Stream(*batch[:4], begun, [mine[i] for i in part])


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
    rows = _step(*stream[:5], jnp.asarray(fed[stream.members]))
    streams.append(stream._replace(rows=rows))
  return _gather(_State(streams, state.left - 1))


def _gather(state):
  """(logits of each row, in the order of the requests; state)."""
  found: dict[int, np.ndarray] = {}
  for stream in state.streams:
    # Copied: the next step takes the device's buffer.
    logits = np.array(stream.rows.logits)
    for i, row in zip(stream.members, logits):
      found[i] = row
  return [found[i] for i in range(len(found))], state
