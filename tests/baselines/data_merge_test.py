"""Data merge: the trained expert answers alone, from a pool of its own."""

import pytest

from jswarm.baselines import methods
from jswarm.baselines.base import Lent, NotApplicable
from tests import fakes
from tests.baselines.settings import setting


def test_the_trained_expert_answers_alone():
  told = []
  trained = fakes.dictionary(lambda expert, prompt: "0.9 0.9", names=("one",))[0]
  made = setting(lent=Lent(train=lambda matched: (told.append(matched), trained)[1]))
  found = methods.find("data_merge", made)
  assert found.experts is trained and told == [False]
  assert found.dev == pytest.approx(0.9 - 0.02) and made.spent == 5
  made.options = {"matched": True}
  methods.find("data_merge", made)
  assert told == [False, True]


def test_a_pool_whose_records_nobody_knows_makes_it_not_applicable():
  with pytest.raises(NotApplicable, match="data_merge needs train"):
    methods.find("data_merge", setting())
