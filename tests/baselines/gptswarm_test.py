"""GPTSwarm: edges by reward, or adjacencies interpolated by their f."""

import numpy as np

from jswarm.baselines import gptswarm
from jswarm.graphs import dag
from tests import fakes
from tests.baselines.settings import dev_of, setting

SMALL = {"steps": 40, "rounds": 3}


def planted():
  """Experts of which the third says something only after it heard the first."""

  def say(expert, prompt):
    if expert == 2 and "word 0" in prompt:
      return "0.9"
    return "0.8" if "0.9" in prompt else f"0.1 word {expert}"

  def utility(examples, replies):
    return [float(reply.split()[0]) for reply in replies]

  return fakes.dictionary(say, list("abcd"))[0], utility


def test_a_planted_edge_is_found_by_both_variants():
  for variant in ("paper", "original"):
    made = setting(*planted(), variant=variant, options={**SMALL, "baseline": True})
    found = gptswarm.gptswarm(made)
    assert "a > c" in found.notes["edges"], variant
    assert found.dev > 0.7 > made.singles.max()


def test_an_interpolation_follows_the_better_graphs():
  edges = np.zeros((3, 3, 3), bool)
  edges[0, 0, 1] = edges[1, 1, 0] = edges[2, 1, 0] = True
  mean = gptswarm.interpolate(edges, np.array([0.9, 0.1, np.nan]))
  assert mean[0, 1] > 0.9 and 0 < mean[1, 0] < 0.1
  np.testing.assert_allclose(mean[0, 1] + mean[1, 0], 1, rtol=1e-6)
  even = gptswarm.interpolate(edges, np.full(3, 0.4))
  np.testing.assert_allclose(even[0, 1], 1 / 3, rtol=1e-6)
  np.testing.assert_array_equal(gptswarm.interpolate(edges, np.full(3, np.nan)), 0.5)


def test_what_is_found_is_a_graph_that_ends_in_the_decision():
  found = gptswarm.gptswarm(setting(variant="original", options=SMALL))
  job = found.answerer
  assert job.end == 4 and not job.edges[4].any()
  dag.from_edges(job.edges, 4)


def test_the_best_of_the_paper_variant_is_never_below_what_it_scored():
  made = setting(options=SMALL)
  found = gptswarm.gptswarm(made)
  assert found.dev == made.curve[-1][1] == dev_of(made, found.answerer)


def test_what_is_not_in_the_budget_is_not_scored():
  found = gptswarm.gptswarm(setting(variant="original", calls=4))
  assert np.isnan(found.dev) and found.notes["steps"] == 0
  assert found.answerer.members() and not found.notes["edges"]
