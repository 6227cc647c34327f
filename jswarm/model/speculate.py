"""Prompt-lookup speculation: several tokens a step, the same tokens as without.

A reply often quotes its prompt. A lane looks up the last place where its two newest
tokens stood side by side, in its prompt or its own reply, and drafts what followed
there; one forward pass reads all of the draft, and the longest part of it that greedy
decoding would have said anyway is kept, with one token more. It pays where few lanes
are left and a pass costs the same for six tokens as for one. Greedy decoding only.
(Prompt lookup decoding, A. Saxena 2023; verification as in Leviathan et al. 2023.)
"""

import jax
import jax.numpy as jnp

from jswarm.model.decoder import Decoder
from jswarm.model.lanes import Lanes, advance
from jswarm.model.sampling import Sampling

DRAFT = 5  # k, tokens of a draft


def draft(prompt, length, said, step):
  """int32 [k] that followed the latest earlier sight of the two newest tokens.

  One lane: prompt[C] of `length` tokens, said[M] of which `step` are chosen. Without a
  sight (or beyond the end of what is known) any token will do: it is verified.
  """
  slots, ring = prompt.shape[0], said.shape[0]
  index = jnp.arange(slots + ring)
  shifted = jnp.concatenate([prompt, jnp.full(ring, -2, jnp.int32)])
  own = index - length
  text = jnp.where(own < 0, shifted, said[jnp.clip(own, 0, ring - 1)])
  end = length + step  # tokens known
  newest = jnp.take(text, jnp.stack([end - 2, end - 1]), mode="clip")
  pair = (text[:-1] == newest[0]) & (text[1:] == newest[1])
  pair &= jnp.arange(slots + ring - 1) < end - 2  # earlier than the newest pair
  sight = jnp.max(jnp.where(pair, jnp.arange(slots + ring - 1), -1))
  after = jnp.where(sight >= 0, sight + 2, end - 1) + jnp.arange(DRAFT)
  return jnp.take(text, jnp.minimum(after, end - 1), mode="clip")


def accept(said, step, limit, active, greedy, drafted, stops):
  """Files the tokens that greedy decoding would have said. All of one lane.

  Args:
    greedy: int32 [k + 1], likeliest after the newest token and each drafted one.
    drafted: int32 [k].

  Returns:
    (said [M], tokens kept: the part of the draft that agrees and one more; 0 for a
    lane that is not active, and where the first is a stop token; still active).
  """
  agrees = jnp.cumprod(drafted == greedy[:-1])
  goes_on = jnp.concatenate([jnp.ones(1, agrees.dtype), agrees]).astype(bool)
  stop = jnp.any(greedy[:, None] == stops[None], axis=1)
  before_stop = jnp.cumsum(stop) == 0
  place = step + jnp.arange(DRAFT + 1)
  kept = goes_on & before_stop & (place < limit) & active
  count = jnp.sum(kept, dtype=jnp.int32)
  said = said.at[jnp.where(kept, place, said.shape[0])].set(greedy, mode="drop")
  stopped = jnp.any(goes_on & stop & (place < limit))
  return said, count, active & ~stopped & (step + count < limit)


def leap(decoder: Decoder, params, adapters, mix, lanes: Lanes, stops) -> Lanes:
  """One forward pass over newest and drafted tokens of every lane."""
  k, cache = DRAFT, lanes.cache
  length = lanes.position - lanes.step + 1
  drafted = jax.vmap(draft)(lanes.prompt, length, lanes.said, lanes.step)
  tokens = jnp.concatenate([lanes.token[:, None], drafted], axis=1)
  places = lanes.position[:, None] + jnp.arange(k + 1)[None]
  places = jnp.where(lanes.active[:, None], places, -1)
  begin = cache.end
  logits, cache = decoder.apply(params, tokens, places, cache, adapters, mix)
  greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  said, count, active = jax.vmap(accept, (0, 0, 0, 0, 0, 0, None))(
    lanes.said, lanes.step, lanes.limit, lanes.active, greedy, drafted, stops
  )
  # What was read beyond the accepted part never was: no one may see it.
  real = jnp.arange(k + 1)[None] < jnp.maximum(count, 1)[:, None]
  columns = jax.lax.dynamic_update_slice(
    cache.positions, jnp.where(real, places, -1), (0, begin)
  )
  newest = jnp.take_along_axis(greedy, jnp.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
  moved = jnp.max(jnp.where(lanes.active, jnp.maximum(count, 1), 0))
  return lanes.replace(
    cache=cache.replace(positions=columns, end=_wrap(lanes, begin + moved)),
    token=jnp.where(count > 0, newest, lanes.token),
    said=said,
    active=active,
    position=lanes.position + count,
    step=lanes.step + count,
    steps=lanes.steps + 1,
  )


def _wrap(lanes, end):
  ring = lanes.said.shape[1]
  prompt_slots = lanes.cache.positions.shape[1] - ring
  return prompt_slots + (end - prompt_slots) % ring


def decode(
  decoder: Decoder, params, adapters, mix, lanes: Lanes, stops, fewest
) -> Lanes:
  """`lanes.decode` by leaps where the ring has room for one, else by single steps.

  A leap writes k + 1 columns and keeps as many as the luckiest lane accepts; slower
  lanes leave holes. A column may be written over only when no active lane has a token
  there, which holds where all that is still wanted fits the columns that are free.
  """
  ring = lanes.said.shape[1]
  prompt_slots = lanes.cache.positions.shape[1] - ring

  def room(lanes):
    held = jnp.any(
      (lanes.cache.positions[:, prompt_slots:] >= 0) & lanes.active[:, None], axis=0
    )
    ahead = (jnp.arange(ring) + lanes.cache.end - prompt_slots) % ring
    free = jnp.sum(jnp.cumprod(~held[ahead]))  # columns before the first that is held
    wanted = jnp.max(jnp.where(lanes.active, lanes.limit - lanes.step, 0))
    fits = lanes.cache.end - prompt_slots + DRAFT + 1 <= ring  # a write never wraps
    return fits & (free >= wanted + DRAFT + 1)

  def step(lanes):
    return jax.lax.cond(
      room(lanes),
      lambda x: leap(decoder, params, adapters, mix, x, stops),
      lambda x: advance(decoder, params, adapters, mix, x, stops, Sampling()),
      lanes,
    )

  going = lambda lanes: jnp.sum(lanes.active) >= jnp.maximum(fewest, 1)
  return jax.lax.while_loop(going, step, lanes)
