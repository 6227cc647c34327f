"""Chain and star: who speaks to whom, and in which order."""

import numpy as np

from jswarm.baselines import fixed_graphs
from tests.baselines.settings import setting


def test_the_original_chain_ends_with_the_best_expert():
  made = setting(variant="original")
  found = fixed_graphs.chain(made)
  job = found.answerer
  assert job.assignment[job.end] == int(np.argmax(made.singles))
  assert job.size == 4  # waves


def test_the_original_star_has_the_best_expert_as_its_hub():
  made = setting(variant="original")
  job = fixed_graphs.star(made).answerer
  assert job.assignment[job.end] == int(np.argmax(made.singles))
  assert job.size == 2 and job.edges.sum() == 3


def test_the_star_of_the_paper_broadcasts_and_gathers():
  job = fixed_graphs.star(setting()).answerer
  assert job.size == 3 and job.edges.sum() == 4
  np.testing.assert_array_equal(job.edges.sum(0), [0, 1, 1, 2])


def test_of_twenty_orders_the_best_on_dev_is_taken():
  made = setting(options={"orders": 20})
  assert (
    fixed_graphs.chain(made).dev
    >= fixed_graphs.chain(setting(options={"orders": 1})).dev
  )
  assert len(made.curve) == 1
