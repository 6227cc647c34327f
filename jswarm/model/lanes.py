"""Rows that decode side by side: logits[B, V] -> tokens, one step at a time.

A lane holds one reply in the making. Its prompt lies in the first C slots of the
cache; new tokens go into a ring of M slots behind them, at one cursor for all lanes,
so every step writes one column in place. A lane asks for at most M tokens and feeds
fewer than M back, so its oldest one is still there when it ends; a lane that has ended
can be given to another prompt at any time (`admit`), while the others go on.

What a lane says does not depend on the lanes beside it: slots are masked by position,
and noise is keyed by the lane's own seed and step.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp

from jswarm.model.decoder import Cache, Decoder, empty_cache
from jswarm.model.sampling import Sampling, sample


class Lanes(struct.PyTreeNode):
  """B replies in the making.

  Attributes:
    cache: keys and values [B, K, C + M, h] a layer; `end` is the ring's cursor.
    prompt: int32 [B, C], its tokens.
    token: int32 [B], chosen last and not yet read by the model.
    position: int32 [B], of that token.
    step: int32 [B], tokens chosen so far.
    limit: int32 [B], most tokens. seed: uint32 [B], of the draws.
    active: bool [B], wants another token.
    said: int32 [B, M], the tokens, -1 where there is none.
    steps: int32, decode steps of all lanes so far.
  """

  cache: Cache
  prompt: jax.Array
  token: jax.Array
  position: jax.Array
  step: jax.Array
  limit: jax.Array
  seed: jax.Array
  active: jax.Array
  said: jax.Array
  steps: jax.Array


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def empty(
  config, lanes: int, prompt_slots: int, new_tokens: int, dtype, unstacked: bool
) -> Lanes:
  """Lanes that wait for prompts of at most C = `prompt_slots` tokens."""
  cache = empty_cache(config, lanes, prompt_slots + new_tokens, dtype, unstacked)
  zeros = lambda: jnp.zeros(lanes, jnp.int32)
  return Lanes(
    cache=cache.replace(end=jnp.int32(prompt_slots)),
    prompt=jnp.zeros((lanes, prompt_slots), jnp.int32),
    token=zeros(),
    position=zeros(),
    step=zeros(),
    limit=zeros(),
    seed=jnp.zeros(lanes, jnp.uint32),
    active=jnp.zeros(lanes, bool),
    said=jnp.full((lanes, new_tokens), -1, jnp.int32),
    steps=jnp.int32(0),
  )


def draw(logits, seeds, steps, stops, sampling: Sampling):
  """(token int32 [B], is it no stop token bool [B]) from logits[B, V].

  The token of a row at step t is drawn with the key fold_in(key(seed), t).
  """
  keys = jax.vmap(lambda s, t: jax.random.fold_in(jax.random.key(s), t))(seeds, steps)
  token = sample(logits, keys, sampling)
  return token, ~jnp.any(token[:, None] == stops[None], axis=1)


@functools.partial(jax.jit, static_argnames="sampling", donate_argnums=0)
def _admit(rest, tokens, index, logits, lane, length, limit, seed, stops, *, sampling):
  """Everything of `admit` but keys and values; `rest` is Lanes with an empty cache."""
  prompt_slots = rest.cache.positions.shape[1] - rest.said.shape[1]
  token, kept = draw(logits, seed, jnp.zeros_like(lane), stops, sampling)
  kept &= limit > 0
  prompt = jnp.take(tokens, index, mode="clip")
  slot = jnp.arange(prompt_slots, dtype=jnp.int32)[None]
  places = jnp.where(slot < length[:, None], slot, -1)
  places = jnp.pad(places, ((0, 0), (0, rest.said.shape[1])), constant_values=-1)
  said = jnp.full((len(lane), rest.said.shape[1]), -1, jnp.int32)
  said = said.at[:, 0].set(jnp.where(kept, token, -1))
  put = lambda old, new: old.at[lane].set(new, mode="drop")
  return rest.replace(
    cache=rest.cache.replace(positions=put(rest.cache.positions, places)),
    prompt=put(rest.prompt, prompt),
    token=put(rest.token, token),
    position=put(rest.position, length),
    step=put(rest.step, jnp.ones_like(lane)),
    limit=put(rest.limit, limit),
    seed=put(rest.seed, seed),
    active=put(rest.active, kept & (limit > 1)),
    said=put(rest.said, said),
  )


@functools.partial(jax.jit, donate_argnums=0)
def _put(store, pack, lane, index):
  """Rows index[R, C] of pack[(L,) 1, K, T, h] into store[(L,) B, K, S, h] at `lane`."""
  # Beyond its length a prompt may hold anything: [(L,) K, R, C, h].
  rows = jnp.take(pack[..., 0, :, :, :], index, axis=-2, mode="clip")
  rows = jnp.moveaxis(rows, -3, -4)  # [(L,) R, K, C, h]
  layers = (slice(None),) * (store.ndim - 4)
  return store.at[(*layers, lane, slice(None), slice(0, index.shape[1]))].set(
    rows, mode="drop"
  )


def admit(
  lanes: Lanes,
  pack: Cache,
  tokens,
  logits,
  lane,
  index,
  length,
  limit,
  seed,
  stops,
  *,
  sampling: Sampling,
) -> Lanes:
  """Gives R lanes the prompts of a pack and chooses their first tokens.

  Outside of jit, with a cache of one array a layer, this runs a few small programs.

  Args:
    lanes: as they are; donated.
    pack: keys and values of the prompts, end to end in one row: tokens [T].
    logits: float32 [R, V] after each prompt.
    lane: int32 [R], where each goes; B or more: nowhere (fills the batch).
    index: int32 [R, C], where in the pack its tokens lie; length: int32 [R].
    limit: int32 [R], at most M. seed: uint32 [R].
    stops: int32 [n], tokens that end a reply. sampling: static.
  """
  file = lambda store, new: jax.tree.map(
    lambda s, p: _put(s, p, lane, index), store, new
  )
  k, v = file(lanes.cache.k, pack.k), file(lanes.cache.v, pack.v)
  rest = lanes.replace(cache=lanes.cache.replace(k=None, v=None))
  rest = _admit(
    rest, tokens, index, logits, lane, length, limit, seed, stops, sampling=sampling
  )
  return rest.replace(cache=rest.cache.replace(k=k, v=v))


def choose(lanes: Lanes, logits, stops, sampling: Sampling) -> Lanes:
  """Draws the next token of every lane and files those of the active ones."""
  token, kept = draw(logits, lanes.seed, lanes.step, stops, sampling)
  kept &= lanes.active
  rows = jnp.arange(len(token))
  column = jnp.where(kept, lanes.step, lanes.said.shape[1])  # beyond: dropped
  step = lanes.step + 1
  return lanes.replace(
    token=token,
    position=lanes.position + 1,
    step=step,
    active=kept & (step < lanes.limit),
    said=lanes.said.at[rows, column].set(token, mode="drop"),
  )


def advance(
  decoder: Decoder, params, adapters, mix, lanes: Lanes, stops, sampling: Sampling
) -> Lanes:
  """One decode step: every lane reads its last token and chooses the next."""
  ring = lanes.said.shape[1]
  cache, prompt_slots = lanes.cache, lanes.cache.positions.shape[1] - ring
  # Lanes that have ended are computed along; what they write is seen by no one.
  positions = jnp.where(lanes.active, lanes.position, -1)[:, None]
  logits, cache = decoder.apply(
    params, lanes.token[:, None], positions, cache, adapters, mix
  )
  end = prompt_slots + (cache.end - prompt_slots) % ring
  lanes = lanes.replace(cache=cache.replace(end=end), steps=lanes.steps + 1)
  return choose(lanes, logits[:, 0], stops, sampling)


def decode(
  decoder: Decoder,
  params,
  adapters,
  mix,
  lanes: Lanes,
  stops,
  fewest,
  *,
  sampling: Sampling,
) -> Lanes:
  """Steps until fewer than `fewest` lanes (int32, at least 1) are active.

  The weights are closed over, not carried. Pure; one program for each shape.
  """
  going = lambda lanes: jnp.sum(lanes.active) >= jnp.maximum(fewest, 1)
  step = lambda lanes: advance(decoder, params, adapters, mix, lanes, stops, sampling)
  return jax.lax.while_loop(going, step, lanes)


def take(lanes: Lanes, index) -> Lanes:
  """Lanes index[B'] alone, in that order; entries beyond B are empty lanes."""
  size = lanes.token.shape[0]
  there = index < size
  index = jnp.minimum(index, size - 1)
  axis = lanes.cache.k[0].ndim - 4 if isinstance(lanes.cache.k, list) else 1
  pick = lambda x, axis=0: jnp.take(x, index, axis=axis)
  layers = lambda store: jax.tree.map(lambda x: pick(x, axis), store)
  cache = lanes.cache.replace(
    k=layers(lanes.cache.k),
    v=layers(lanes.cache.v),
    positions=jnp.where(there[:, None], pick(lanes.cache.positions), -1),
  )
  return Lanes(
    cache=cache,
    prompt=pick(lanes.prompt),
    token=pick(lanes.token),
    position=pick(lanes.position),
    step=pick(lanes.step),
    limit=pick(lanes.limit),
    seed=pick(lanes.seed),
    active=pick(lanes.active) & there,
    said=pick(lanes.said),
    steps=lanes.steps,
  )


def grow(lanes: Lanes, prompt_slots: int) -> Lanes:
  """The same lanes with room for prompts of `prompt_slots` tokens."""
  ring = lanes.said.shape[1]
  old = lanes.cache.positions.shape[1] - ring

  def wider(x, axis, fill):
    before, behind = jnp.split(x, [old], axis=axis)
    shape = list(x.shape)
    shape[axis] = prompt_slots - old
    return jnp.concatenate([before, jnp.full(shape, fill, x.dtype), behind], axis)

  layers = lambda store: jax.tree.map(lambda x: wider(x, x.ndim - 2, 0), store)
  cache = lanes.cache
  wide = jnp.pad(lanes.prompt, ((0, 0), (0, prompt_slots - old)))
  return lanes.replace(
    prompt=wide,
    cache=cache.replace(
      k=layers(cache.k),
      v=layers(cache.v),
      positions=wider(cache.positions, 1, -1),
      end=cache.end + prompt_slots - old,
    ),
  )
