"""Replies, on the device: tokens[B, T] -> tokens[B, M].

One prefill of the prompts, then a `lax.while_loop` that stops when every row has
stopped. Every row has its own prompt length, limit, seed and mixture of experts, and
what a row says does not depend on the rows beside it: padding is masked by position and
noise is keyed by the row's seed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jswarm.decoder import Cache
from jswarm.decoder import Decoder
from jswarm.decoder import empty_cache
from jswarm.decoder import is_unstacked
from jswarm.decoder import pack
from jswarm.decoder import Packed
from jswarm.sampling import sample
from jswarm.sampling import Sampling


class _Loop(NamedTuple):
  """What the loop carries; the weights are closed over, not carried."""

  step: jax.Array  # int32, tokens chosen so far
  token: jax.Array  # int32 [B], the last of them
  active: jax.Array  # bool [B], rows that want another token
  tokens: jax.Array  # int32 [B, M], -1 where there is none
  cache: Cache


@functools.partial(
  jax.jit, static_argnames=("decoder", "new_tokens", "sampling")
)
def generate(
  decoder: Decoder,
  params,
  adapters,
  mix,
  tokens,
  lengths,
  limits,
  stops,
  seeds,
  *,
  new_tokens: int,
  sampling: Sampling,
):
  """Continues every prompt until a stop token or its limit.

  Pure and compiled: one program for each decoder, shape, `new_tokens` and `sampling`.
  The token of row b at step t is drawn with the key fold_in(key(seeds[b]), t).

  Args:
    decoder, params: the model, decoder static; params stacked or `unstack`ed.
    adapters, mix: low-rank experts and each row's mixture [B, E] of them, or None.
    tokens: int32 [B, T] prompts, right-padded with anything.
    lengths: int32 [B], tokens of each prompt, from 1 to T. A row that only fills the
      batch may have length 0 with limit 0.
    limits: int32 [B], most new tokens of each row; more than `new_tokens` is cut.
    stops: int32 [K] token ids that end a reply; -1 is no token, so it pads K.
    seeds: uint32 [B].
    new_tokens: M, static.
    sampling: static.

  Returns:
    (tokens int32 [B, M], counts int32 [B]): the replies without their stop token, -1
    from counts[b] on.
  """
  batch, length = tokens.shape
  _check_shapes(batch, lengths, limits, seeds, mix)
  index = jnp.arange(length, dtype=jnp.int32)[None]
  positions = jnp.where(index < lengths[:, None], index, -1)
  dtype, unstacked = params["embed"].dtype, is_unstacked(params)
  slots = length + new_tokens
  cache = empty_cache(decoder.config, batch, slots, dtype, unstacked)
  if adapters and not isinstance(adapters, Packed):
    adapters = pack(adapters, dtype, unstacked)  # here, not in every step of the loop
  logits, cache = decoder.apply(
    params, tokens, positions, cache, adapters, mix, at=jnp.maximum(lengths - 1, 0)
  )
  limits = jnp.minimum(limits, new_tokens)

  def choose(loop, logits):
    """Draws token `step` of every row and files those of the active rows."""
    keys = jax.vmap(lambda s: jax.random.fold_in(jax.random.key(s), loop.step))(seeds)
    token = sample(logits, keys, sampling)
    stopped = jnp.any(token[:, None] == stops[None], axis=1)
    kept = loop.active & ~stopped
    column = jnp.where(kept, token, -1)[:, None]
    filed = jax.lax.dynamic_update_slice(loop.tokens, column, (0, loop.step))
    step = loop.step + 1
    return loop._replace(
      step=step, token=token, active=kept & (step < limits), tokens=filed
    )

  def advance(loop):
    # Rows that have stopped are computed along: nobody reads what they write.
    positions = (lengths + loop.step - 1)[:, None]
    logits, cache = decoder.apply(
      params, loop.token[:, None], positions, loop.cache, adapters, mix
    )
    return choose(loop._replace(cache=cache), logits[:, 0])

  start = _Loop(
    step=jnp.int32(0),
    token=jnp.zeros(batch, jnp.int32),
    active=limits > 0,
    tokens=jnp.full((batch, new_tokens), -1, jnp.int32),
    cache=cache,
  )
  end = jax.lax.while_loop(
    lambda loop: jnp.any(loop.active), advance, choose(start, logits)
  )
  return end.tokens, jnp.sum(end.tokens >= 0, axis=1, dtype=jnp.int32)


def _check_shapes(batch, lengths, limits, seeds, mix):
  found = {"lengths": lengths.shape, "limits": limits.shape, "seeds": seeds.shape}
  wrong = {name: shape for name, shape in found.items() if shape != (batch,)}
  if mix is not None and mix.shape[0] != batch:
    wrong["mix"] = mix.shape
  if wrong:
    raise ValueError(
      f"tokens has {batch} rows, but the shapes are {wrong}; give one entry a row"
    )
