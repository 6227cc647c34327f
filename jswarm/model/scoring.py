"""What a model thinks of given tokens: log-probabilities, and means of its states.

Batches are rectangles, right-padded; padding is masked by position, so that a row says
the same whatever stands beside it. Rows bring their own experts as in `Decoder.apply`:
adapters grouped (one block a row) or packed with a mix [B, E].
"""

from functools import partial

import jax
import jax.numpy as jnp

from jswarm.model.decoder import Decoder

_LOGITS = 1 << 26  # numbers of logits that exist at a time, 256 MiB


@partial(jax.jit, static_argnums=1)
def positions_of(lengths, width: int):
  """int32 [B, T]: 0, 1, 2 ... up to each row's length, then -1."""
  index = jnp.arange(width, dtype=jnp.int32)[None]
  return jnp.where(index < lengths[:, None], index, -1)


def log_probs(
  decoder: Decoder, params, adapters, mix, tokens, lengths, begins, *, most: int
):
  """Log-probabilities of the last tokens of every row, each given those before it.

  Args:
    decoder, params, adapters, mix: as in `Decoder.apply`; decoder static.
    tokens: int32 [B, T], right-padded with anything.
    lengths: int32 [B], tokens of each row.
    begins: int32 [B], at least 1: the first token of the row that is asked for.
    most: R, static, at least every lengths - begins.

  Returns:
    float32 [B, R]: entry r is log p(tokens[begins + r] | tokens[: begins + r]), 0
    where the row has ended.
  """
  positions = positions_of(lengths, tokens.shape[1])
  at, wanted, inside = _asked(tokens, lengths, begins, most)
  states, _ = decoder.hidden(
    params, tokens, positions, adapters=adapters, mix=mix, at=at
  )
  kept = {name: part for name, part in params.items() if name != "layers"}
  return _chosen(decoder, kept, states, wanted, inside)


@partial(jax.jit, static_argnums=3)
def _asked(tokens, lengths, begins, most):
  """[B, R] each: positions whose states foretell, tokens that come, is it one."""
  place = begins[:, None] + jnp.arange(most, dtype=jnp.int32)[None]
  inside = place < lengths[:, None]
  place = jnp.where(inside, place, 1)
  last = tokens.shape[1] - 1
  return place - 1, jnp.take_along_axis(tokens, jnp.minimum(place, last), 1), inside


@partial(jax.jit, static_argnums=0)
def _chosen(decoder, params, states, wanted, inside):
  """Log-softmax of states[B, R, D] at wanted[B, R] where `inside`, else 0; for few
  positions at a time."""
  rows, most = wanted.shape
  size = max(1, min(most, _LOGITS // (rows * decoder.config.vocab)))
  count = -(-most // size)
  short = ((0, 0), (0, count * size - most))
  states = jnp.pad(states, (*short, (0, 0)))
  wanted = jnp.pad(wanted, short)

  def one(part):
    logits = decoder.head(params, part[0])
    picked = jnp.take_along_axis(logits, part[1][:, :, None], axis=2)[:, :, 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)

  parts = (
    states.reshape(rows, count, size, -1).swapaxes(0, 1),
    wanted.reshape(rows, count, size).swapaxes(0, 1),
  )
  out = jax.lax.map(one, parts)  # [count, B, size]
  out = out.swapaxes(0, 1).reshape(rows, count * size)[:, :most]
  return jnp.where(inside, out, 0.0)


def mean_states(decoder: Decoder, params, adapters, mix, tokens, lengths):
  """float32 [B, D]: states after the final norm, averaged over each row's tokens.

  Arguments as in `log_probs`; lengths at least 1, but for rows that only fill the
  batch, whose mean is 0.
  """
  positions = positions_of(lengths, tokens.shape[1])
  states, _ = decoder.hidden(params, tokens, positions, adapters=adapters, mix=mix)
  return _mean(states, lengths, positions)


@jax.jit
def _mean(states, lengths, positions):
  total = jnp.sum(jnp.where((positions >= 0)[:, :, None], states, 0.0), axis=1)
  return total / jnp.maximum(lengths, 1)[:, None].astype(jnp.float32)
