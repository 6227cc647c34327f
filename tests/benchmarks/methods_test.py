"""The comparison of methods: equal numbers of systems, chance in every table."""

import pytest

from jswarm.benchmarks import methods
from jswarm.benchmarks.harness import Options


@pytest.mark.slow
@pytest.mark.parametrize("step", methods.STEPS)
def test_a_small_comparison_has_a_row_a_variant_and_chance_comes_first(step):
  options = Options(small=True, worlds=("relay",), steps=(step,), seeds=1)
  rows = methods.run(options)
  assert [row.ours for row in rows] == list(methods.STEPS[step])
  assert rows[0].ours.startswith("random")
  for row in rows:
    assert 0 <= row.extra["test"] <= 1 and row.extra["seeds"] == 1


def test_an_unknown_step_names_the_known_ones():
  with pytest.raises(ValueError, match="--steps.*role, weight, both"):
    methods.run(Options(small=True, worlds=("relay",), steps=("graph",)))
