"""Log-probabilities of given tokens and means of states, against plain `apply`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model import decoder as decoder_lib
from jswarm.model import lora, scoring
from tests import tiny
from tests.model.decoder_test import RICH, make

ROWS = ([3, 14, 15, 9, 26, 5, 35, 8], [27, 18, 28], [1, 8, 2, 8, 4])
BEGINS = [5, 1, 3]


def rectangle(rows, width):
  tokens = np.full((len(rows), width), 7, np.int32)
  for b, row in enumerate(rows):
    tokens[b, : len(row)] = row
  lengths = np.array([len(row) for row in rows], np.int32)
  return jnp.asarray(tokens), jnp.asarray(lengths)


@functools.partial(jax.jit, static_argnums=0)
def _apply(decoder, params, tokens, positions):
  logits, _ = decoder.apply(params, tokens, positions)
  states, _ = decoder.hidden(params, tokens, positions)
  return logits, states, decoder.head(params, states)


def plain(decoder, params, row):
  """(logits [T, V], states [T, D], logits of the states) of one row alone."""
  tokens, lengths = rectangle([row], 16)
  positions = scoring.positions_of(lengths, 16)
  parts = _apply(decoder, params, tokens, positions)
  return [np.asarray(part)[0, : len(row)] for part in parts]


def expected(decoder, params, row, begin):
  logits, *_ = plain(decoder, params, row)
  every = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  return [every[t - 1, row[t]] for t in range(begin, len(row))]


@pytest.mark.parametrize("unstacked", [False, True])
def test_log_probs_are_the_log_softmax_of_the_tokens_that_come(unstacked):
  decoder, params = make(RICH)
  served = decoder_lib.unstack(params) if unstacked else params
  out = scoring.log_probs(
    decoder, served, None, None, *rectangle(ROWS, 11), jnp.asarray(BEGINS), most=6
  )
  for row, begin, found in zip(ROWS, BEGINS, np.asarray(out)):
    wanted = expected(decoder, params, row, begin)
    np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[len(wanted) :], 0)


def test_few_positions_at_a_time_give_the_same_numbers(monkeypatch):
  decoder, params = make(RICH)
  run = lambda: scoring.log_probs(
    decoder, params, None, None, *rectangle(ROWS, 8), jnp.asarray([1, 1, 1]), most=7
  )
  whole = run()
  monkeypatch.setattr(scoring, "_LOGITS", 2 * len(ROWS) * RICH.vocab)  # 2 of 7
  scoring._chosen.clear_cache()
  np.testing.assert_allclose(run(), whole, rtol=1e-6, atol=1e-6)
  scoring._chosen.clear_cache()


def test_means_leave_out_padding_and_are_of_the_states_before_the_head():
  decoder, params = make(RICH)
  means = scoring.mean_states(decoder, params, None, None, *rectangle(ROWS, 11))
  for row, mean in zip(ROWS, means):
    logits, states, again = plain(decoder, params, row)
    np.testing.assert_allclose(mean, states.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again, logits, atol=1e-5)


def test_a_row_that_only_fills_the_batch_is_zero_and_finite():
  decoder, params = make(RICH)
  tokens, lengths = rectangle([*ROWS[:1], []], 8)
  means = scoring.mean_states(decoder, params, None, None, tokens, lengths)
  out = scoring.log_probs(
    decoder, params, None, None, tokens, lengths, jnp.asarray([1, 1]), most=7
  )
  np.testing.assert_array_equal(means[1], 0)
  np.testing.assert_array_equal(out[1], 0)
  assert np.isfinite(means).all() and np.isfinite(out).all()


@pytest.mark.parametrize("form", ["grouped", "masked"])
def test_each_row_has_its_own_adapter_and_none_of_its_neighbours(form):
  decoder = decoder_lib.make_decoder(tiny.CONFIG)
  params, adapters = tiny.base(), tiny.adapters(2)
  owners, rows = [1, 0, 1], ROWS
  laid, mix = lora.group(adapters).replace(owners=jnp.asarray(owners)), None
  if form == "masked":
    laid, mix = lora.pack(adapters), jnp.eye(2)[jnp.asarray(owners)]
  args = *rectangle(rows, 8), jnp.asarray(BEGINS)
  out = scoring.log_probs(decoder, params, laid, mix, *args, most=4)
  means = scoring.mean_states(decoder, params, laid, mix, *args[:2])
  for b, owner in enumerate(owners):
    merged = lora.merge(params, jax.tree.map(lambda x: x[owner], adapters))
    wanted = expected(decoder, merged, rows[b], BEGINS[b])
    np.testing.assert_allclose(out[b, : len(wanted)], wanted, rtol=1e-4, atol=1e-4)
    states = plain(decoder, merged, rows[b])[1]
    np.testing.assert_allclose(means[b], states.mean(axis=0), rtol=1e-4, atol=1e-4)
