"""The formulas of a swarm's move, and the settings that rule it.

    Settings, random draws -> coefficients, step_schedule -> move -> pso.ask

Stateless; `pso` re-exports all of it and adds what lives between two moves.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from jswarm.core import quick
from jswarm.core.types import PyTree

METHODS = ("pso", "random", "evolution")
VELOCITIES = ("random", "zero", "best")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """One swarm's rules; the defaults are the middle of the published random grid.

  Attributes:
    method: who moves: "pso"; "evolution": what scored is changed a little, and the best
      survive; "random": new ones each time, the chance that a method has to beat.
    inertia, cognitive, social, repel: phi_v, phi_p, phi_g, phi_w; the weights of
      velocity, own best, swarm best and (away from the) swarm worst.
    step_length, step_decay, step_floor: lambda, phi_lambda, lambda_min; move t (from
      0) has the step max(lambda * phi_lambda^t, lambda_min). Decay 1: constant.
    random_coefficients: draw four scalars per particle and move; off: 1 each.
    velocity: the first one; "random": to another particle, "best": to the swarm's
      best, "zero".
    restart, restart_share, restart_cooldown: return to the own best once it is
      restart_share * patience scored iterations old (rho * c), and wait as long
      before the next time.
    patience: c; see `exhausted`.
    dropout_k: d_K, probability that an iteration scores nothing, in [0, 1).
    dropout_n: d_N, probability that a particle is not scored, in [0, 1).
  """

  method: str = "pso"
  inertia: float = 0.2
  cognitive: float = 0.3
  social: float = 0.4
  repel: float = 0.05
  step_length: float = 0.7
  step_decay: float = 0.95
  step_floor: float = 0.1
  random_coefficients: bool = True
  velocity: str = "random"
  restart: bool = True
  restart_share: float = 0.67
  restart_cooldown: bool = True
  patience: int = 6
  dropout_k: float = 0.0
  dropout_n: float = 0.0

  def __post_init__(self):
    phis = ("inertia", "cognitive", "social", "repel")
    for field in (*phis, "restart_share"):
      self._require(field, 0 <= getattr(self, field) < float("inf"), "0 or more")
    if not sum(getattr(self, field) for field in phis):
      raise ValueError(
        f"{', '.join(phis)} are all 0: nothing would ever move. Make one positive."
      )
    self._require("step_length", 0 < self.step_length < float("inf"), "more than 0")
    self._require(
      "step_decay", 0 < self.step_decay <= 1, "more than 0 and at most 1 (constant)"
    )
    self._require(
      "step_floor",
      0 <= self.step_floor <= self.step_length,
      f"0 to step_length={self.step_length}",
    )
    self._require("method", self.method in METHODS, ", ".join(METHODS))
    self._require("velocity", self.velocity in VELOCITIES, ", ".join(VELOCITIES))
    self._require("patience", self.patience >= 1, "1 or more iterations")
    for field in ("dropout_k", "dropout_n"):
      self._require(field, 0 <= getattr(self, field) < 1, "0 or more and less than 1")

  def _require(self, field, good, allowed):
    if not good:
      raise ValueError(f"{field}={getattr(self, field)!r}: allowed is {allowed}.")


def step_schedule(settings: Settings) -> optax.Schedule:
  """Move number (from 0) -> step length."""
  if settings.step_decay == 1:
    # optax takes `end_value` as a ceiling here, which would begin at the floor.
    return optax.constant_schedule(settings.step_length)
  return optax.exponential_decay(
    settings.step_length, 1, settings.step_decay, end_value=settings.step_floor
  )


def coefficients(random: jax.Array, settings: Settings) -> jax.Array:
  """[P, 4] draws in [0, 1) -> [P, 4] weights that add up to 1 for each particle.

  The columns are inertia, cognitive, social, repel. A draw of zeros gives zeros.
  """
  phi = jnp.array(
    [settings.inertia, settings.cognitive, settings.social, settings.repel], jnp.float32
  )[None]
  drawn = jnp.asarray(random) if settings.random_coefficients else jnp.ones_like(random)
  weighed = drawn * phi
  total = jnp.sum(weighed, axis=1, keepdims=True)
  return jnp.where(total > 0, weighed / jnp.where(total > 0, total, 1.0), 0.0)


def move_particle(
  position: PyTree,
  velocity: PyTree,
  best: PyTree,
  swarm_best: PyTree,
  swarm_worst: PyTree,
  weights: jax.Array,
  step_length: jax.typing.ArrayLike,
) -> tuple[PyTree, PyTree]:
  """(velocity, position) of one particle after a step.

  v' = w0 v + w1 (best - x) + w2 (swarm_best - x) + w3 (x - swarm_worst) and
  x' = x + step_length v'; all four terms see the old x.
  """
  velocity = jax.tree.map(
    lambda x, v, p, g, w: (
      weights[0] * v
      + weights[1] * (p - x)
      + weights[2] * (g - x)
      + weights[3] * (x - w)
    ),
    position,
    velocity,
    best,
    swarm_best,
    swarm_worst,
  )
  return velocity, jax.tree.map(lambda x, v: x + step_length * v, position, velocity)


# All particles: leaves [P, ...], shared bests [...], weights [P, 4].
move = jax.vmap(move_particle, in_axes=(0, 0, 0, None, None, 0, None))


@functools.partial(quick.jit, static_argnames=("size", "settings"))
def draw_scored(key: jax.Array, size: int, settings: Settings) -> jax.Array:
  """bool [size]: what to score in this iteration.

  dropout_k: with this probability nothing at all. Otherwise dropout_n: each particle
  is left out with this probability, but one is always kept.
  """
  skip_key, keep_key = jax.random.split(key)
  draw = lambda i: jax.random.uniform(jax.random.fold_in(keep_key, i))
  drawn = jax.vmap(draw)(jnp.arange(size))
  kept = (drawn >= settings.dropout_n) | (jnp.arange(size) == jnp.argmax(drawn))
  return kept & (jax.random.uniform(skip_key) >= settings.dropout_k)
