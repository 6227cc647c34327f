"""Which expert deserves credit: the JFK-score of the weight-step.

draw_assignments -> messages, utility (outside) -> jfk_score -> pso.tell
"""

import functools

import jax
import jax.numpy as jnp

from jswarm.core import quick

_RARE = 1e-5  # chance of a draw that covers all experts; below, redrawing takes ages


def draw_assignments(
  key: jax.Array, num_assignments: int, num_nodes: int, num_experts: int
) -> jax.Array:
  """int32 [A, N], the expert on each node: uniform, with replacement.

  The whole draw is repeated until every expert occurs, since one that never does has
  no score. Never permutations: each expert would count once in every assignment, and
  all scores would be equal.

  Raises:
    ValueError: too few places for all experts to occur, or to do so by chance.
  """
  chance = _coverage(num_assignments * num_nodes, num_experts)
  if min(num_assignments, num_nodes, num_experts) < 1 or chance < _RARE:
    raise ValueError(
      f"{num_assignments} assignments of {num_nodes} nodes hold all {num_experts}"
      f" experts with probability {chance:.1g}: allowed is {_RARE} or more. Use more"
      " assignments (search.assignments)."
    )
  return _draw_covering(key, (num_assignments, num_nodes), num_experts)


def _coverage(places, kinds):
  """Probability that `places` uniform draws hold all of `kinds` kinds."""
  missing = [0.0] * kinds + [1.0]  # missing[k]: so far, k kinds never occurred
  for _ in range(places):
    again = [m * (kinds - k) / kinds for k, m in enumerate(missing)]
    found = [m * k / kinds for k, m in enumerate(missing)][1:] + [0.0]
    missing = [a + f for a, f in zip(again, found)]
  return missing[0]


@functools.partial(quick.jit, static_argnums=(1, 2))
def _draw_covering(key, shape, num_experts):
  def draw(attempt):
    return jax.random.randint(
      jax.random.fold_in(key, attempt), shape, 0, num_experts, jnp.int32
    )

  def uncovered(carry):
    return jnp.any(jnp.bincount(carry[1].ravel(), length=num_experts) == 0)

  def again(carry):
    return carry[0] + 1, draw(carry[0] + 1)

  return jax.lax.while_loop(uncovered, again, (0, draw(0)))[1]


def _shares(assignments, utility, num_experts):
  """[A, E]: each assignment's share in an expert's score; columns add up to 1.

  An assignment whose utility is not finite has no share, an expert that is on no
  node of the others has the share NaN.
  """
  counts = jax.nn.one_hot(assignments, num_experts).sum(axis=1)
  counts = jnp.where(jnp.isfinite(utility)[:, None], counts, 0.0)
  total = counts.sum(axis=0, keepdims=True)
  return jnp.where(total > 0, counts / jnp.where(total > 0, total, 1.0), jnp.nan)


@functools.partial(quick.jit, static_argnames="num_experts")
def jfk_score(
  assignments: jax.Array, utility: jax.Array, num_experts: int
) -> jax.Array:
  """float32 [E]: mean utility of the assignments, weighted by an expert's count.

  JFK_i = sum_j count_ij F_j / sum_j count_ij (the paper's JFK-score).

  Args:
    assignments: int [A, N], the expert on each node.
    utility: [A]; assignments whose utility is not finite are left out.
    num_experts: E.

  Returns:
    NaN for an expert that occurs in no assignment with a utility.
  """
  utility = jnp.asarray(utility, jnp.float32)
  shares = _shares(assignments, utility, num_experts)
  known = jnp.where(jnp.isfinite(utility), utility, 0.0)
  return jnp.sum(shares * known[:, None], axis=0)


@quick.jit
def jfk_noise(
  assignments: jax.Array, utility: jax.Array, scores: jax.Array
) -> jax.Array:
  """float32 []: typical standard error of the JFK-scores [E].

  Root mean square over experts of the error of a weighted mean,
  sqrt(sum_j share_ij^2 (F_j - JFK_i)^2). Scores that spread no further than this
  rank the experts by chance. NaN if no expert has a score.
  """
  utility = jnp.asarray(utility, jnp.float32)
  shares = _shares(assignments, utility, len(scores))
  known = jnp.where(jnp.isfinite(utility), utility, 0.0)
  gap = shares * (known[:, None] - scores[None, :])
  return jnp.sqrt(jnp.nanmean(jnp.sum(gap**2, axis=0)))


@functools.partial(quick.jit, static_argnames="num_experts")
def credit(
  assignments: jax.Array, utility: jax.Array, num_experts: int
) -> tuple[jax.Array, jax.Array]:
  """`jfk_score` and its `jfk_noise`, as one program."""
  scores = jfk_score(assignments, utility, num_experts)
  return scores, jfk_noise(assignments, utility, scores)
