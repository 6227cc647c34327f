"""Experts that are tuned together: any mix of them answers as they do."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model import decoder
from jswarm.training import data, sft, together
from tests.training.sft_test import DECODER

SETTINGS = sft.Settings(
  steps=150,
  batch=16,
  multiple=4,
  mixes=4,
  lr=3e-2,
  warmup=2,
  rank=8,
  alpha=16.0,
  targets=("q", "v", "down"),
)


def _facts(*pairs):
  """Rows "item -> value <end>"."""
  return data.Rows(
    [np.array([item, value, 1], np.int32) for item, value in pairs], [1] * len(pairs)
  )


# Each expert knows two facts of its own.
ROWS = {"one": _facts((10, 30), (11, 31)), "two": _facts((12, 32), (13, 33))}


@pytest.fixture(scope="module")
def params():
  return DECODER.init(jax.random.key(3))


@pytest.fixture(scope="module")
def tuned(params):
  return together.tune(
    DECODER, params, ROWS, {"one": None, "two": ROWS["two"]}, SETTINGS
  )


def _said(params, adapter):
  """item -> the token that follows it."""
  tokens = jnp.arange(10, 14)[:, None]
  merged = decoder.merge(params, adapter)
  logits, _ = DECODER.apply(merged, tokens, jnp.zeros_like(tokens))
  return dict(zip(range(10, 14), np.asarray(logits[:, -1].argmax(-1)).tolist()))


@pytest.mark.slow
def test_half_of_each_of_two_experts_knows_what_both_know(params, tuned):
  adapters = [trained.weights for trained in tuned.values()]
  middle = jax.tree.map(lambda *x: sum(x) / 2, *adapters)
  assert _said(params, middle) == {10: 30, 11: 31, 12: 32, 13: 33}
  one = _said(params, adapters[0])
  assert (one[10], one[11]) == (30, 31)


@pytest.mark.slow
def test_all_share_one_a_so_that_mixed_factors_are_mixed_updates(tuned):
  one, two = (trained.weights for trained in tuned.values())
  down = lambda adapter: {name: f["A"] for name, f in adapter.items()}
  chex.assert_trees_all_equal(down(one), down(two))
  assert not np.array_equal(one["q"]["B"], two["q"]["B"])


@pytest.mark.slow
def test_the_dev_loss_is_that_of_the_expert_alone(params, tuned):
  assert tuned["one"].dev_loss == {}
  alone = sft.make_dev_loss(sft.make_loss(DECODER, 1.0), ROWS["two"], SETTINGS)
  assert tuned["two"].dev_loss == {150: alone(tuned["two"].weights, params)}


def test_shares_are_points_of_the_simplex_from_corners_to_the_middle():
  shares = together.draw_shares(np.random.default_rng(0), 500, 10)
  np.testing.assert_allclose(shares.sum(axis=1), 1.0)
  greatest = shares.max(axis=1)
  assert (shares >= 0).all()
  assert (greatest > 0.99).mean() > 0.1 and (greatest < 0.3).mean() > 0.1


def test_a_batch_is_a_function_of_the_step_and_its_rows_are_owned_by_share():
  loader = together.Loader(list(ROWS.values()), SETTINGS)
  chex.assert_trees_all_equal(loader(3), together.Loader([*ROWS.values()], SETTINGS)(3))
  assert not np.array_equal(loader(3).shares, loader(4).shares)
  owned, share = [], []
  for step in range(60):
    batch = loader(step)
    assert batch.tokens.shape == (16, 4) and batch.shares.shape == (4, 2)
    owned += (batch.tokens[:, 0] >= 12).reshape(4, 4).mean(axis=1).tolist()
    share += batch.shares[:, 1].tolist()
  assert np.corrcoef(owned, share)[0, 1] > 0.8


def test_rows_of_a_batch_are_of_like_length():
  long = data.Rows([np.arange(10, 20, dtype=np.int32)] * 3, [4] * 3)
  mixed = data.Rows(ROWS["one"].tokens + long.tokens, ROWS["one"].starts + long.starts)
  loader = together.Loader([mixed, mixed], SETTINGS)
  for step in range(10):
    lengths = set((loader(step).positions >= 0).sum(axis=1).tolist())
    assert lengths in ({3}, {10})


@pytest.mark.parametrize("mixes", [-1, 3, 32])
def test_mixes_that_do_not_divide_the_batch_are_refused(mixes):
  with pytest.raises(ValueError, match="mixes=.*divisors of batch=16"):
    sft.Settings(steps=1, batch=16, mixes=mixes)
