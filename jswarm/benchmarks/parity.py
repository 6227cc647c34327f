"""Does the decoder compute on this device what numpy computes, and transformers?

Eight families as tiny random models whose windows are shorter than the text. The
reference is numpy, in float64 (`reference`); the device has layers stacked, as it
serves them, and speaks through the cache. All weights are numbers of bfloat16, so that
both dtypes share a reference.
"""

from collections.abc import Iterator, Mapping
import functools
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.benchmarks import peers, reference
from jswarm.benchmarks.checks import Check
from jswarm.core.types import PyTree
from jswarm.formats import hf_model
from jswarm.model import decoder as decoder_lib
from jswarm.model.architecture import DecoderConfig

_SIZE: dict[str, Any] = dict(
  vocab=101,
  width=64,
  layers=4,
  heads=4,
  kv_heads=2,
  head_dim=16,
  hidden=96,
  max_positions=256,
)
_WIDE: dict[str, Any] = _SIZE | dict(head_dim=24)  # not width / heads
_HALF = (7, None, 7, None)
_GEMMA: dict[str, Any] = _WIDE | dict(
  norm_offset=1.0, embed_scale=8.0, activation="gelu_tanh"
)
_GEMMA2: dict[str, Any] = _GEMMA | dict(
  post_norms=True, query_scale=10.0**-0.5, windows=_HALF
)
FAMILIES = {
  "llama": DecoderConfig(**_SIZE, tied=False),
  "llama, llama3 RoPE": DecoderConfig(
    **_SIZE, rope_theta=500.0, rope_scaling=("llama3", 8.0, 1.0, 4.0, 16)
  ),
  "mistral": DecoderConfig(**_SIZE, family="mistral", tied=False, windows=(7,) * 4),
  "qwen2": DecoderConfig(
    **_SIZE, family="qwen2", qkv_bias=True, windows=(None, None, 7, 7)
  ),
  "qwen3": DecoderConfig(**_WIDE, family="qwen3", qk_norm=True),
  "gemma": DecoderConfig(**_GEMMA, family="gemma"),
  "gemma2": DecoderConfig(
    **_GEMMA2, family="gemma2", attn_softcap=2.0, final_softcap=3.0
  ),
  "gemma3": DecoderConfig(
    **_GEMMA2,
    family="gemma3_text",
    qk_norm=True,
    rope_theta=1000.0,
    rope_scaling=("linear", 4.0),
    local_rope_theta=100.0,
  ),
}
# Largest difference of a logit, as a share of the largest logit.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.06}
_LENGTHS, _NEW = (12, 5), 12


class _Reply(NamedTuple):
  """A prompt with what was said behind it, and the logits [T + M - 1, V] on the way."""

  tokens: np.ndarray  # int32 [T + M]
  length: int  # T
  logits: np.ndarray


def run(families: Mapping[str, DecoderConfig] = FAMILIES) -> Iterator[Check]:
  """Per family: each dtype on the device beside the reference, then transformers."""
  missing = _missing()
  for name, config in families.items():
    yield from _family(name, config, not missing)
  if missing:
    yield Check("transformers", True, note=f"skipped: {missing}")


def _family(name, config, has_torch):
  params = weights(config)
  plain = jax.tree.map(np.asarray, params)
  theirs = _transformers(config, params) if has_torch else None
  for dtype, allowed in TOLERANCE.items():
    # In full float32: by default a device may multiply with less.
    with jax.default_matmul_precision("highest"):
      replies = speak(config, params, dtype)
    wanted = [reference.logits(config, plain, r.tokens[:-1]) for r in replies]
    yield _close(f"{name}, {dtype}", allowed, replies, wanted)
    if theirs:
      wanted = [theirs(r.tokens[:-1]) for r in replies]
      yield _close(f"{name}, {dtype}, transformers", allowed, replies, wanted)
  if jax.default_backend() != "cpu":  # float32 as it is served
    replies = speak(config, params, "float32")
    wanted = [reference.logits(config, plain, r.tokens[:-1]) for r in replies]
    note = f"{name}, float32 with the device's own products"
    yield _close(note, TOLERANCE["bfloat16"], replies, wanted)


def weights(config: DecoderConfig, seed: int = 0) -> PyTree:
  """Random float32 params, norms and biases too; all are numbers of bfloat16."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(decoder_lib.make_decoder(config).init, jax.random.key(0))

  def draw(path, x):
    # Around their usual values: norms multiply by about one, all else is about zero.
    scale = path[-1].key == "scale"
    drawn = (0.3 if scale else 0.15) * rng.standard_normal(x.shape, np.float32)
    drawn += (1.0 - config.norm_offset) if scale else 0.0
    return jnp.asarray(drawn, jnp.bfloat16).astype(jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def speak(config: DecoderConfig, params: PyTree, dtype: str) -> list[_Reply]:
  """Greedy replies to random prompts through the cache, on the default device."""
  rng = np.random.default_rng(1)
  lengths = np.array(_LENGTHS, np.int32)
  prompts = rng.integers(0, config.vocab, (len(lengths), max(_LENGTHS)), np.int32)
  cast = jax.tree.map(lambda x: x.astype(dtype), params)
  run = _compiled(jax.default_backend() == "cpu")
  first, rest, said = map(np.asarray, run(config, cast, prompts, lengths))
  return [
    _Reply(
      np.concatenate([prompts[row, :length], said[row]]),
      int(length),
      np.concatenate([first[row, :length], rest[row, :-1]]),
    )
    for row, length in enumerate(lengths)
  ]


@functools.cache
def _compiled(cheap):
  """`_speak` under jit; `cheap`: most of its time on CPU is compiling."""
  options = {"xla_backend_optimization_level": 0} if cheap else None
  return jax.jit(_speak, static_argnums=0, compiler_options=options)


def _speak(config, params, tokens, lengths):
  """(logits [B, T, V] of the prompts, [B, M, V] behind each token, tokens [B, M])."""
  apply = decoder_lib.make_decoder(config).apply
  (rows, width), dtype = tokens.shape, params["embed"].dtype
  index = jnp.arange(width, dtype=jnp.int32)[None]
  positions = jnp.where(index < lengths[:, None], index, -1)
  cache = decoder_lib.empty_cache(config, rows, width + _NEW, dtype)
  first, cache = apply(params, tokens, positions, cache)

  def step(carry, t):
    ahead, cache = carry
    token = jnp.argmax(ahead, axis=-1).astype(jnp.int32)
    logits, cache = apply(params, token[:, None], (lengths + t)[:, None], cache)
    return (logits[:, 0], cache), (logits[:, 0], token)

  last = jnp.take_along_axis(first, (lengths - 1)[:, None, None], axis=1)[:, 0]
  steps = jnp.arange(_NEW, dtype=jnp.int32)
  rest, said = jax.lax.scan(step, (last, cache), steps)[1]
  return first, rest.swapaxes(0, 1), said.T


def _close(name, allowed, replies, wanted) -> Check:
  """Are all logits near, and every token the best of `wanted` or as good?

  Figures are shares of the largest logit: `error`, the largest difference; `regret`,
  how much better than the token said the best one is.
  """
  scale = max(float(np.abs(x).max()) for x in wanted)
  error = regret = 0.0
  for reply, logits in zip(replies, wanted):
    error = np.maximum(error, np.abs(reply.logits - logits).max())  # keeps NaN
    ahead, said = logits[reply.length - 1 :], reply.tokens[reply.length :]
    chosen = ahead[np.arange(len(said)), said]
    regret = np.maximum(regret, (ahead.max(axis=-1) - chosen).max())
  figures = {"error": float(error) / scale, "regret": float(regret) / scale}
  passed = all(value <= allowed for value in figures.values())
  return Check(name, passed, {**figures, "allowed": allowed})


def _transformers(config, params):
  """Logits [T, V] of tokens [T] by the public implementation, from files."""
  import torch

  with tempfile.TemporaryDirectory() as folder:
    hf_model.save_base(folder, config, params)
    model = peers.transformers_model(folder, "float32")
  device = next(model.parameters()).device

  def logits(tokens):
    with torch.inference_mode():
      out = model(torch.tensor(tokens[None].tolist(), device=device))
    return out.logits[0].float().cpu().numpy()

  return logits


def _missing() -> str:
  """Why transformers cannot be asked; "" if it can."""
  try:
    import torch  # noqa: F401
  except ImportError as error:
    return str(error)
  return ""
