"""The contract: a method keeps its budget, says what it lacks, and is found by name."""

import numpy as np
import pytest

from jswarm.baselines import methods
from jswarm.baselines.base import NotApplicable
from tests import fakes
from tests.baselines.settings import dev_of, setting


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("variant", ["paper", "original"])
def test_what_a_method_finds_scores_what_it_says(name, variant):
  made = setting(variant=variant, calls=400)
  if methods.lacking(methods.METHODS[name], made):
    pytest.skip("this pool lacks what it needs")
  found = methods.find(name, made)
  if not np.isnan(found.dev) and found.experts is None:
    assert dev_of(made, found.answerer) == pytest.approx(found.dev, abs=1e-6)


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_keeps_its_budget_and_draws_its_curve_upwards(name):
  made = setting(calls=120)
  if methods.lacking(methods.METHODS[name], made):
    pytest.skip("this pool lacks what it needs")
  methods.find(name, made)
  spent, best = zip(*made.curve) if made.curve else ((0,), (0.0,))
  assert made.spent <= 120
  assert list(spent) == sorted(spent) and list(best) == sorted(best)


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_same_seed_finds_the_same(name):
  if methods.lacking(methods.METHODS[name], setting()):
    pytest.skip("this pool lacks what it needs")
  once, again = (methods.find(name, setting(calls=200, seed=3)) for _ in range(2))
  assert once.notes == again.notes
  np.testing.assert_equal(once.dev, again.dev)


def test_a_pool_that_cannot_be_mixed_makes_a_soup_not_applicable():
  experts = fakes.numeric()[0]._replace(
    groups=(), weights=(), install=lambda weights: None
  )
  with pytest.raises(NotApplicable, match="uniform_soup needs mixable"):
    methods.find("uniform_soup", setting(experts))


def test_an_unknown_method_lists_the_known_ones():
  with pytest.raises(ValueError, match="baseline='soup'.*uniform_soup"):
    methods.find("soup", setting())


def test_calls_of_one_method_are_not_charged_to_the_next():
  made = setting(calls=100)
  methods.find("chain", made)
  assert 0 < made.spent <= 100
