"""Nothing is asked of weights that a move has broken.

    pso.ask -> roll_back -> install -> generate

The check runs on the device, where the weights are; what reaches the host is a count.
"""

import jax
import jax.numpy as jnp
import optax

from jswarm.core import quick
from jswarm.core.types import PyTree
from jswarm.swarm import pso

EXPLODED = 1e4  # times the largest norm that an own best has


@quick.jit
def roll_back(swarm: pso.State, start: PyTree) -> tuple[pso.State, jax.Array]:
  """Sends broken particles back to their own best, with zero velocity.

  Broken: an entry that is not finite, or a norm beyond `EXPLODED` times the largest
  among the swarm's own bests. Those were scored, so however many particles break in
  one move, they cannot vouch for each other.

  Args:
    swarm: after a move.
    start: leaves [P, ...] as they came; where an own best is not finite either, this is
      where the particle goes.

  Returns:
    (swarm, int32 [] how many were sent back).
  """
  # inf and NaN stay visible in a norm; so does what overflows in its square.
  norm = jax.vmap(optax.tree.norm)
  best_norm = norm(swarm.best_position)
  sound = jnp.isfinite(best_norm)
  best = pso.where(sound, swarm.best_position, start)
  scale = jnp.max(jnp.where(sound, best_norm, norm(start)))
  moved = norm(swarm.position)
  # An all-zero swarm has no scale.
  broken = ~jnp.isfinite(moved) | ((moved > EXPLODED * scale) & (scale > 0))
  zeros = jax.tree.map(jnp.zeros_like, swarm.velocity)
  return swarm.replace(
    position=pso.where(broken, best, swarm.position),
    velocity=pso.where(broken, zeros, swarm.velocity),
    best_position=best,
  ), jnp.sum(broken)
