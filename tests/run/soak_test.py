"""Harmed at random, for as long as one likes, every run ends as the one left alone."""

import os

import pytest

from tests import soak


@pytest.mark.slow
def test_runs_that_are_harmed_at_random_end_alike_and_nothing_grows(tmp_path):
  seconds = float(os.environ.get("JSWARM_SOAK_SECONDS", 20))
  _, *harmed = soak.soak(tmp_path, seconds, seed=0)
  assert harmed
  third = max(1, len(harmed) // 3)
  for what, allowed in (("peak", 1.05), ("disk", 1.05)):
    early = max(row[what] for row in harmed[:third])
    late = max(row[what] for row in harmed[-third:])
    assert late <= allowed * early, what
