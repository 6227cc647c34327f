"""Edges drawn one by one: never a cycle, as probable as said, learnt by reward."""

from hypothesis import given, settings, strategies
import numpy as np
import pytest

from jswarm.baselines import edge_policy, gptswarm
from jswarm.graphs import dag

SIZE = 5  # four experts and who decides
ALLOWED = ~np.eye(SIZE, dtype=bool)
ALLOWED[-1] = False


def drawn(seed, logits):
  """512 draws: one program for all tests."""
  tiled = np.broadcast_to(logits, (512, SIZE, SIZE)).astype(np.float32)
  return edge_policy.sample(np.random.default_rng(seed), tiled, ALLOWED)


numbers = strategies.integers(0, 2**31 - 1)


@settings(max_examples=25, deadline=None)
@given(numbers, strategies.floats(-4, 8))
def test_drawn_and_kept_edges_never_form_a_cycle(seed, shift):
  logits = np.random.default_rng(seed).normal(shift, 3, (SIZE, SIZE))
  kept = edge_policy.keep(logits, ALLOWED)
  for edges in [*drawn(seed, logits).taken[:8], kept]:
    dag.from_edges(edges, SIZE - 1)  # refuses a cycle
    assert not (edges & ~ALLOWED).any()


def test_what_is_open_can_be_added_and_what_is_not_closes_a_cycle():
  found = drawn(0, np.full((SIZE, SIZE), 30.0))
  for is_open, taken in zip(found.open[:8], found.taken[:8]):
    np.testing.assert_array_equal(is_open, taken)  # all that is open was wanted
    for i, j in np.argwhere(ALLOWED & ~is_open):
      closed = taken.copy()
      closed[i, j] = True
      with pytest.raises(ValueError, match="cycle"):
        dag.from_edges(closed, SIZE - 1)


def test_the_direction_of_an_edge_is_not_decided_by_the_order_of_nodes():
  """Of edges that are all wanted, each way round is as frequent."""
  taken = drawn(1, np.full((SIZE, SIZE), 30.0)).taken
  forwards = taken[:, :-1, :-1].mean(0)[np.triu_indices(SIZE - 1, 1)]
  np.testing.assert_allclose(forwards, 0.5, atol=0.1)


def test_a_draw_has_the_probability_that_is_said_of_it():
  """Counted over all draws of a small graph: frequencies are exp(log p) summed over
  orders, so for edges that cannot close a cycle they are the product itself."""
  logits = np.full((SIZE, SIZE), -30.0)
  logits[0, 1], logits[1, 2] = 0.5, -1.0
  found = drawn(2, logits)
  probability = np.exp(edge_policy.log_prob(logits.astype(np.float32), found))
  both = found.taken[:, 0, 1] & found.taken[:, 1, 2]
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  expected = sigmoid(0.5) * sigmoid(-1.0)
  np.testing.assert_allclose(probability[both], expected, rtol=1e-4)
  assert both.mean() == pytest.approx(expected, abs=0.06)


def test_edges_above_one_half_are_kept_the_most_probable_first():
  logits = np.full((SIZE, SIZE), -1.0, np.float32)
  logits[0, 1], logits[1, 0], logits[2, 4], logits[3, 4] = 1.0, 2.0, 0.1, 0.0
  kept = edge_policy.keep(logits, ALLOWED)
  assert np.argwhere(kept).tolist() == [[1, 0], [2, 4]]


@pytest.mark.parametrize("baseline", [False, True])
def test_a_planted_edge_is_learnt_from_rewards_alone(baseline):
  def score(edges, picks):
    assert len(picks) == len(edges)
    return [float(one[2, 0]) for one in edges]

  logits, _, steps = edge_policy.reinforce(
    np.random.default_rng(0),
    np.zeros((SIZE, SIZE), np.float32),
    gptswarm.logits_of,
    np.zeros(3, np.float32),
    ALLOWED,
    score,
    edge_policy.Settings(steps=60, baseline=baseline),
  )
  assert steps == 60
  values = np.where(ALLOWED, logits, -np.inf)
  assert np.unravel_index(values.argmax(), values.shape) == (2, 0)
  assert edge_policy.keep(logits, ALLOWED)[2, 0]


def test_without_calls_and_without_utilities_nothing_is_learnt():
  learn = lambda score: edge_policy.reinforce(
    np.random.default_rng(0),
    np.zeros((SIZE, SIZE), np.float32),
    gptswarm.logits_of,
    np.zeros(3, np.float32),
    ALLOWED,
    score,
    edge_policy.Settings(steps=3),
  )
  logits, _, steps = learn(lambda edges, picks: None)
  assert steps == 0 and not np.any(logits)
  logits, _, steps = learn(lambda edges, picks: [np.nan] * len(picks))
  assert steps == 3 and not np.any(logits)
