"""Replies, on the device: tokens[B, T] -> tokens[B, M].

One prefill of the prompts as a rectangle, then a `lax.while_loop` that stops when every
row has stopped: `lanes.decode` on one batch, for small jobs and as the reference for
`engine.batcher`, which keeps the lanes full. The library answers through the
batcher; this stays in it because it is the whole loop in one page, which tests hold the
batcher against. Every row has its own prompt length,
limit, seed and mixture of experts, and what a row says does not depend on the rows
beside it: padding is masked by position and noise is keyed by the row's seed.
"""

import functools

import jax
import jax.numpy as jnp

from jswarm.model.decoder import Decoder, empty_cache, is_unstacked
from jswarm.model.lanes import Lanes, choose, decode
from jswarm.model.lora import Packed, pack
from jswarm.model.sampling import Sampling


@functools.partial(jax.jit, static_argnames=("decoder", "new_tokens", "sampling"))
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
    stops: int32 [n] token ids that end a reply; -1 is no token, so it pads n.
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
  cache = empty_cache(decoder.config, batch, length + new_tokens, dtype, unstacked)
  if adapters and not isinstance(adapters, Packed):
    adapters = pack(adapters, dtype, unstacked)  # here, not in every step of the loop
  logits, cache = decoder.apply(
    params, tokens, positions, cache, adapters, mix, at=jnp.maximum(lengths - 1, 0)
  )
  zeros = jnp.zeros(batch, jnp.int32)
  start = Lanes(
    cache=cache,
    prompt=tokens,
    token=zeros,
    position=lengths - 1,
    step=zeros,
    limit=jnp.minimum(limits, new_tokens),
    seed=seeds.astype(jnp.uint32),
    active=limits > 0,
    said=jnp.full((batch, new_tokens), -1, jnp.int32),
    steps=jnp.int32(0),
  )
  end = decode(
    decoder,
    params,
    adapters,
    mix,
    choose(start, logits, stops, sampling),
    stops,
    jnp.int32(1),
    sampling=sampling,
  )
  return end.said, jnp.sum(end.said >= 0, axis=1, dtype=jnp.int32)


def _check_shapes(batch, lengths, limits, seeds, mix):
  found = {"lengths": lengths.shape, "limits": limits.shape, "seeds": seeds.shape}
  wrong = {name: shape for name, shape in found.items() if shape != (batch,)}
  if mix is not None and mix.shape[0] != batch:
    wrong["mix"] = mix.shape
  if wrong:
    raise ValueError(
      f"tokens has {batch} rows, but the shapes are {wrong}; give one entry a row"
    )
