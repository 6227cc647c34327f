"""Merges of dense updates: what is kept, which sign wins, and what they reduce to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.baselines import merges, methods
from jswarm.baselines.base import Lent, NotApplicable
from tests import fakes
from tests.baselines.settings import dev_of, setting

KEY = jax.random.key(0)
DRAWN = np.random.default_rng(0).normal(size=(3, 40, 50)).astype(np.float32)
EQUAL = jnp.full(3, 1 / 3)


def _merge(deltas, name, key=KEY, **fields):
  _, density, normalise = merges.MERGES[name]
  fields = {"density": density, "normalise": normalise, "scale": 1.0, **fields}
  weights = jnp.asarray(fields.pop("weights", np.full(len(deltas), 1 / len(deltas))))
  rule = merges.Rule(weights.astype(jnp.float32), **fields)
  return merges.merged(key, {"x": lambda: deltas}, name, rule)["x"]


@pytest.mark.parametrize("name", merges.MERGES)
def test_one_expert_at_density_one_is_itself(name):
  np.testing.assert_allclose(_merge(DRAWN[:1], name, density=1.0), DRAWN[0], rtol=1e-6)


@pytest.mark.parametrize("name", merges.MERGES)
def test_equal_experts_at_density_one_are_each_of_them(name):
  equal = np.stack([DRAWN[0]] * 3)
  found = _merge(equal, name, density=1.0)
  np.testing.assert_allclose(found, DRAWN[0], rtol=1e-5)


def test_the_sign_of_the_sum_is_elected_and_only_who_has_it_is_heard():
  deltas = jnp.array(
    [[3.0, 1.0, 1.0, 0.0], [-1.0, -2.0, 0.0, 0.0], [1.0, -2.0, -1.0, 0.0]]
  )
  summed = merges.elected(deltas, jnp.ones(3), normalise=False)
  np.testing.assert_allclose(summed, [4, -4, 1, 0])  # of a sum of 0: plus
  mean = merges.elected(deltas, jnp.ones(3), normalise=True)
  np.testing.assert_allclose(mean, [2, -2, 1, 0])


def test_a_negative_weight_votes_for_the_other_sign():
  deltas = jnp.array([[2.0, 2.0], [3.0, 1.0]])
  found = merges.elected(deltas, jnp.array([1.0, -1.0]), normalise=False)
  np.testing.assert_allclose(found, [-3.0, 2.0])


def test_dropped_updates_keep_their_share_and_their_expectation():
  found = merges.dropped(KEY, jnp.asarray(DRAWN), 0.25)
  kept = np.asarray(found) != 0
  assert abs(kept.mean() - 0.25) < 0.02
  np.testing.assert_allclose(found[kept], DRAWN[kept] * 4, rtol=1e-6)
  assert (kept[0] != kept[1]).any()  # each expert's own draws
  np.testing.assert_array_equal(merges.dropped(KEY, jnp.asarray(DRAWN), 1.0), DRAWN)


def test_trimming_keeps_the_largest_of_each_expert():
  found = np.asarray(merges.trimmed(jnp.asarray(DRAWN), 0.2))
  for row, kept in zip(np.abs(DRAWN), found):
    assert (kept != 0).sum() == 400
    assert np.abs(kept[kept != 0]).min() >= row[kept == 0].max()


def test_ties_by_hand():
  """Trimmed to two entries each: [4 0 -3], [0 -2 -1], [5 0 2]; then signs + - -."""
  deltas = np.array([[4, 0.1, -3], [0.2, -2, -1], [5, 1, 2]], np.float32)
  np.testing.assert_allclose(_merge(deltas, "ties", density=2 / 3), [4.5, -2, -2])


def test_dare_ties_elects_among_what_was_not_dropped():
  found = _merge(DRAWN, "dare_ties")
  drawn = merges.dropped(jax.random.fold_in(KEY, 0), jnp.asarray(DRAWN), 0.5)
  wanted = merges.elected(drawn, EQUAL, normalise=False)
  np.testing.assert_allclose(found, wanted, rtol=1e-6)
  assert (_merge(DRAWN, "dare_ties", jax.random.key(1)) != found).any()


def test_task_arithmetic_is_the_weighted_sum():
  weights = np.array([0.5, -1.0, 2.0])
  found = _merge(DRAWN, "task_arithmetic", weights=weights, scale=0.3)
  np.testing.assert_allclose(
    found, 0.3 * np.tensordot(weights, DRAWN, 1), rtol=1e-4, atol=1e-5
  )


def test_slerp_keeps_the_length_of_what_it_turns():
  a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
  np.testing.assert_allclose(
    merges.slerp(a, b, 1 / 3), [np.sqrt(3) / 2, 0.5], rtol=1e-6
  )
  np.testing.assert_allclose(merges.slerp(a, 3 * a, 0.5), [2.0, 0.0])  # parallel
  np.testing.assert_allclose(merges.slerp(a, 0 * a, 0.5), [0.5, 0.0])


def _lending(start, served):
  """Updates of a base of zeros; what is served is `fakes.numeric` of one expert."""

  def serve(group, update):
    served.append(np.asarray(update["w"]))
    experts, _ = fakes.numeric(num=4)
    moved = {"w": jnp.tile(served[-1][None], (4, 1))}
    experts.install((moved,))
    return experts._replace(
      names=("merged",), groups=(), weights=(), install=lambda weights: None
    )

  return Lent(deltas=lambda: [{"w": lambda: start}], serve=serve)


def test_the_merged_model_answers_from_a_pool_of_its_own():
  served = []
  made = setting()
  start = np.asarray(made.first.trees[0]["w"])
  made.lent = _lending(start, served)
  made.options = {"merge": "task_arithmetic", "weights": [0, 1, 0, 0]}
  found = methods.find("dare_ties", made)
  np.testing.assert_array_equal(served[0], start[1])
  assert found.dev == made.singles[1] and found.experts.names == ("merged",)
  assert made.spent == 5 and found.notes["merge"] == "task_arithmetic"
  assert dev_of(made, found.answerer) != found.dev  # which asks the pool as it came


def test_a_merge_without_a_base_is_not_applicable_and_unknown_ones_are_named():
  made = setting(lent=Lent(deltas=lambda: [{}], serve=lambda group, update: None))
  with pytest.raises(NotApplicable, match="pool.base"):
    methods.find("dare_ties", made)
  made.options = {"merge": "tie"}
  with pytest.raises(ValueError, match="merge='tie'.*ties"):
    methods.find("dare_ties", made)
