"""Merges of dense updates: one model, the base plus what is made of all updates.

  updates [E, ...] of a leaf -> rule -> one update [...] -> a pool of one expert

DARE (arXiv 2311.03099), TIES (arXiv 2306.01708), both, task arithmetic (arXiv
2212.04089) and SLERP. Leaf by leaf; the layers of one kernel are one leaf.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines.base import Found, NotApplicable, Setting, best_of
from jswarm.core import lookup
from jswarm.systems import system


class Rule(NamedTuple):
  """How the updates of a leaf become one.

  Attributes:
    weights: float32 [E]. density: share of the entries that is kept.
    normalise: divide by the weights that were kept.
    scale: lambda, of the result.
  """

  weights: jax.Array
  density: float
  normalise: bool
  scale: float


def dropped(key: jax.Array, deltas: jax.Array, density: float) -> jax.Array:
  """DARE: each entry of deltas [E, ...] is kept with this chance, and is then as many
  times larger; what is expected stays."""
  keys = jax.random.split(key, len(deltas))
  draw = lambda k, x: jax.random.bernoulli(k, density, x.shape)
  return jnp.where(jax.vmap(draw)(keys, deltas), deltas / density, 0.0)


def trimmed(deltas: jax.Array, density: float) -> jax.Array:
  """TIES: of each expert's deltas [E, ...] this share stays, the largest ones."""
  size = deltas[0].size
  kept = max(1, round(density * size))
  flat = jnp.abs(deltas).reshape(len(deltas), size)
  least = jnp.sort(flat, axis=1)[:, size - kept]
  least = least.reshape(-1, *[1] * (deltas.ndim - 1))
  return jnp.where(jnp.abs(deltas) >= least, deltas, 0.0)


def elected(deltas: jax.Array, weights: jax.Array, normalise: bool) -> jax.Array:
  """TIES: of each entry the sign of the weighted sum wins (0 counts as +), and those
  who have it are summed, or averaged if `normalise`."""
  w = weights.reshape(-1, *[1] * (deltas.ndim - 1))
  weighed = w * deltas
  sign = jnp.where(weighed.sum(0, keepdims=True) >= 0, 1.0, -1.0)
  keep = jnp.sign(weighed) == sign
  total = jnp.where(keep, weighed, 0.0).sum(0)
  if not normalise:
    return total
  share = jnp.where(keep, w, 0.0).sum(0)
  return total / jnp.where(share == 0, 1.0, share)


def slerp(a: jax.Array, b: jax.Array, t: float) -> jax.Array:
  """A share t of the way from a to b along the great circle; nearly parallel ones, or
  zeros, on the straight line."""
  norm = jnp.linalg.norm(a) * jnp.linalg.norm(b)
  cosine = jnp.where(norm > 0, jnp.vdot(a, b) / jnp.where(norm > 0, norm, 1.0), 1.0)
  straight = jnp.abs(cosine) > 0.9995
  angle = jnp.arccos(jnp.where(straight, 0.0, cosine))
  of_a = jnp.where(straight, 1 - t, jnp.sin((1 - t) * angle) / jnp.sin(angle))
  of_b = jnp.where(straight, t, jnp.sin(t * angle) / jnp.sin(angle))
  return of_a * a + of_b * b


def _dare_ties(key, deltas, rule):
  return elected(dropped(key, deltas, rule.density), rule.weights, rule.normalise)


def _ties(key, deltas, rule):
  del key
  return elected(trimmed(deltas, rule.density), rule.weights, rule.normalise)


def _dare(key, deltas, rule):
  return _sum(dropped(key, deltas, rule.density), rule)


def _task_arithmetic(key, deltas, rule):
  del key
  return _sum(deltas, rule)


def _slerp(key, deltas, rule):
  """One after the other, each with its share of the weights so far."""
  del key
  so_far, mean = rule.weights[0], deltas[0]
  for delta, weight in zip(deltas[1:], rule.weights[1:]):
    so_far += weight
    mean = slerp(mean, delta, weight / jnp.where(so_far == 0, 1.0, so_far))
  return mean


def _sum(deltas, rule):
  total = jnp.tensordot(rule.weights, deltas, axes=1)
  return total / rule.weights.sum() if rule.normalise else total


MERGES: dict[str, tuple[Callable, float, bool]] = {  # rule, density, normalise
  "dare_ties": (_dare_ties, 0.5, False),
  "ties": (_ties, 0.2, True),
  "dare": (_dare, 0.5, False),
  "task_arithmetic": (_task_arithmetic, 1.0, False),
  "slerp": (_slerp, 1.0, False),
}


def merged(
  key: jax.Array,
  deltas: Mapping[str, Callable[[], Any]],
  name: str,
  rule: Rule,
) -> dict[str, np.ndarray]:
  """One update {name: [...]} of all, by the rule of that name in `MERGES`.

  One leaf of all experts is in memory at a time; each has a key of its own.
  """
  function = jax.jit(functools.partial(_scaled, MERGES[name][0]), static_argnums=2)
  made = {}
  for i, leaf in enumerate(sorted(deltas)):
    read = jnp.asarray(deltas[leaf](), jnp.float32)
    static = (rule.density, rule.normalise, rule.scale)
    found = function(jax.random.fold_in(key, i), read, static, rule.weights)
    made[leaf] = np.asarray(found)
  return made


def _scaled(function, key, deltas, static, weights):
  density, normalise, scale = static
  rule = Rule(weights, density, normalise, scale)
  return scale * function(key, deltas, rule)


def dare_ties(setting: Setting) -> Found:
  """One model of all experts of a group; of several groups the best on dev.

  Options: `merge`, one of `MERGES`; `weights` of the experts of a group (1 / E each);
  `density` (.5; ties .2), `normalise` (ties), `scale` (1).

  Raises:
    NotApplicable: no base of the experts is known.
  """
  name = setting.option("merge", "dare_ties")
  lookup.check("merge", name, MERGES)
  _, density, normalise = MERGES[name]
  serve, found = setting.lend("serve"), []
  for group, deltas in enumerate(setting.lend("deltas")()):
    if not deltas:
      continue
    members = setting.experts.groups[group]
    weights = setting.option("weights", np.full(len(members), 1 / len(members)))
    rule = Rule(
      jnp.asarray(weights, jnp.float32),
      setting.option("density", density),
      setting.option("normalise", normalise),
      setting.option("scale", 1.0),
    )
    key = jax.random.fold_in(setting.key(), group)
    pool = serve(group, merged(key, deltas, name, rule))
    alone = system.single(0)
    notes = {
      "merge": name,
      "density": rule.density,
      "experts": [setting.experts.names[e] for e in members],
    }
    found.append(Found(alone, setting.dev(alone, pool), pool, notes))
  if not found:
    raise NotApplicable(
      "a merge needs the base of the whole models: name it as pool.base."
    )
  return best_of(found)
