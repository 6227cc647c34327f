"""The decoder once more, in numpy and float64: slow, plain, one sequence at a time.

Written from the families' public descriptions, without a cache, packs, adapters or
anything that a compiler touches, to compare what a device computes with.
"""

import numpy as np

from jswarm.core.types import PyTree
from jswarm.model.architecture import DecoderConfig, rope_frequencies


def logits(config: DecoderConfig, params: PyTree, tokens: np.ndarray) -> np.ndarray:
  """[T, V] of tokens [T]; `params` of numpy arrays, layers stacked."""
  x = params["embed"][tokens].astype(np.float64) * config.embed_scale
  for i in range(config.layers):
    x = _layer(config, _at(params["layers"], i), x, config.windows[i])
  x = _norm(config, params["final_norm"], x)
  matrix = params["embed"].T if config.tied else params["head"]
  return _softcap(x @ matrix, config.final_softcap)


def _at(tree, i):
  if isinstance(tree, dict):
    return {name: _at(part, i) for name, part in tree.items()}
  return tree[i].astype(np.float64)


def _layer(config, weights, x, window):
  y = _attention(
    config, weights["attn"], _norm(config, weights["attn_norm"], x), window
  )
  x = x + (_norm(config, weights["post_attn_norm"], y) if config.post_norms else y)
  y = _mlp(config, weights["mlp"], _norm(config, weights["mlp_norm"], x))
  return x + (_norm(config, weights["post_mlp_norm"], y) if config.post_norms else y)


def _norm(config, weights, x):
  power = np.mean(x * x, axis=-1, keepdims=True)
  scale = weights["scale"].astype(np.float64) + config.norm_offset
  return x / np.sqrt(power + config.norm_eps) * scale


def _linear(weights, x):
  return x @ weights["kernel"] + weights.get("bias", 0.0)


def _attention(config, weights, x, window):
  split = lambda name: _linear(weights[name], x).reshape(len(x), -1, config.head_dim)
  q, k, v = split("q"), split("k"), split("v")
  if config.qk_norm:
    q, k = _norm(config, weights["q_norm"], q), _norm(config, weights["k_norm"], k)
  local = config.local_rope_theta is not None and window is not None
  angles = np.outer(np.arange(len(x)), rope_frequencies(config)[int(local)])
  q, k = _rotate(q, angles), _rotate(k, angles)
  groups = config.heads // config.kv_heads
  k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
  scores = np.einsum("thd,shd->hts", q, k) * config.query_scale
  scores = _softcap(scores, config.attn_softcap)
  gap = np.arange(len(x))[:, None] - np.arange(len(x))[None]
  seen = (gap >= 0) & (gap < (len(x) if window is None else window))
  scores = np.where(seen[None], scores, -np.inf)
  shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
  shares /= shares.sum(axis=-1, keepdims=True)
  return _linear(weights["o"], np.einsum("hts,shd->thd", shares, v).reshape(len(x), -1))


def _rotate(x, angles):
  """Pairs are (i, i + h / 2)."""
  cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
  a, b = np.split(x, 2, axis=-1)
  return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _mlp(config, weights, x):
  gate = _linear(weights["gate"], x)
  if config.activation == "silu":
    gate = gate / (1.0 + np.exp(-gate))
  else:  # gelu, the tanh formula
    inner = np.sqrt(2.0 / np.pi) * (gate + 0.044715 * gate**3)
    gate = 0.5 * gate * (1.0 + np.tanh(inner))
  return _linear(weights["down"], gate * _linear(weights["up"], x))


def _softcap(x, cap):
  return x if cap is None else cap * np.tanh(x / cap)
