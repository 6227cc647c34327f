"""Random search: more calls find no less, and systems are drawn as by a search."""

import numpy as np
import pytest

from jswarm.baselines import random_search
from tests import fakes
from tests.baselines.settings import setting


@pytest.mark.parametrize(
  "method", [random_search.random_graphs, random_search.random_weights]
)
def test_more_calls_never_find_less(method):
  pool = fakes.numeric(num=7, seed=1)[0]
  dev = [method(setting(pool, calls=calls)).dev for calls in (35, 200, 1400)]
  assert dev == sorted(dev) and dev[0] < dev[-1]


def test_the_budget_buys_as_many_systems_as_it_can():
  made = setting(calls=300)
  found = random_search.random_weights(made)
  assert found.notes["tried"] == 300 // 5  # one call an example, five examples
  assert made.spent == 300


def test_random_mixes_stay_in_the_span_of_the_experts():
  made = setting(calls=100)
  found = random_search.random_weights(made)
  start = np.asarray(made.first.trees[0]["w"])
  row = np.asarray(found.answerer.weights.trees[0]["w"])[0]
  assert (start.min(0) - 1e-6 <= row).all() and (row <= start.max(0) + 1e-6).all()
