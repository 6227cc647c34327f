"""Graphs drawn edge by edge, and the probabilities of edges learnt from utilities.

  params -> logits [B, N, N] -> sample -> utility (outside) -> update -> params

A draw walks over all pairs of nodes in a random order and passes over an edge that
would close a cycle with those already drawn, so every draw is acyclic. In a fixed order
the first edges would win and choose the direction of all others.
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jswarm.core.types import PyTree

_ADAM = optax.scale_by_adam()
_start = jax.jit(_ADAM.init)

LogitsFn = Callable[[PyTree, jax.Array], jax.Array]
"""(params, features [B, ...]) -> logits [B, N, N]; jitted, and defined once."""
PenaltyFn = Callable[[PyTree, jax.Array], jax.Array]
"""(params, logits [B, N, N]) -> [], to be kept small."""
ScoreFn = Callable[[np.ndarray, Sequence[int]], Sequence[float] | None]
"""(edges [B, N, N], the question of each [B]) -> utilities [B]; None: no calls left."""


class Drawn(NamedTuple):
  """What a draw came to, [N, N] or batched.

  Attributes:
    open: bool, edges that could have been drawn: allowed, and closing no cycle.
    taken: bool, those that were.
  """

  open: np.ndarray
  taken: np.ndarray


def no_penalty(params: PyTree, logits: jax.Array) -> jax.Array:
  """Nothing is to be kept small."""
  del params, logits
  return jnp.float32(0)


class Settings(NamedTuple):
  """Of `reinforce`: Adam's rate, graphs a step, and the steps at most.

  Attributes:
    baseline: subtract from each utility the mean of the others of its step.
    penalty: see `PenaltyFn`. strength: its factor.
  """

  steps: int
  batch: int = 4
  rate: float = 0.1
  baseline: bool = False
  penalty: PenaltyFn = no_penalty
  strength: float = 0.0


def sample(rng: np.random.Generator, logits: np.ndarray, allowed: np.ndarray) -> Drawn:
  """Acyclic graphs, edge (i, j) by sigmoid(logits[b, i, j]) where it is open.

  Args:
    rng: of orders and draws. logits: float [B, N, N].
    allowed: bool [N, N], edges at all.
  """
  places = np.arange(allowed.size)
  order = rng.permuted(np.tile(places, (len(logits), 1)), axis=1)
  probability = np.exp(-np.logaddexp(0, -logits))
  wanted = rng.random(logits.shape) < probability
  is_open, taken = jax.device_get(_walk(order, wanted, allowed))
  return Drawn(is_open, taken)


def keep(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
  """bool [N, N]: edges of a probability above one half, the most probable ones first,
  without those that would close a cycle."""
  logits = np.asarray(logits)
  order = np.argsort(-np.where(allowed, logits, -np.inf), axis=None, kind="stable")
  return np.asarray(_walk(order[None], (logits > 0)[None], allowed)[1][0])


def log_prob(logits: jax.Array, drawn: Drawn) -> jax.Array:
  """float32 [...]: of draws [..., N, N]. What was not open was no choice."""
  chosen = jnp.where(drawn.taken, logits, -logits)
  terms = jnp.where(drawn.open, jax.nn.log_sigmoid(chosen), 0.0)
  return jnp.sum(terms, axis=(-2, -1))


def reinforce(
  rng: np.random.Generator,
  params: PyTree,
  logits_of: LogitsFn,
  features: np.ndarray,
  allowed: np.ndarray,
  score: ScoreFn,
  settings: Settings,
  revise: Callable[[int, PyTree, np.ndarray], np.ndarray] | None = None,
) -> tuple[PyTree, np.ndarray, int]:
  """Learns `params` by REINFORCE: each step draws graphs, each for its own question.

  Args:
    rng: of all draws.
    features: [X, ...], one row a question.
    allowed: bool [N, N], edges at all.
    score: of graphs; a utility that is missing (NaN) teaches nothing.
    revise: `(steps made, params, allowed)` -> what is allowed from now on.

  Returns:
    (params, allowed, steps made).
  """
  state = _start(params)
  for step in range(settings.steps):
    # 1. Questions at random, and a graph for each.
    picks = rng.integers(0, len(features), settings.batch).tolist()
    mine = features[picks]
    drawn = sample(rng, np.asarray(logits_of(params, mine)), allowed)
    # 2. Their utilities.
    utility = score(drawn.taken, picks)
    if utility is None:
      return params, allowed, step
    # 3. Draws that came to more become more probable.
    params, state = _update(
      params,
      state,
      drawn,
      _advantage(utility, settings.baseline),
      mine,
      settings.rate,
      settings.strength,
      logits_of,
      settings.penalty,
    )
    if revise:
      allowed = revise(step + 1, params, allowed)
  return params, allowed, settings.steps


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def _walk(order, wanted, allowed):
  """(open, taken) [N, N]: takes what is wanted where it is open, edge after edge of the
  order [N * N]."""
  size = len(wanted)

  def look(reach, edge):  # reach[i, j]: is there a path from i to j?
    i, j = edge // size, edge % size
    is_open = allowed[i, j] & ~reach[j, i]
    taken = is_open & wanted[i, j]
    further = reach | (reach[:, i, None] & reach[None, j, :])
    return jnp.where(taken, further, reach), (is_open, taken)

  _, (is_open, taken) = jax.lax.scan(look, jnp.eye(size, dtype=bool), order)
  place = lambda x: jnp.zeros(size * size, bool).at[order].set(x).reshape(size, size)
  return place(is_open), place(taken)


def _advantage(utility, baseline):
  """float32 [B]: what each draw is worth."""
  values = np.asarray(utility, float)
  known = ~np.isnan(values)
  if baseline and known.sum() > 1:
    others = (np.nansum(values) - values) / (known.sum() - 1)
    values = values - others
  return np.where(known, values, 0.0).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("logits_of", "penalty"))
def _update(
  params, state, drawn, advantage, features, rate, strength, logits_of, penalty
):
  """(params, state) after one step of Adam on -mean(log p * advantage) + penalty."""

  def loss(params):
    logits = logits_of(params, features)
    gained = jnp.mean(log_prob(logits, drawn) * advantage)
    return strength * penalty(params, logits) - gained

  moves, state = _ADAM.update(jax.grad(loss)(params), state)
  return jax.tree.map(lambda p, m: p - rate * m, params, moves), state
