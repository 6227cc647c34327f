"""The best expert alone, chosen on dev."""

import numpy as np

from jswarm.baselines import best_single
from tests.baselines.settings import dev_of, setting


def test_it_is_the_expert_with_the_greatest_dev_utility():
  made = setting()
  found = best_single.best_single(made)
  assert found.dev == made.singles.max() == dev_of(made, found.answerer)


def test_of_equal_experts_it_is_the_first_and_what_is_missing_is_never_best():
  made = setting()
  made.singles = np.array([np.nan, 0.5, 0.5, 0.1])
  assert best_single.best_single(made).answerer.assignment == (1,)
