"""Choosing the next token: logits[B, V] -> tokens[B].

A row's token depends on its own logits and key alone, so a row draws the same tokens
in every batch.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

_BITS = 31  # of a non-negative float32, whose bits as an integer have the same order


@dataclass(frozen=True, kw_only=True)
class Sampling:
  """How to choose; hashable, so it can be a static argument.

  Attributes:
    temperature: divisor of the logits; 0 takes the likeliest token.
    top_p: draw from the smallest set of likeliest tokens that has this much
      probability (nucleus sampling, Holtzman et al. 2020); 1 draws from all.
  """

  temperature: float = 0.0
  top_p: float = 1.0

  def __post_init__(self):
    if not 0.0 <= self.temperature < float("inf"):
      raise ValueError(
        f"temperature is {self.temperature}; allowed: 0 (greedy) and above"
      )
    if not 0.0 < self.top_p <= 1.0:
      raise ValueError(
        f"top_p is {self.top_p}; allowed: above 0, up to 1 (all tokens). For the "
        "likeliest token set temperature to 0"
      )


def sample(logits, keys, sampling: Sampling):
  """One token a row.

  Args:
    logits: float32 [B, V].
    keys: PRNG keys [B]; unused when the temperature is 0.
    sampling: temperature and top_p.

  Returns:
    int32 [B].
  """
  if sampling.temperature == 0.0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = logits.astype(jnp.float32) / sampling.temperature
  if sampling.top_p < 1.0:
    keep = jax.vmap(lambda row: nucleus(jax.nn.softmax(row), sampling.top_p))(logits)
    logits = jnp.where(keep, logits, -jnp.inf)
  return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def nucleus(probabilities, top_p):
  """bool [V]: the fewest likeliest tokens whose probabilities [V] add up to `top_p`.

  Among equal probabilities at the border the first tokens are kept. The border is found
  by bisection over the bits of a float, 31 sums over V, several times faster than a
  sort: largest x such that the tokens with probability >= x have enough mass.
  """
  mass = lambda x: jnp.sum(jnp.where(probabilities >= x, probabilities, 0.0))
  number = lambda bits: jax.lax.bitcast_convert_type(bits, jnp.float32)

  def halve(i, low):  # every candidate sets one more bit, from the highest
    higher = low | (jnp.int32(1) << (_BITS - 1 - i))
    return jnp.where(mass(number(higher)) >= top_p, higher, low)

  border = number(jax.lax.fori_loop(0, _BITS, halve, jnp.int32(0)))
  above = probabilities > border
  tie = probabilities == border
  missing = top_p - jnp.sum(jnp.where(above, probabilities, 0.0))
  earlier = (jnp.cumsum(tie) - 1) * border  # mass of the ties before each tie
  return above | (tie & (earlier < missing))
