"""The same few formulas move graphs and weights, whatever their tree looks like."""

import json
import pathlib

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model import lora
from jswarm.swarm import guard, motion, pso

GOLDEN = json.loads(
  (pathlib.Path(__file__).parents[1] / "golden/pso_step.json").read_text()
)
P = 5
ask = jax.jit(pso.ask, static_argnums=2)
tell = jax.jit(pso.tell)
start = jax.jit(pso.start, static_argnums=3)
move = jax.jit(motion.move)
quick = hypothesis_settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**31)
utilities = hnp.arrays(
  np.float32,
  P,
  elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, np.nan, np.inf, -np.inf]),
)


def swarm(seed, size=P):
  rng = np.random.default_rng(seed)
  return {
    "a": jnp.asarray(rng.normal(size=(size, 3, 2)), jnp.float32),
    "b": [jnp.asarray(rng.normal(size=(size, 4)), jnp.float32)],
  }


def play(position, settings, scores, seed=0):
  """The state after start and one ask + tell for each further row of scores."""
  key = jax.random.key(seed)
  state = start(key, position, jnp.asarray(scores[0]), settings)
  for t, row in enumerate(scores[1:]):
    state = tell(ask(jax.random.fold_in(key, t), state, settings), jnp.asarray(row))
  return state


def assert_trees_close(left, right, tolerance=1e-5):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance),
    left,
    right,
  )


@jax.jit
def step(c):
  # The published coefficients are data here: the settings are all ones.
  phi = c["random"] * c["coefficients"]
  even = motion.Settings(inertia=1.0, cognitive=1.0, social=1.0, repel=1.0)
  return motion.move(
    c["position"],
    c["velocity"],
    c["personal_best"],
    c["global_best"],
    c["global_worst"],
    motion.coefficients(phi, even),
    c["step_length"],
  )


def test_moves_reproduce_the_published_step():
  for case in GOLDEN:
    c = {k: np.asarray(v, np.float32) for k, v in case.items()}
    c["coefficients"] = c["coefficients"][None]
    velocity, position = step(c)
    np.testing.assert_allclose(velocity, case["new_velocity"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(position, case["new_position"], rtol=1e-6, atol=1e-6)


def test_settings_weigh_the_draws_in_the_published_order():
  case = GOLDEN[0]
  settings = motion.Settings(
    **dict(zip(("inertia", "cognitive", "social", "repel"), case["coefficients"]))
  )
  weighed = np.array(case["random"]) * case["coefficients"]
  np.testing.assert_allclose(
    motion.coefficients(jnp.asarray(case["random"]), settings),
    weighed / weighed.sum(1, keepdims=True),
    rtol=1e-6,
  )


@quick
@given(seed=seeds)
def test_moving_all_particles_is_moving_them_one_by_one(seed):
  rng = np.random.default_rng(seed)
  position, velocity, best, shared = (swarm(seed + i) for i in range(4))
  top, bottom = (jax.tree.map(lambda x, i=i: x[i], shared) for i in (0, 1))
  weights = jnp.asarray(rng.uniform(size=(P, 4)), jnp.float32)
  moved = move(position, velocity, best, top, bottom, weights, 0.7)
  for i in range(P):
    x, v, p = (
      jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], tree)
      for tree in (position, velocity, best)
    )
    one = motion.move_particle(x, v, p, top, bottom, np.asarray(weights[i]), 0.7)
    assert_trees_close(one, jax.tree.map(lambda leaf, i=i: leaf[i], moved))


@quick
@given(seed=seeds, shift=st.floats(-10, 10, width=32))
def test_moves_follow_a_permuted_or_translated_swarm(seed, shift):
  rng = np.random.default_rng(seed)
  position, velocity, best, shared = (swarm(seed + i) for i in range(4))
  top, bottom = (jax.tree.map(lambda x, i=i: x[i], shared) for i in (0, 1))
  weights = jnp.asarray(rng.uniform(size=(P, 4)), jnp.float32)
  after = move(position, velocity, best, top, bottom, weights, 0.5)
  permutation = rng.permutation(P)
  permute = lambda tree: jax.tree.map(lambda x: x[permutation], tree)
  assert_trees_close(
    permute(after),
    move(
      *map(permute, (position, velocity, best)), top, bottom, weights[permutation], 0.5
    ),
  )
  add = lambda tree: jax.tree.map(lambda x: x + shift, tree)
  assert_trees_close(
    (after[0], add(after[1])),
    move(add(position), velocity, add(best), add(top), add(bottom), weights, 0.5),
    1e-4,
  )


def test_coefficients_add_up_to_one_and_are_one_scalar_a_particle():
  random = jax.random.uniform(jax.random.key(0), (50, 4)).at[3].set(0.0)
  drawn = np.asarray(motion.coefficients(random, motion.Settings()))
  np.testing.assert_allclose(np.delete(drawn.sum(1), 3), 1.0, rtol=1e-6)
  assert not drawn[3].any()
  still = motion.coefficients(random, motion.Settings(random_coefficients=False))
  np.testing.assert_allclose(
    still, np.tile(np.array([0.2, 0.3, 0.4, 0.05]) / 0.95, (50, 1)), rtol=1e-6
  )


@quick
@given(rows=st.lists(utilities, min_size=1, max_size=5), seed=seeds)
def test_failed_evaluations_are_never_a_best_or_a_worst(rows, seed):
  settings = motion.Settings()
  state = play(swarm(seed), settings, rows)
  known = np.where(np.isfinite(rows), rows, np.nan)
  highest = lambda x, axis: np.max(np.where(np.isnan(x), -np.inf, x), axis=axis)
  np.testing.assert_array_equal(state.best_utility, highest(known, 0))
  assert float(state.swarm_best_utility) == highest(known, None)
  assert float(state.swarm_worst_utility) == -highest(-known, None)
  assert int(state.history) == np.isfinite(rows).any(1).sum()
  for i in range(P):
    told = known[:, i][~np.isnan(known[:, i])]
    age = len(told) - 1 - int(np.argmax(told)) if len(told) else 0
    assert int(state.since_best[i]) == age
  moved = ask(jax.random.key(seed), state, settings)
  assert all(
    np.isfinite(x).all()
    for x in jax.tree.leaves((moved.position, moved.velocity, moved.best_position))
  )


def test_a_swarm_without_any_score_drifts_by_its_velocity_alone():
  settings = motion.Settings(random_coefficients=False, step_length=1.0)
  state = pso.start(jax.random.key(0), swarm(0), jnp.full(P, jnp.nan), settings)
  moved = ask(jax.random.key(1), state, settings)
  drift = jax.tree.map(lambda x, v: x + v * 0.2 / 0.95, state.position, state.velocity)
  assert_trees_close(moved.position, drift)


@quick
@given(rows=st.lists(utilities, min_size=2, max_size=3), seed=seeds)
def test_compiled_and_plain_swarms_agree(rows, seed):
  settings, key = motion.Settings(), jax.random.key(seed)
  state = pso.start(key, swarm(seed), jnp.asarray(rows[0]), settings)
  plain = pso.tell(pso.ask(key, state, settings), rows[1])
  assert_trees_close(plain, tell(ask(key, state, settings), jnp.asarray(rows[1])))


def test_a_tree_of_leaves_moves_like_one_leaf():
  scores = np.random.default_rng(0).uniform(size=(8, P)).astype(np.float32)
  tree = swarm(0)
  join = lambda t: jnp.concatenate([t["a"].reshape(P, 6), t["b"][0]], axis=1)
  apart = play(tree, motion.Settings(), scores)
  whole = play(join(tree), motion.Settings(), scores)
  assert_trees_close(join(apart.position), whole.position)


def test_a_draw_does_not_depend_on_the_number_of_particles():
  settings = motion.Settings(velocity="zero", repel=0.0, social=0.0)
  few, many = (
    play(
      jax.tree.map(lambda x, n=n: x[:n], swarm(0)),
      settings,
      np.tile(np.array([[0.5], [0.1], [0.1]], np.float32), (1, n)),
    )
    for n in (3, P)
  )
  assert_trees_close(few.position, jax.tree.map(lambda x: x[:3], many.position), 1e-6)


def test_first_velocities_lead_to_others_to_the_best_or_nowhere():
  position = jnp.arange(4.0)[:, None] ** 2
  first = lambda mode, key=0: (
    start(
      jax.random.key(key),
      position,
      jnp.array([0.0, 1.0, 3.0, 2.0]),
      motion.Settings(velocity=mode),
    ).velocity
  )
  assert not first("zero").any()
  np.testing.assert_array_equal(first("best"), position[2:3] - position)
  targets = np.stack([(first("random", k) + position)[:, 0] for k in range(40)])
  for i in range(4):
    others = set(np.asarray(position[:, 0]).tolist()) - {float(i) ** 2}
    assert set(targets[:, i].tolist()) == others
  alone = pso.start(jax.random.key(0), position[:1], jnp.zeros(1), motion.Settings())
  assert not alone.velocity.any()


def test_the_first_particle_wins_a_tie_and_an_equal_score_is_no_progress():
  settings = motion.Settings()
  position = jnp.arange(3.0)[:, None]
  state = pso.start(jax.random.key(0), position, jnp.array([1.0, 2.0, 2.0]), settings)
  assert state.swarm_best_position[0] == 1 and state.swarm_worst_position[0] == 0
  again = tell(ask(jax.random.key(1), state, settings), jnp.array([1.0, 2.0, 2.0]))
  assert_trees_close(again.best_position, position)
  assert again.since_best.tolist() == [1, 1, 1] and int(again.stalled) == 1


def test_unscored_particles_move_but_keep_their_last_utility():
  settings = motion.Settings()
  state = pso.start(jax.random.key(0), swarm(0), jnp.arange(5.0), settings)
  state = ask(jax.random.key(1), state, settings)
  told = tell(state, jnp.full(P, 9.0), jnp.arange(P) == 2)
  assert told.utility.tolist() == [0, 1, 9, 3, 4]
  assert told.since_best.tolist() == [0, 0, 0, 0, 0]
  assert float(told.swarm_best_utility) == 9 and float(told.swarm_worst_utility) == 0
  none = tell(state, jnp.full(P, jnp.nan), jnp.zeros(P, bool))
  assert_trees_close(none, state)


def test_stale_particles_return_to_their_best_and_then_cool_down():
  settings = motion.Settings(
    patience=6,
    restart_share=0.5,
    inertia=1.0,
    cognitive=0.0,
    social=0.0,
    repel=0.0,
    step_length=1.0,
    step_decay=1.0,
  )
  free = motion.Settings(**{**vars(settings), "restart_cooldown": False})
  never = motion.Settings(**{**vars(settings), "restart": False})

  def restarts(settings):
    position = jnp.array([[0.0], [1.0]])
    state = pso.start(jax.random.key(0), position, jnp.array([1.0, 1.0]), settings)
    moves = []
    for t in range(10):  # with inertia alone, a standing particle has restarted
      state = state.replace(velocity=jnp.ones((2, 1)))
      state = tell(ask(jax.random.key(t), state, settings), jnp.array([0.0, t + 2.0]))
      moves.append(float(state.position[0, 0]) == 0.0)
    assert np.diff(np.asarray(state.since_best)) == -10
    return np.flatnonzero(moves).tolist()

  # The best is in the history 3 times back before move 2; then 3 moves of rest.
  assert restarts(settings) == [2, 6]
  assert restarts(free) == list(range(2, 10))
  assert restarts(never) == []


def test_the_step_length_decays_to_its_floor():
  settings = motion.Settings(step_length=0.5, step_decay=0.5, step_floor=0.1)
  steps = [float(motion.step_schedule(settings)(t)) for t in range(5)]
  np.testing.assert_allclose(steps, [0.5, 0.25, 0.125, 0.1, 0.1], rtol=1e-6)
  constant = motion.step_schedule(motion.Settings(step_length=0.5, step_decay=1.0))
  assert float(constant(0)) == float(constant(100)) == 0.5


def test_moves_use_the_step_length_of_their_number():
  settings = motion.Settings(
    inertia=1.0,
    cognitive=0.0,
    social=0.0,
    repel=0.0,
    step_length=1.0,
    step_decay=0.5,
    step_floor=0.2,
    velocity="zero",
    restart=False,
  )
  state = pso.init(jax.random.key(0), jnp.zeros((2, 1)), settings)
  state = state.replace(velocity=jnp.ones((2, 1)))
  places = []
  for t in range(4):
    state = ask(jax.random.key(t), state, settings)
    places.append(float(state.position[0, 0]))
  np.testing.assert_allclose(places, np.cumsum([1, 0.5, 0.25, 0.2]), rtol=1e-6)


@pytest.mark.parametrize("d_k, d_n", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.8), (0.2, 0.5)])
def test_dropout_skips_iterations_and_particles_at_its_rates(d_k, d_n):
  settings = motion.Settings(dropout_k=d_k, dropout_n=d_n)
  kept = np.stack(
    [motion.draw_scored(jax.random.key(k), 6, settings) for k in range(400)]
  )
  skipped = ~kept.any(axis=1)
  assert abs(skipped.mean() - d_k) < 0.08
  expected = (1 - d_n) + d_n**6 / 6  # one is kept when all were dropped
  assert abs(kept[~skipped].mean() - expected) < 0.05


def stops_after(scores, patience):
  settings = motion.Settings(patience=patience)
  state = start(
    jax.random.key(0), jnp.zeros((2, 1)), jnp.full(2, scores[0]), motion.Settings()
  )
  for t, score in enumerate(scores[1:], 1):
    state = tell(state, jnp.full(2, score))
    if bool(pso.exhausted(state, settings)):
      return t
  return None


@quick
@given(
  scores=st.lists(
    st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan]), min_size=1, max_size=14
  ),
  patience=st.integers(1, 4),
)
def test_patience_is_the_rule_of_the_public_code_over_scored_iterations(
  scores, patience
):
  history, expected = [], None
  for t, score in enumerate(scores):
    if not np.isnan(score):
      history.append(max([score, *history[-1:]]))
    if (
      t
      and expected is None
      and len(history) > patience
      and len(set(history[-patience:])) == 1
    ):
      expected = t
  assert stops_after(np.array(scores, np.float32), patience) == expected


def test_a_plateau_ends_a_search_after_patience_iterations():
  assert stops_after(np.zeros(20, np.float32), 6) == 6
  assert stops_after(np.array([0, 1] + [1] * 20, np.float32), 6) == 6
  assert stops_after(np.array([0, 0, 0, 1] + [1] * 20, np.float32), 6) == 8


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e30, 1e6])
def test_broken_particles_are_rolled_back_and_counted(broken):
  position = {"w": jnp.ones((3, 2)) * jnp.arange(1.0, 4.0)[:, None]}
  state = pso.start(jax.random.key(0), position, jnp.arange(3.0), motion.Settings())
  torn = state.replace(position={"w": state.position["w"].at[1, 0].set(broken)})
  mended, count = guard.roll_back(torn, position)
  assert int(count) == 1
  assert_trees_close(mended.position, position, 0)
  assert not mended.velocity["w"][1].any() and mended.velocity["w"][0].any()
  whole, count = guard.roll_back(state, position)
  assert int(count) == 0
  assert_trees_close(whole, state, 0)


def test_a_swarm_at_zero_is_not_taken_for_broken():
  position = jnp.zeros((4, 2)).at[0].set(1.0)
  state = pso.init(jax.random.key(0), position, motion.Settings())
  assert int(guard.roll_back(state, position)[1]) == 0


def test_measuring_bests_anew_replaces_every_utility():
  settings = motion.Settings()
  state = play(jnp.arange(3.0)[:, None], settings, [[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]])
  fresh = pso.rescore(state, jnp.array([7.0, 5.0, jnp.nan]))
  assert fresh.best_utility.tolist() == [7, 5, -np.inf]
  assert (float(fresh.swarm_best_utility), float(fresh.swarm_worst_utility)) == (7, 5)
  assert_trees_close(fresh.swarm_best_position, state.best_position[0])
  assert_trees_close(fresh.swarm_worst_position, state.best_position[1])
  assert_trees_close(
    (fresh.position, fresh.since_best, fresh.stalled),
    (state.position, state.since_best, state.stalled),
  )


@pytest.mark.parametrize("mode", ["random", "best", "zero"])
def test_mixing_coefficients_are_the_space_of_dense_deltas(mode):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=(P, *shape)), jnp.float32)
  factors = {"q": {"A": draw(2, 6, 2), "B": draw(2, 2, 5)}}
  product = lambda f: jnp.einsum("eldr,elro->eldo", f["q"]["A"], f["q"]["B"])
  deltas = product(factors)
  scores = rng.uniform(size=(9, P)).astype(np.float32)
  settings = motion.Settings(velocity=mode, patience=3)
  dense = play(deltas, settings, scores)
  mixed = play(lora.dense_start(P), settings, scores)
  combine = lambda mix: jnp.einsum("pe,eldo->pldo", mix, deltas)
  assert_trees_close(combine(mixed.position["mix"]), dense.position, 1e-4)
  assert_trees_close(
    combine(mixed.swarm_best_position["mix"][None])[0], dense.swarm_best_position, 1e-4
  )
  crossed = product(play(factors, settings, scores).position)
  assert float(jnp.abs(crossed - dense.position).max()) > 0.1


@pytest.mark.parametrize(
  "field, value",
  [
    ("inertia", -0.1),
    ("repel", float("nan")),
    ("step_length", 0.0),
    ("step_decay", 1.1),
    ("step_floor", 0.8),
    ("velocity", "fast"),
    ("patience", 0),
    ("dropout_k", 1.0),
    ("dropout_n", -0.5),
    ("restart_share", -1.0),
  ],
)
def test_settings_out_of_range_are_refused_by_name(field, value):
  with pytest.raises(ValueError, match=f"{field}=.*allowed is"):
    motion.Settings(**{field: value})


def test_swarms_of_unequal_leaves_or_utilities_are_refused():
  with pytest.raises(ValueError, match="all 0"):
    motion.Settings(inertia=0, cognitive=0, social=0, repel=0)
  with pytest.raises(ValueError, match="one size P"):
    pso.init(
      jax.random.key(0), [jnp.zeros((2, 1)), jnp.zeros((3, 1))], motion.Settings()
    )
  with pytest.raises(ValueError, match="one number a particle"):
    pso.start(jax.random.key(0), jnp.zeros((2, 1)), jnp.zeros(3), motion.Settings())
