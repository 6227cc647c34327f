"""Soups: means of weights, within a group, taken where dev gets better."""

import numpy as np
import pytest

from jswarm.baselines import soups
from tests import fakes
from tests.baselines.settings import dev_of, setting


def test_a_uniform_soup_is_the_mean_of_the_weights():
  made = setting()
  found = soups.uniform_soup(made)
  (tree,) = found.answerer.weights.trees
  mean = np.asarray(made.first.trees[0]["w"]).mean(0)
  np.testing.assert_allclose(tree["w"], np.tile(mean, (4, 1)), rtol=1e-6)


def test_a_mix_of_one_expert_is_that_expert():
  made = setting()
  for expert in range(4):
    mix = np.eye(4)[expert]
    assert dev_of(made, soups.mixed(made, 0, mix)) == made.singles[expert]


def test_a_greedy_soup_is_never_below_the_best_expert():
  for seed in range(5):
    made = setting(fakes.numeric(seed=seed)[0])
    assert soups.greedy_soup(made).dev >= made.singles.max()


def test_a_greedy_soup_takes_only_who_helps():
  """The utility is nearness to the mean of experts 0 and 2: they are the soup."""
  experts, _ = fakes.numeric()
  rows = np.asarray(experts.weights[0]["w"])
  goal = (rows[0] + rows[2]) / 2

  def near(examples, replies):
    said = [np.array(reply.split(), float) for reply in replies]
    return [1 - float(np.abs(x - goal).max()) for x in said]

  made = setting(experts, near)
  found = soups.greedy_soup(made)
  if made.by_dev[0] in (0, 2):
    assert {"expert0", "expert2"} <= set(found.notes["experts"])
  assert found.dev > made.singles.max()


def test_groups_are_never_mixed_with_each_other():
  experts, _ = fakes.numeric(num=5, groups=((0, 2), (1, 4)))
  made = setting(experts)
  found = soups.uniform_soup(made)
  assert found.notes["experts"] in (["expert0", "expert2"], ["expert1", "expert4"])
  assert found.dev == pytest.approx(dev_of(made, found.answerer))
