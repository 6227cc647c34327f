"""Model Swarms: crossing, moving, and the best single model of all times."""

import dataclasses

import numpy as np
import pytest

from jswarm.baselines import model_swarms
from tests import fakes
from tests.baselines.settings import dev_of, setting


def test_children_are_between_their_parents_in_the_paper_and_beyond_in_the_original():
  rng = np.random.default_rng(0)
  inside = model_swarms.crossed(rng, 4, 60, 1.0)
  np.testing.assert_array_equal(inside[:4], np.eye(4))
  np.testing.assert_allclose(inside.sum(1), 1, atol=1e-5)
  assert (inside >= 0).all()
  beyond = model_swarms.crossed(rng, 4, 60, 2.0)
  np.testing.assert_allclose(beyond.sum(1), 1, atol=1e-4)
  assert (beyond < 0).any()


@pytest.mark.parametrize("variant", ["paper", "original"])
def test_it_is_never_below_the_best_expert_and_says_its_dev_utility(variant):
  made = setting(variant=variant, calls=300)
  found = model_swarms.model_swarms(made)
  assert found.dev >= made.singles.max() - 1e-6
  assert dev_of(made, found.answerer) == pytest.approx(found.dev, abs=1e-6)
  assert len(found.answerer.members()) == 1


def test_a_swarm_moves_beyond_what_crossing_has_found():
  crossed = model_swarms.model_swarms(setting(options={"moves": 0}))
  moved = model_swarms.model_swarms(setting(options={"moves": 12}))
  assert moved.dev > crossed.dev and moved.notes["moves"] <= 12


def test_few_calls_cross_few_children_and_cut_the_last_move_short():
  made = setting(calls=4 * 5 + 16 * 5 + 3)  # sixteen children, four particles of a move
  found = model_swarms.model_swarms(made)
  assert found.notes == {"particles": 20, "moves": 1} and made.spent == 100
  made = setting(calls=12)
  assert model_swarms.model_swarms(made).notes["particles"] == 6


def test_dropout_scores_fewer_particles_a_move():
  rules = dataclasses.replace(model_swarms.RULES, dropout_n=0.7, patience=100)
  options = {"moves": 5, "particles": 4, "swarm": rules}
  made = setting(options=options)
  model_swarms.model_swarms(made)
  assert 5 * 5 <= made.spent < 5 * 4 * 5


def test_the_experts_of_each_group_are_crossed_among_themselves():
  experts, _ = fakes.numeric(num=5, groups=((0, 2), (1, 4)))
  made = setting(experts, calls=120)
  found = model_swarms.model_swarms(made)
  assert found.answerer.members()[0] in (0, 1, 2, 4) and made.spent <= 120
  assert dev_of(made, found.answerer) == pytest.approx(found.dev, abs=1e-6)
