"""Particle swarm optimization of any pytree, by init / ask / tell.

    start -> State -> ask -> State (moved) -> evaluate outside -> tell -> State

A swarm is a pytree whose leaves have a leading particle axis P; nothing is ever
raveled, so the same code moves adjacencies [G, N, N] and stacked weights. Utilities
are maximised. A utility that is not finite is a failed evaluation: it is never a
best, never a worst. The formulas of one move are in `motion`.
"""

import flax.struct
import jax
import jax.numpy as jnp

from jswarm.core.types import PyTree
from jswarm.swarm.motion import (
  Settings,
  coefficients,
  draw_scored,
  move,
  move_particle,
  step_schedule,
)

__all__ = (
  "Settings",
  "State",
  "ask",
  "coefficients",
  "draw_scored",
  "exhausted",
  "init",
  "move",
  "move_particle",
  "rescore",
  "restart_due",
  "start",
  "step_schedule",
  "tell",
  "where",
)


class State(flax.struct.PyTreeNode):
  """A swarm between two iterations.

  Attributes:
    position, velocity, best_position: float32 leaves [P, ...].
    utility: float32 [P], as last told; NaN if never, or if that evaluation failed.
    best_utility: float32 [P], -inf if there is none.
    swarm_best_position, swarm_worst_position: leaves [...]; of all times.
    swarm_best_utility, swarm_worst_utility: float32 [], -inf and +inf if none.
    since_best: int32 [P], scored iterations since the own best was found.
    cooldown: int32 [P], moves during which the particle may not restart.
    iteration: int32 [], moves made.
    history: int32 [], scored iterations, the first scoring included.
    stalled: int32 [], scored iterations since the swarm best improved.
  """

  position: PyTree
  velocity: PyTree
  best_position: PyTree
  utility: jax.Array
  best_utility: jax.Array
  swarm_best_position: PyTree
  swarm_best_utility: jax.Array
  swarm_worst_position: PyTree
  swarm_worst_utility: jax.Array
  since_best: jax.Array
  cooldown: jax.Array
  iteration: jax.Array
  history: jax.Array
  stalled: jax.Array


def init(key: jax.Array, position: PyTree, settings: Settings) -> State:
  """A swarm that was never scored.

  With `velocity="best"` the velocity is zero until `start` knows the best.
  """
  position = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), position)
  size = _size(position)
  zeros = jax.tree.map(jnp.zeros_like, position)
  velocity = zeros
  if settings.velocity == "random" and size > 1:
    target = jax.tree.map(lambda x: x[_others(key, size)], position)
    velocity = _minus(target, position)
  blank = jax.tree.map(lambda x: x[0], zeros)
  count = lambda *shape: jnp.zeros(shape, jnp.int32)
  return State(
    position=position,
    velocity=velocity,
    best_position=position,
    utility=jnp.full(size, jnp.nan),
    best_utility=jnp.full(size, -jnp.inf),
    swarm_best_position=blank,
    swarm_best_utility=jnp.float32(-jnp.inf),
    swarm_worst_position=blank,
    swarm_worst_utility=jnp.float32(jnp.inf),
    since_best=count(size),
    cooldown=count(size),
    iteration=count(),
    history=count(),
    stalled=count(),
  )


def start(
  key: jax.Array, position: PyTree, utility: jax.Array, settings: Settings
) -> State:
  """`init` and the first `tell`; the velocity is complete for every setting."""
  state = tell(init(key, position, settings), utility)
  if settings.velocity != "best":
    return state
  known = jnp.isfinite(state.swarm_best_utility)
  velocity = jax.tree.map(
    lambda g, x: jnp.where(known, jnp.expand_dims(g, 0) - x, 0.0),
    state.swarm_best_position,
    state.position,
  )
  return state.replace(velocity=velocity)


def ask(
  key: jax.Array, state: State, settings: Settings, due: jax.Array | None = None
) -> State:
  """Moves every particle once; particle i's draw does not depend on P.

  Terms without a best or worst to refer to are zero. `settings` is static; `due`
  bool [P] says who restarts (None: `restart_due`).
  """
  state = _restart(
    state, settings, restart_due(state, settings) if due is None else due
  )
  size = len(state.best_utility)
  draw = lambda i: jax.random.uniform(jax.random.fold_in(key, i), (4,))
  random = jax.vmap(draw)(jnp.arange(size))
  present = jnp.stack(
    jnp.broadcast_arrays(
      jnp.ones(size, bool),
      jnp.isfinite(state.best_utility),
      jnp.isfinite(state.swarm_best_utility)[None],
      jnp.isfinite(state.swarm_worst_utility)[None],
    ),
    axis=1,
  )
  velocity, position = move(
    state.position,
    state.velocity,
    state.best_position,
    state.swarm_best_position,
    state.swarm_worst_position,
    jnp.where(present, coefficients(random, settings), 0.0),
    step_schedule(settings)(state.iteration),
  )
  return state.replace(
    position=position, velocity=velocity, iteration=state.iteration + 1
  )


def tell(state: State, utility: jax.Array, scored: jax.Array | None = None) -> State:
  """Takes note of the utilities [P] of the present positions.

  Args:
    state: after `ask` (or `init`).
    utility: [P]; entries that are not finite are failed evaluations.
    scored: bool [P]; others keep their last utility. None: all were scored.

  Returns:
    The state with strictly better bests and a strictly lower worst; the first
    particle wins a tie. An iteration with no finite utility leaves no trace in
    `history` and `stalled`, a particle without one none in its `since_best`.
  """
  utility = jnp.asarray(utility, jnp.float32)
  if utility.shape != state.best_utility.shape:
    raise ValueError(
      f"utility has the shape {utility.shape}: allowed is"
      f" {state.best_utility.shape}, one number a particle."
    )
  scored = jnp.ones(utility.shape, bool) if scored is None else jnp.asarray(scored)
  known = scored & jnp.isfinite(utility)
  better = known & (utility > state.best_utility)
  state, improved = _tell_swarm(state, utility, known)
  any_known = jnp.any(known).astype(jnp.int32)
  return state.replace(
    utility=jnp.where(scored, utility, state.utility),
    best_position=where(better, state.position, state.best_position),
    best_utility=jnp.where(better, utility, state.best_utility),
    since_best=jnp.where(better, 0, state.since_best + known.astype(jnp.int32)),
    history=state.history + any_known,
    stalled=jnp.where(improved, 0, state.stalled + any_known),
  )


def _tell_swarm(state, utility, known):
  """(state with its swarm best and worst, did the best improve?)."""
  high = jnp.where(known, utility, -jnp.inf)
  low = jnp.where(known, utility, jnp.inf)
  top, bottom = jnp.argmax(high), jnp.argmin(low)
  improved = high[top] > state.swarm_best_utility
  worse = low[bottom] < state.swarm_worst_utility
  pick = lambda new, index, old: jax.tree.map(
    lambda x, y: jnp.where(new, x, y), _particle(state.position, index), old
  )
  return state.replace(
    swarm_best_position=pick(improved, top, state.swarm_best_position),
    swarm_best_utility=jnp.maximum(high[top], state.swarm_best_utility),
    swarm_worst_position=pick(worse, bottom, state.swarm_worst_position),
    swarm_worst_utility=jnp.minimum(low[bottom], state.swarm_worst_utility),
  ), improved


def rescore(state: State, utility: jax.Array) -> State:
  """Replaces the utilities of the personal bests, measured anew [P].

  For when the measure itself has changed, so that old utilities say nothing. Swarm
  best and worst become those among the personal bests; one that failed is none
  until it is found again. Ages stay: measuring again is no progress.
  """
  known = jnp.isfinite(jnp.asarray(utility, jnp.float32))
  fresh = state.replace(
    position=state.best_position,
    swarm_best_utility=jnp.float32(-jnp.inf),
    swarm_worst_utility=jnp.float32(jnp.inf),
  )
  fresh, _ = _tell_swarm(fresh, utility, known)
  return fresh.replace(
    position=state.position, best_utility=jnp.where(known, utility, -jnp.inf)
  )


def exhausted(state: State, settings: Settings) -> jax.Array:
  """bool []: the public code's patience rule, over scored iterations only.

  True when the swarm best was the same in the last `patience` scored iterations
  and there were more than that: `patience - 1` scorings without improvement after
  one that improved, `patience` if the first scoring was never beaten.
  """
  return (state.history > settings.patience) & (state.stalled >= settings.patience - 1)


def restart_due(state: State, settings: Settings) -> jax.Array:
  """bool [P]: whose own best is so old that it goes back there (the public rule).

  since_best + 1 is its "history length minus index of the first best".
  """
  if not settings.restart:
    return jnp.zeros(state.best_utility.shape, bool)
  return (
    (state.since_best + 1 >= settings.restart_share * settings.patience)
    & (state.cooldown == 0)
    & jnp.isfinite(state.best_utility)
  )


def _restart(state, settings, due):
  """Sends the due particles back to their bests.

  A restart sets the cool-down to int(rho * patience) moves; without one a particle
  could only probe around its best, again and again.
  """
  span = settings.restart_share * settings.patience
  pause = int(span) if settings.restart_cooldown else 0
  zeros = jax.tree.map(jnp.zeros_like, state.velocity)
  return state.replace(
    position=where(due, state.best_position, state.position),
    velocity=where(due, zeros, state.velocity),
    cooldown=jnp.where(due, pause, jnp.maximum(state.cooldown - 1, 0)),
  )


def _others(key, size):
  """int32 [P]: for each particle a random other one."""
  node = jnp.arange(size)
  draw = lambda i: jax.random.randint(jax.random.fold_in(key, i), (), 0, size - 1)
  drawn = jax.vmap(draw)(node)
  return drawn + (drawn >= node)


def _particle(tree, index):
  """Leaves [...] of one particle, as a masked sum over all.

  Where particles are spread over devices, `x[index]` would gather every one of them
  everywhere; this is a sum of one and of zeros, so one particle travels.
  """

  def pick(x):
    mine = (jnp.arange(x.shape[0]) == index).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.sum(jnp.where(mine, x, 0), axis=0, dtype=x.dtype)

  return jax.tree.map(pick, tree)


def where(mask, new, old):
  """Per particle: leaves of `new` where mask [P], else of `old`."""
  pick = jax.vmap(lambda m, x, y: jnp.where(m, x, y))
  return jax.tree.map(lambda x, y: pick(mask, x, y), new, old)


def _minus(left, right):
  return jax.tree.map(jnp.subtract, left, right)


def _size(position):
  """P, the same for every leaf."""
  sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(position)}
  if len(sizes) != 1 or () in sizes or (0,) in sizes:
    raise ValueError(
      f"leading axes of the particles' leaves are {sorted(sizes)}:"
      " allowed is one size P >= 1 for all leaves."
    )
  return sizes.pop()[0]
