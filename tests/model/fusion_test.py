"""Steps of rows in lockstep are what the whole text says at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model import decoder as decoder_lib
from jswarm.model import fusion
from tests.model.decoder_test import RICH, make
from tests.model.scoring_test import ROWS, plain, rectangle


def last_logits(decoder, params, row):
  return plain(decoder, params, row)[0][-1]


@pytest.mark.parametrize("unstacked", [False, True])
def test_every_step_is_what_the_whole_row_says(unstacked):
  decoder, params = make(RICH)
  served = decoder_lib.unstack(params) if unstacked else params
  given = decoder, served, None, None
  rows = fusion.prefill(*given, *rectangle(ROWS, 10), steps=3)
  texts = [list(row) for row in ROWS]
  for fed in ([5, 6, 7], [4, 4, 4], [9, 0, 60]):
    for b, text in enumerate(texts):
      wanted = last_logits(decoder, params, text)
      np.testing.assert_allclose(rows.logits[b], wanted, rtol=1e-4, atol=1e-4)
      text.append(fed[b])
    rows = fusion.step(*given, rows, jnp.asarray(fed, jnp.int32))
  for b, text in enumerate(texts):
    wanted = last_logits(decoder, params, text)
    np.testing.assert_allclose(rows.logits[b], wanted, rtol=1e-4, atol=1e-4)


def test_a_row_that_waits_keeps_its_logits_and_its_place():
  decoder, params = make(RICH)
  given = decoder, params, None, None
  rows = fusion.prefill(*given, *rectangle(ROWS, 10), steps=3)
  before = rows.logits
  step = jax.jit(fusion.step, static_argnames="decoder")
  for fed in ([5, -1, 7], [6, -1, -1], [4, 3, -1]):
    rows = step(*given, rows, jnp.asarray(fed, jnp.int32))
    if fed[1] < 0:
      np.testing.assert_array_equal(rows.logits[1], before[1])
  for b, new in enumerate(([5, 6, 4], [3], [7])):
    wanted = last_logits(decoder, params, [*ROWS[b], *new])
    np.testing.assert_allclose(rows.logits[b], wanted, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(rows.position, [11, 4, 6])
