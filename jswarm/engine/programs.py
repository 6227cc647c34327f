"""What runs on a replica, as pure functions of arrays: prefill, decode, leap, take,
grow.

`batcher` spreads them over the replicas; on one CPU device a prefill runs outside of
jit, as a few small programs, and of a deep base each decode step too.
"""

import functools

import jax
import jax.numpy as jnp

from jswarm.model import lanes as lanes_lib
from jswarm.model import lora, speculate
from jswarm.model.attention import spans
from jswarm.model.decoder import Decoder, empty_cache, is_unstacked, without_layers
from jswarm.model.sampling import Sampling

SHALLOW = 8  # layers that one program holds on a CPU; it takes 0.3 s each to compile
_GROUP = 5  # layers of a deeper base in one program, at most


@functools.lru_cache(maxsize=256)  # the same function in every engine: one compilation
def function(kind, decoder, sampling, *facts):
  """What a replica runs, as a function of arrays alone."""
  if kind == "grow":
    return lambda lanes: lanes_lib.grow(lanes, facts[0])
  if kind == "take":
    return lambda lanes, index: lanes_lib.take(lanes, index)
  if kind == "prefill":
    return lambda params, adapters, stops, lanes, owners, row: prefill(
      decoder,
      params,
      adapters,
      owners,
      lanes,
      row,
      stops,
      sampling=sampling,
      reach=facts[0],
      prefix=facts[1],
    )

  if kind == "steps":
    return lambda params, adapters, stops, lanes, owners, fewest: _steps(
      decoder, params, adapters, owners, lanes, stops, fewest, sampling
    )

  def run(params, adapters, stops, lanes, owners, fewest):
    adapters, mix = _owned(adapters, owners, loop=True)
    if kind == "leap":
      return speculate.decode(decoder, params, adapters, mix, lanes, stops, fewest)
    return lanes_lib.decode(
      decoder, params, adapters, mix, lanes, stops, fewest, sampling=sampling
    )

  return run


def prefill(
  decoder: Decoder,
  params,
  adapters,
  owners,
  lanes,
  row,
  stops,
  *,
  sampling: Sampling,
  reach: int,
  prefix: int,
):
  """Computes a pack of prompts and admits them to their lanes.

  Args:
    owners: of blocks of tokens, or mix [T, E] for packed adapters.
    row: the arrays of `packing.row`.
    reach: static, at least the longest run of one prompt's tokens.
    prefix: static, P first tokens that prompts of an expert share in the pack.
  """
  adapters, mix = _owned(adapters, owners)
  slots = lanes.cache.positions.shape[1] - lanes.said.shape[1]
  outside, layers = without_layers(params), params["layers"]
  light = None if adapters is None else adapters.replace(layers=None)
  x, step, cache, at, index = _enter(
    decoder,
    is_unstacked(params),
    slots,
    reach,
    prefix,
    outside["embed"],
    light,
    mix,
    row,
  )
  x, (k, v) = decoder.run(layers, x, step, adapters, (cache.k, cache.v))
  cache = cache.replace(k=k, v=v)
  leave = _leave if decoder.config.layers > SHALLOW else _leave_at_once
  return leave(decoder, sampling, outside, x, at, lanes, cache, row, index, stops)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _enter(decoder, unstacked, slots, reach, prefix, embed, adapters, mix, row):
  """Of a pack, all that comes before the layers: (x, step, cache, last token of each
  prompt [1, R], places of all of their tokens [R, slots])."""
  tokens, config = row["tokens"], decoder.config
  cache = empty_cache(config, 1, len(tokens), embed.dtype, unstacked)
  at, where, index = _places(row, slots, reach, prefix)
  x, step, cache = decoder.enter(
    embed,
    tokens[None],
    row["positions"][None],
    cache,
    adapters,
    None if mix is None else mix[None],
    where,
  )
  return x, step, cache, at, index


def _leave(decoder, sampling, outside, x, at, lanes, cache, row, index, stops):
  """All that comes behind the layers: first tokens, and the prompts in their lanes."""
  logits = decoder.leave(outside, x, at)
  return lanes_lib.admit(
    lanes,
    cache,
    row["tokens"],
    logits,
    row["lane"],
    index,
    row["length"],
    row["limit"],
    row["seed"],
    stops,
    sampling=sampling,
  )


# Of a deep base, putting each layer in its lanes by one small program compiles sooner.
_leave_at_once = jax.jit(_leave, static_argnums=(0, 1), donate_argnums=5)


def group_of(layers: int) -> int:
  """How many layers of a deep base are one program of a decode step; they divide it."""
  return max(n for n in range(1, _GROUP + 1) if layers % n == 0)


def _steps(decoder, params, adapters, owners, lanes, stops, fewest, sampling):
  """`decode` of a deep base, as a Python loop."""
  adapters, mix = _owned(adapters, owners, loop=True)
  return lanes_lib.decode_in_groups(
    decoder,
    params,
    adapters,
    mix,
    lanes,
    stops,
    fewest,
    sampling=sampling,
    together=group_of(decoder.config.layers),
  )


def _places(row, slots, reach, prefix):
  """Of a pack: (last token of each prompt [1, R], `Spans`, all tokens [R, slots])."""
  last = jnp.maximum(row["begin"] + row["length"] - prefix - 1, 0)[None]
  where = spans(row["positions"], reach, row["roots"], prefix)
  place = jnp.arange(slots, dtype=jnp.int32)[None]
  index = row["begin"][:, None] - prefix + place
  if prefix:
    index = jnp.where(place < prefix, row["root"][:, None] + place, index)
  return last, where, index


def _owned(adapters, owners, loop=False):
  """(adapters, mix) as `Decoder.apply` takes them."""
  if adapters is None:
    return None, None
  if not isinstance(adapters, lora.Grouped):
    return adapters, owners
  adapters = adapters.replace(owners=owners)
  return (lora.gather(adapters) if loop else adapters), None
