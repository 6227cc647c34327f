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
import numpy as np

from jswarm.model.decoder import Cache, Decoder, empty_cache, without_layers
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
  logits = logits.reshape(len(lane), -1)
  prompt_slots = rest.cache.positions.shape[1] - rest.said.shape[1]
  token, kept = draw(logits, seed, jnp.zeros_like(lane), stops, sampling)
  kept &= limit > 0
  # The barrier: the TPU's compiler aborts on a gather fused into the scatter below.
  prompt = jax.lax.optimization_barrier(jnp.take(tokens, index, mode="clip"))
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
    logits: float32 [R, V] or [1, R, V] after each prompt.
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
  logits, cache = decoder.apply(params, *_newest(lanes), lanes.cache, adapters, mix)
  return _after(lanes.replace(cache=cache), logits, stops, sampling)


def _newest(lanes):
  """tokens, positions [B, 1] that the next step reads."""
  # Lanes that have ended are computed along; what they write is seen by no one.
  positions = jnp.where(lanes.active, lanes.position, -1)
  return lanes.token[:, None], positions[:, None]


def _after(lanes, logits, stops, sampling):
  """What follows the forward pass of a step: logits [B, 1, V]."""
  ring, cache = lanes.said.shape[1], lanes.cache
  prompt_slots = cache.positions.shape[1] - ring
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


def decode_in_groups(
  decoder: Decoder,
  params,
  adapters,
  mix,
  lanes: Lanes,
  stops,
  fewest,
  *,
  sampling: Sampling,
  together: int,
) -> Lanes:
  """`decode` outside of jit: a Python loop over programs of `together` layers.

  For a deep base on CPU, where one program of all layers takes longer to compile than
  a small search takes to decode. Layers and cache are lists; `lanes` are donated.
  """
  least, going = max(int(fewest), 1), int(np.sum(lanes.active))
  outside = without_layers(params)
  light = None if adapters is None else adapters.replace(layers=None)
  store = (lanes.cache.k, lanes.cache.v)
  rest = lanes.replace(cache=lanes.cache.replace(k=None, v=None))
  while going >= least:
    x, step, rest = _enter_step(decoder, outside["embed"], light, mix, rest)
    x, store = decoder.run(params["layers"], x, step, adapters, store, together)
    rest, count = _leave_step(decoder, sampling, outside, x, rest, stops)
    going = int(count)
  return rest.replace(cache=rest.cache.replace(k=store[0], v=store[1]))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=4)
def _enter_step(decoder, embed, adapters, mix, rest):
  x, step, cache = decoder.enter(embed, *_newest(rest), rest.cache, adapters, mix, None)
  return x, step, rest.replace(cache=cache)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
def _leave_step(decoder, sampling, outside, x, rest, stops):
  rest = _after(rest, decoder.leave(outside, x, None), stops, sampling)
  return rest, jnp.sum(rest.active)


def take(lanes: Lanes, index) -> Lanes:
  """Lanes index[B'] alone, in that order; entries beyond B are empty lanes.

  Outside of jit, this runs two small programs.
  """
  layers = lambda store: jax.tree.map(lambda x: _take_rows(x, index), store)
  k, v = layers(lanes.cache.k), layers(lanes.cache.v)
  rest = _take_rest(lanes.replace(cache=lanes.cache.replace(k=None, v=None)), index)
  return rest.replace(cache=rest.cache.replace(k=k, v=v))


@jax.jit
def _take_rows(store, index):
  """Rows of store[(L,) B, K, S, h]; any row for an entry beyond B."""
  return jnp.take(store, index, axis=store.ndim - 4, mode="clip")


@jax.jit
def _take_rest(lanes, index):
  """`take` of everything but keys and values."""
  size = lanes.token.shape[0]
  there = index < size
  index = jnp.minimum(index, size - 1)
  pick = lambda x: jnp.take(x, index, axis=0)
  positions = jnp.where(there[:, None], pick(lanes.cache.positions), -1)
  return Lanes(
    cache=lanes.cache.replace(positions=positions),
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
  """The same lanes with room for prompts of `prompt_slots` tokens.

  Outside of jit, this runs two small programs.
  """
  old = lanes.cache.positions.shape[1] - lanes.said.shape[1]
  wider = lambda x: _widen(x, old, prompt_slots, x.ndim - 2, 0)
  k, v = (jax.tree.map(wider, store) for store in (lanes.cache.k, lanes.cache.v))
  rest = lanes.replace(cache=lanes.cache.replace(k=None, v=None))
  rest = _grow_rest(rest, old, prompt_slots)
  return rest.replace(cache=rest.cache.replace(k=k, v=v))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _widen(x, old, new, axis, fill):
  """x with new - old entries `fill` behind its first `old` ones along the axis."""
  before, behind = jnp.split(x, [old], axis=axis)
  shape = list(x.shape)
  shape[axis] = new - old
  return jnp.concatenate([before, jnp.full(shape, fill, x.dtype), behind], axis)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _grow_rest(lanes, old, new):
  """`grow` of everything but keys and values."""
  cache = lanes.cache
  return lanes.replace(
    prompt=jnp.pad(lanes.prompt, ((0, 0), (0, new - old))),
    cache=cache.replace(
      positions=_widen(cache.positions, old, new, 1, -1), end=cache.end + new - old
    ),
  )
