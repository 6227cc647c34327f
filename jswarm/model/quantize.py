"""int8 weights of a base: kernels of a quarter (float32) or half (bfloat16) the bytes.

Weight-only, one scale an output channel, symmetric, rounded to nearest: kernel ~
int8 * scale. Activations, adapters, embeddings, norms and the head stay as they are.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import PyTree
from jswarm.model.decoder import Decoder
from jswarm.model.layers import each_linear

_TOP = 127.0


def quantize(params: PyTree) -> PyTree:
  """Params whose layers hold {"kernel": int8, "scale": float32 [..., n]} kernels."""

  def linear(module):
    kernel = jnp.asarray(module["kernel"], jnp.float32)
    scale = jnp.maximum(jnp.max(jnp.abs(kernel), axis=-2), 1e-12) / _TOP
    rounded = jnp.round(kernel / jnp.expand_dims(scale, -2)).astype(jnp.int8)
    return {**module, "kernel": rounded, "scale": scale}

  return {**params, "layers": each_linear(linear, params["layers"])}


def logit_error(
  decoder: Decoder, params: PyTree, quantized: PyTree, tokens: list[int]
) -> dict[str, float]:
  """How far the logits [T, V] of one text move.

  Returns:
    `mean` and `max` absolute difference of the log-probabilities, and `agree`, the
    share of positions whose likeliest token is the same.
  """
  row = jnp.asarray(tokens, jnp.int32)[None]
  positions = jnp.arange(row.shape[1], dtype=jnp.int32)[None]
  run = jax.jit(lambda p: jax.nn.log_softmax(decoder.apply(p, row, positions)[0][0]))
  exact, rounded = np.asarray(run(params)), np.asarray(run(quantized))
  gap = np.abs(exact - rounded)
  return {
    "mean": float(gap.mean()),
    "max": float(gap.max()),
    "agree": float((exact.argmax(-1) == rounded.argmax(-1)).mean()),
  }
