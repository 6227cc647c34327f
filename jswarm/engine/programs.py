"""What runs on a desk, as pure functions of arrays: prefill, decode, leap, take, grow.

`serve` spreads them over the desks; on one CPU device a prefill runs outside of jit, as
a few small programs.
"""

import functools

import jax
import jax.numpy as jnp

from jswarm.model import lanes as lanes_lib
from jswarm.model import lora, speculate
from jswarm.model.attention import spans
from jswarm.model.decoder import Decoder, empty_cache, is_unstacked
from jswarm.model.sampling import Sampling


@functools.lru_cache(maxsize=256)  # the same function in every engine: one compilation
def function(kind, decoder, sampling, *facts):
  """What a desk runs, as a function of arrays alone."""
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
  tokens, positions = row["tokens"], row["positions"]
  cache = empty_cache(
    decoder.config, 1, len(tokens), params["embed"].dtype, is_unstacked(params)
  )
  slots = lanes.cache.positions.shape[1] - lanes.said.shape[1]
  at, where, index = _places(row, slots, reach, prefix)
  logits, cache = decoder.apply(
    params,
    tokens[None],
    positions[None],
    cache,
    adapters,
    None if mix is None else mix[None],
    at,
    where,
  )
  return lanes_lib.admit(
    lanes,
    cache,
    tokens,
    logits[0],
    row["lane"],
    index,
    row["length"],
    row["limit"],
    row["seed"],
    stops,
    sampling=sampling,
  )


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
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
