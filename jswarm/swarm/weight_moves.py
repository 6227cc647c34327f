"""Where the experts' weights go next: three methods with one signature.

  weight swarm [E_group, ...] -> move -> weight swarm -> guard -> credit

`pso` is the paper's; `evolution` takes a step from an expert's own best towards, or
away from, differences of the others' bests; `random` mixes the experts as they came,
and is what the others have to beat. All stay in the span of the pool.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import quick
from jswarm.core.types import PyTree
from jswarm.swarm import motion, pso

_ask = quick.jit(pso.ask, static_argnums=2)


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
  size = len(swarm.best_utility)
  if settings.method == "pso" or size < 2:
    return _ask(key, swarm, settings, due)
  if settings.method == "random":
    return _at(swarm, _placed_as(_mixed, start)(_draw_mixes(key, size), start))
  draws = _draw_steps(key, swarm.iteration, size, settings)
  return _at(
    swarm, _placed_as(_stepped, swarm.best_position)(draws, swarm.best_position)
  )


class _Steps(NamedTuple):
  """How far each particle goes, and towards whom.

  Attributes:
    others: int32 [P, 3], three others r, s, t (fewer differ where there are fewer).
    length: float32 [P], F. side: float32 [P], F / 2 or 0.
  """

  others: jax.Array
  length: jax.Array
  side: jax.Array


@functools.partial(quick.jit, static_argnums=1)
def _draw_mixes(key, size):
  """float32 [P, P]: (1 - s_i) e_i + s_i w_i, s uniform, w uniform on the simplex."""
  share_key, mix_key = jax.random.split(key)
  share = jax.random.uniform(share_key, (size, 1))
  mix = jax.random.dirichlet(mix_key, jnp.ones(size), (size,))
  return (1 - share) * jnp.eye(size) + share * mix


@functools.partial(quick.jit, static_argnums=(2, 3))
def _draw_steps(key, iteration, size, settings):
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(size))
  length = motion.step_schedule(settings)(iteration)
  draw = functools.partial(_draw_step, size=size, length=length)
  return jax.vmap(draw)(keys, jnp.arange(size))


def _draw_step(key, i, size, length):
  length_key, order_key, side_key = jax.random.split(key, 3)
  step = length * jax.random.uniform(length_key)
  # Others in random order, i itself last.
  noise = jax.random.uniform(order_key, (size,))
  order = jnp.argsort(jnp.where(jnp.arange(size) == i, 2.0, noise))
  others = order[jnp.array([0, 1 % (size - 1), 2 % (size - 1)])]
  side = jnp.where(jax.random.bernoulli(side_key), step / 2, 0.0)
  return _Steps(others.astype(jnp.int32), step, side)


def _stepped(draws, tree):
  """x_i = p_i + F_i (p_r - p_i) + F_i (p_s - p_t) / 2, the last in half of the cases.

  Differential evolution ("current to rand") on the own bests p; F_i is uniform between
  0 and the step length, so that small and large steps are tried. Particles are taken
  one by one, never summed over: the same bits on any number of devices.
  """

  def leaf(p):
    r, s, t = (jnp.take(p, draws.others[:, k], axis=0) for k in range(3))
    each = lambda x: x.reshape(-1, *[1] * (p.ndim - 1)).astype(p.dtype)
    return p + each(draws.length) * (r - p) + each(draws.side) * (s - t)

  return jax.tree.map(leaf, tree)


def _mixed(rows, tree):
  """Leaves [P, ...]: particle i is sum_j rows[i, j] x_j."""
  return jax.tree.map(lambda x: jnp.tensordot(rows, x, axes=1).astype(x.dtype), tree)


def _placed_as(make, tree):
  """`make`, jitted so that its result lies on devices as `tree` does."""
  leaves, shape = jax.tree.flatten(tree)
  return _program(make, shape, tuple(x.sharding for x in leaves))


@functools.lru_cache(maxsize=16)
def _program(make, shape, shardings):
  return quick.jit(make, out_shardings=jax.tree.unflatten(shape, shardings))


def _at(swarm, position):
  moves = np.int32(int(swarm.iteration) + 1)  # on the host: a sum is a program, too
  return swarm.replace(position=position, iteration=jax.device_put(moves))
