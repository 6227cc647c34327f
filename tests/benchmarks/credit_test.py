"""The comparison of credits: a truth that is the same for all of them."""

import pytest

from jswarm.benchmarks import credit
from jswarm.benchmarks.harness import Options


@pytest.mark.slow
def test_each_credit_has_a_row_with_its_agreement_and_its_price():
  rows = credit.run(Options(small=True, worlds=("relay",), seeds=1))
  assert [row.ours for row in rows] == ["jfk, M = 10", "replace"]
  for row in rows:
    assert -1 <= row.extra["rank correlation"] <= 1 and row.extra["systems"] == 10
    assert -1 <= row.extra["gain of the better half"] <= 1


def test_an_unknown_world_names_the_known_ones():
  with pytest.raises(ValueError, match="--world.*relay"):
    credit.run(Options(worlds=("moon",)))
