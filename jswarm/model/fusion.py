"""Logits of many experts in lockstep: one prefill, then a token a row at a time.

The caller chooses the tokens, for instance from a mixture of all rows' logits; here are
only the two pure functions between which it does so, and the cache that they share.
"""

from flax import struct
import jax
import jax.numpy as jnp

from jswarm.model.decoder import Cache, Decoder, empty_cache, is_unstacked
from jswarm.model.scoring import positions_of


@struct.dataclass
class Rows:
  """Rows on their way.

  Attributes:
    cache: of the tokens so far.
    position: int32 [B], where the next token of each row stands.
    logits: float32 [B, V], of the next token of each row.
  """

  cache: Cache
  position: jax.Array
  logits: jax.Array


def prefill(
  decoder: Decoder, params, adapters, mix, tokens, lengths, *, steps: int
) -> Rows:
  """Rows after their prompts tokens[B, T], right-padded, of lengths[B].

  The cache has room for `steps` (static) more tokens; the other arguments are those of
  `Decoder.apply`, adapters grouped (one block a row) or packed with a mix [B, E].
  """
  batch, width = tokens.shape
  dtype, unstacked = params["embed"].dtype, is_unstacked(params)
  cache = empty_cache(decoder.config, batch, width + steps, dtype, unstacked)
  positions = positions_of(lengths, width)
  logits, cache = decoder.apply(
    params, tokens, positions, cache, adapters, mix, at=jnp.maximum(lengths - 1, 0)
  )
  return Rows(cache, lengths, logits)


def along(decoder: Decoder, params, adapters, mix, tokens, lengths):
  """float32 [B, T, V]: the logits after each token of right-padded rows."""
  positions = positions_of(lengths, tokens.shape[1])
  return decoder.apply(params, tokens, positions, None, adapters, mix)[0]


def step(decoder: Decoder, params, adapters, mix, rows: Rows, tokens) -> Rows:
  """Rows after one more token each, tokens int32 [B]; -1 leaves a row as it is.

  Every step takes a slot of the cache, also of rows that wait.
  """
  goes = tokens >= 0
  positions = jnp.where(goes, rows.position, -1)
  logits, cache = decoder.apply(
    params,
    jnp.maximum(tokens, 0)[:, None],
    positions[:, None],
    rows.cache,
    adapters,
    mix,
  )
  return Rows(
    cache,
    rows.position + goes.astype(jnp.int32),
    jnp.where(goes[:, None], logits[:, 0], rows.logits),
  )


def take(rows: Rows, part) -> Rows:
  """Some of the rows, part int [P] of B: also of arrays that lie on the host."""
  cache = rows.cache
  # Layers are a leading axis, or a list.
  of = lambda x: [leaf[part] for leaf in x] if isinstance(x, list) else x[:, part]
  cache = cache.replace(k=of(cache.k), v=of(cache.v), positions=cache.positions[part])
  return Rows(cache, rows.position[part], rows.logits[part])
