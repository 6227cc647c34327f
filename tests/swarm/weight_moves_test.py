"""Moves of weights stay among the experts, whatever the method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.swarm import motion, pso, weight_moves

START = {"w": jnp.eye(4), "v": jnp.arange(4.0)[:, None]}


def _moved(method, start=START, seed=0, **fields):
  settings = motion.Settings(method=method, **fields)
  size = len(start["w"])
  swarm = pso.start(jax.random.key(9), start, jnp.arange(float(size)), settings)
  return swarm, weight_moves.move(jax.random.key(seed), swarm, start, settings)


def test_a_pso_moves_as_pso_ask_does():
  swarm, moved = _moved("pso")
  asked = pso.ask(jax.random.key(0), swarm, motion.Settings())
  for one, other in zip(jax.tree.leaves(moved), jax.tree.leaves(asked)):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["random", "evolution"])
@pytest.mark.parametrize("seed", range(5))
def test_moves_are_combinations_of_experts_that_add_up_to_one(method, seed):
  _, moved = _moved(method, seed=seed)
  mix = np.asarray(moved.position["w"])
  np.testing.assert_allclose(mix.sum(axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(
    moved.position["v"][:, 0], mix @ np.arange(4.0), rtol=1e-4, atol=1e-5
  )
  if method == "random":
    assert (mix >= 0).all()


def test_an_evolution_begins_at_the_own_best_and_steps_no_further_than_it_may():
  _, moved = _moved("evolution", step_length=0.5, step_floor=0.0)
  mix = np.asarray(moved.position["w"])
  assert (np.diag(mix) >= 0.5 - 1e-6).all() and (np.diag(mix) < 1).all()


@pytest.mark.parametrize("method", motion.METHODS)
def test_a_pair_and_a_single_expert_can_move(method):
  for size in (2, 1):
    _, moved = _moved(method, {"w": jnp.eye(size)})
    assert np.isfinite(np.asarray(moved.position["w"])).all()
    assert int(moved.iteration) == 1
