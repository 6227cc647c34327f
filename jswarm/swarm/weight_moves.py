"""Where the experts' weights go next: three methods with one signature.

  weight swarm [E_group, ...] -> move -> weight swarm -> guard -> credit

`pso` is the paper's; `evolution` takes a step from an expert's own best towards, or
away from, differences of the others' bests; `random` mixes the experts as they came,
and is what the others have to beat. All stay in the span of the pool.
"""

import functools

import jax
import jax.numpy as jnp

from jswarm.core.types import PyTree
from jswarm.swarm import motion, pso

_ask = jax.jit(pso.ask, static_argnums=2)


def move(
  key: jax.Array,
  swarm: pso.State,
  start: PyTree,
  settings: motion.Settings,
  due: jax.Array | None = None,
) -> pso.State:
  """The swarm of one group with new positions.

  Args:
    start: leaves [P, ...], the experts as they came.
    settings: `method` and its settings; the step length is also that of an evolution.
    due: bool [P], which particles of a pso restart; None: by its rule.
  """
  if settings.method == "pso" or len(swarm.best_utility) < 2:
    return _ask(key, swarm, settings, due)
  if settings.method == "random":
    return _random(key, swarm, start)
  return _evolution(key, swarm, settings)


@jax.jit
def _random(key, swarm, start):
  """x_i = (1 - s_i) x_i0 + s_i sum_j w_ij x_j0, s uniform, w uniform on the simplex."""
  size = len(swarm.best_utility)
  share_key, mix_key = jax.random.split(key)
  share = jax.random.uniform(share_key, (size, 1))
  mix = jax.random.dirichlet(mix_key, jnp.ones(size), (size,))
  weights = (1 - share) * jnp.eye(size) + share * mix
  return _at(swarm, _mixed(weights, start))


@functools.partial(jax.jit, static_argnames="settings")
def _evolution(key, swarm, settings):
  """x_i = p_i + F_i (p_r - p_i) + F_i (p_s - p_t) / 2, with r, s, t others at random.

  Differential evolution ("current to rand") on the own bests p; F_i is uniform between
  0 and the step length, so that small and large steps are tried.
  """
  size = len(swarm.best_utility)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(size))
  length = motion.step_schedule(settings)(swarm.iteration)
  coefficients = jax.vmap(functools.partial(_difference, size=size, length=length))
  rows = coefficients(keys, jnp.arange(size))
  return _at(swarm, _mixed(rows, swarm.best_position))


def _difference(key, i, size, length):
  """float32 [P]: what particle i takes of each best; adds up to 1."""
  length_key, order_key, sign_key = jax.random.split(key, 3)
  step = length * jax.random.uniform(length_key)
  # Others in random order, i itself last.
  noise = jax.random.uniform(order_key, (size,))
  order = jnp.argsort(jnp.where(jnp.arange(size) == i, 2.0, noise))
  r, s, t = order[0], order[1 % (size - 1)], order[2 % (size - 1)]
  unit = lambda k: jax.nn.one_hot(k, size)
  side = jnp.where(jax.random.bernoulli(sign_key), 0.5, 0.0)
  return (1 - step) * unit(i) + step * unit(r) + side * step * (unit(s) - unit(t))


def _mixed(rows, tree):
  """Leaves [P, ...]: particle i is sum_j rows[i, j] x_j."""
  return jax.tree.map(lambda x: jnp.tensordot(rows, x, axes=1).astype(x.dtype), tree)


def _at(swarm, position):
  return swarm.replace(position=position, iteration=swarm.iteration + 1)
