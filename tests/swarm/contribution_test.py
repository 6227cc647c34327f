"""Credit goes to experts through their unequal counts in random assignments."""

import json
import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.swarm import contribution

GOLDEN = json.loads(
  (pathlib.Path(__file__).parents[1] / "golden/contribution.json").read_text()
)


def reference(assignments, utility, num_experts):
  scores = []
  for e in range(num_experts):
    count = [int((z == e).sum()) * np.isfinite(f) for z, f in zip(assignments, utility)]
    total = sum(c * f for c, f in zip(count, utility) if c)
    scores.append(total / sum(count) if sum(count) else np.nan)
  return np.array(scores)


def test_scores_reproduce_the_published_ones():
  for case in GOLDEN[:4]:
    score = contribution.jfk_score(
      np.array(case["assignments"]),
      np.array(case["utility"], np.float32),
      len(case["score"]),
    )
    np.testing.assert_allclose(score, case["score"], rtol=1e-5)


def test_failed_assignments_and_empty_nodes_change_no_published_score():
  largest = np.max([np.shape(case["assignments"]) for case in GOLDEN], axis=0)
  for case in GOLDEN:
    a, n = np.shape(case["assignments"])
    assignments = np.full(largest, -1)
    assignments[:a, :n] = case["assignments"]
    utility = np.full(largest[0], np.nan, np.float32)
    utility[:a] = case["utility"]
    score = contribution.jfk_score(assignments, utility, int(largest[1]))
    np.testing.assert_allclose(score[:n], case["score"], rtol=1e-5)
    assert np.isnan(score[n:]).all()


def test_permutations_give_every_expert_the_same_score():
  rng = np.random.default_rng(0)
  assignments = np.stack([rng.permutation(6) for _ in range(8)])
  score = contribution.jfk_score(assignments, rng.uniform(size=8), 6)
  np.testing.assert_allclose(score, score[0], rtol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
  seed=st.integers(0, 2**31), size=st.sampled_from([(1, 3, 3), (4, 5, 5), (2, 4, 6)])
)
def test_every_expert_occurs_in_every_draw(seed, size):
  drawn = np.asarray(contribution.draw_assignments(jax.random.key(seed), *size))
  assert drawn.shape == size[:2] and drawn.dtype == np.int32
  assert set(drawn.ravel()) == set(range(size[2]))


def test_places_are_independent_and_uniform():
  drawn = np.asarray(contribution.draw_assignments(jax.random.key(0), 2000, 4, 4))
  np.testing.assert_allclose(
    [np.bincount(place, minlength=4) / 2000 for place in drawn.T], 0.25, atol=0.04
  )
  permutations = np.mean([len(set(z)) == 4 for z in drawn])
  assert abs(permutations - 24 / 256) < 0.03


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), failed=st.sets(st.integers(0, 4)))
def test_failed_assignments_are_left_out(seed, failed):
  rng = np.random.default_rng(seed)
  assignments = rng.integers(0, 4, (5, 3))
  utility = rng.uniform(-1, 1, 5).astype(np.float32)
  utility[list(failed)] = np.nan
  score = contribution.jfk_score(assignments, utility, 4)
  np.testing.assert_allclose(
    score, reference(assignments, utility, 4), rtol=1e-4, atol=1e-6
  )


def test_scores_stay_between_the_utilities_and_ignore_the_order():
  rng = np.random.default_rng(0)
  assignments, utility = rng.integers(0, 5, (9, 5)), rng.uniform(size=9)
  score = contribution.jfk_score(assignments, utility, 5)
  assert utility.min() <= score.min() and score.max() <= utility.max()
  order = rng.permutation(9)
  again = contribution.jfk_score(assignments[order][:, ::-1], utility[order], 5)
  np.testing.assert_allclose(score, again, rtol=1e-5)


def test_noise_is_the_spread_of_scores_over_repeated_utilities():
  rng = np.random.default_rng(0)
  assignments = jnp.asarray(rng.integers(0, 5, (60, 5)))
  draws = rng.normal(0.5, 0.1, (500, 60)).astype(np.float32)
  scores = jax.vmap(lambda f: contribution.jfk_score(assignments, f, 5))(draws)
  noise = jax.vmap(lambda f, s: contribution.jfk_noise(assignments, f, s))(
    draws, scores
  )
  spread = np.sqrt(np.mean(np.var(scores, axis=0)))
  assert abs(float(noise.mean()) / spread - 1) < 0.1
  known = draws[0].copy()
  known[0] = np.nan
  assert np.isfinite(
    contribution.jfk_noise(
      assignments, known, contribution.jfk_score(assignments, known, 5)
    )
  )


@pytest.mark.parametrize("size", [(1, 3, 4), (2, 0, 2), (1, 20, 20)])
def test_too_few_places_for_the_experts_are_refused(size):
  with pytest.raises(ValueError, match="Use more assignments"):
    contribution.draw_assignments(jax.random.key(0), *size)


def test_the_tightest_allowed_draw_ends():
  assert contribution._coverage(10, 10) == pytest.approx(3.6e-4, rel=0.02)
  drawn = contribution.draw_assignments(jax.random.key(0), 1, 10, 10)
  assert sorted(np.asarray(drawn)[0]) == list(range(10))
