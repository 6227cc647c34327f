"""Weights that a move has broken are never asked, kept or saved."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.run import loop
from jswarm.swarm import guard, motion, pso
from tests import fakes
from tests.fake_run import plan

HARMS = (np.nan, np.inf, -np.inf, 1e30, 1e6)


def _swarm(position):
  utility = jnp.arange(float(len(position["w"])))
  return pso.start(jax.random.key(0), position, utility, motion.Settings())


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("who", [[1], [0, 2], [0, 1, 2]])
def test_what_a_move_broke_goes_back_to_its_best_and_stands_still(harm, who):
  position = {"w": jnp.ones((3, 2)) * jnp.arange(1.0, 4.0)[:, None]}
  swarm = _swarm(position)
  torn = swarm.replace(
    position={"w": swarm.position["w"].at[np.array(who), 0].set(harm)}
  )
  mended, count = guard.roll_back(torn, position)
  assert int(count) == len(who)
  np.testing.assert_array_equal(mended.position["w"], position["w"])
  for i in range(3):
    assert bool(mended.velocity["w"][i].any()) == (i not in who)


def test_a_sound_swarm_is_left_as_it_is_bit_for_bit():
  position = {"w": jax.random.normal(jax.random.key(1), (4, 3)) * 1e-3}
  swarm = _swarm(position)
  moved = pso.ask(jax.random.key(2), swarm, motion.Settings())
  mended, count = guard.roll_back(moved, position)
  assert int(count) == 0
  jax.tree.map(np.testing.assert_array_equal, mended, moved)


def test_a_swarm_at_zero_is_not_taken_for_broken():
  position = {"w": jnp.zeros((4, 2)).at[0].set(1.0)}
  swarm = pso.init(jax.random.key(0), position, motion.Settings())
  assert int(guard.roll_back(swarm, position)[1]) == 0


def test_a_particle_without_a_sound_best_goes_back_to_where_it_began():
  position = {"w": jnp.ones((3, 2))}
  swarm = _swarm(position)
  torn = {"w": swarm.position["w"].at[1].set(jnp.nan)}
  mended, count = guard.roll_back(
    swarm.replace(position=torn, best_position=torn), position
  )
  assert int(count) == 1
  np.testing.assert_array_equal(mended.position["w"], position["w"])
  np.testing.assert_array_equal(mended.best_position["w"], position["w"])


def _harmed(monkeypatch, harm, every=2):
  """Every second move writes `harm` into one expert."""
  true, moves = guard.roll_back, [0]

  def roll_back(swarm, start):
    moves[0] += 1
    if moves[0] % every == 0:
      one = moves[0] % len(swarm.best_utility)
      torn = jax.tree.map(lambda x: x.at[one].multiply(harm), swarm.position)
      swarm = swarm.replace(position=torn)
    return true(swarm, start)

  monkeypatch.setattr(guard, "roll_back", roll_back)


@pytest.mark.parametrize("harm", [np.nan, np.inf, 1e6])
def test_a_search_whose_moves_break_experts_ends_with_finite_bests_and_files(
  monkeypatch, tmp_path, harm
):
  _harmed(monkeypatch, harm)
  experts, _ = fakes.numeric()
  installed, saved = [], []

  def install(weights):
    installed.append(jax.device_get(weights))
    experts.install(weights)

  def save(folder, weights, members):
    saved.append(jax.device_get(weights))
    return experts.save(folder, weights, members)

  made = plan(
    {"search.iterations": 6, "role.patience": 50},
    experts=experts._replace(install=install, save=save),
  )
  result = loop.run(made, str(tmp_path))
  finite = lambda tree: all(np.isfinite(x).all() for x in jax.tree.leaves(tree))
  assert installed and finite(installed) and saved and finite(saved)
  assert max(abs(x).max() for x in jax.tree.leaves(installed)) < 100
  bests = [swarm.swarm_best_position for swarm in result.state.weight]
  assert finite(result.system.weights) and finite(bests)
  rows = [row["weight/repaired"] for row in result.results["history"][1:]]
  assert rows == [0, 1] * 3 and result.results["rolled_back"] == 3
  assert json.loads((tmp_path / "results.json").read_text())["rolled_back"] == 3


def test_an_iteration_that_rolled_back_is_told(monkeypatch, caplog):
  _harmed(monkeypatch, np.nan)
  with caplog.at_level("WARNING"):
    loop.run(plan({"search.iterations": 2}), None)
  assert "iteration 2: 1 expert" in caplog.text


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
  from jswarm.systems import artifact

  made = plan({"search.iterations": 0})
  result = loop.run(made, None)
  broken = jax.tree.map(lambda x: x.at[0].set(jnp.nan), result.system.weights)
  with pytest.raises(ValueError, match="not finite"):
    artifact.save(
      tmp_path / "best",
      result.system.replace(weights=broken),
      made.experts,
      made.wording,
      limit=5,
      chat=False,
      serving={},
      context={},
    )
  assert not (tmp_path / "best").exists()
