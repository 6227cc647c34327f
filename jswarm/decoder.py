"""The language model: tokens[B, T] -> logits[B, T, V], with an explicit KV cache.

One decoder serves Llama, SmolLM2, Mistral, Qwen2 / 2.5 / 3 and Gemma 1 / 2 / 3 (text):
what differs between them is data (`DecoderConfig`), and what differs between the
layers of one model (window, RoPE base) is an array with a layer axis. Layers are
stacked `[L, ...]` and scanned; `unstack` gives a tree whose layers are a Python loop,
equal in every logit, which is the faster form on CPU.

Many experts that share a base are one batch: their LoRA factors lie side by side
along the rank, and each row scales its low-rank activations by its own `mix`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

PROJECTIONS = {
  "q": "attn", "k": "attn", "v": "attn", "o": "attn",
  "gate": "mlp", "up": "mlp", "down": "mlp",
}
_MASKED = -1e30  # finite: a row without any visible key gives a mean, never NaN
_NO_WINDOW = np.iinfo(np.int32).max
_QUERY_BLOCK = 256  # queries per attention block: bounds the scores to [B, H, 256, S]


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """Every architectural fact of a decoder; hashable, so it can be a static argument.

  Attributes:
    vocab, width, layers, heads, kv_heads, head_dim, hidden: V, D, L, H, K, h, F.
    activation: of the gated mlp, "silu" or "gelu_tanh".
    norm_eps: of every RMSNorm.
    norm_offset: 1.0 where the stored scale is relative to one (Gemma), else 0.0.
    post_norms: norms after attention and mlp too (Gemma 2 and 3).
    qkv_bias: bias on q, k, v (Qwen2); o_bias: bias on o (some Llamas).
    qk_norm: RMSNorm of every query and key head (Qwen3, Gemma 3).
    attn_softcap, final_softcap: c in c * tanh(x / c), or None (Gemma 2).
    query_scale: factor of the scores; None means 1 / sqrt(head_dim).
    embed_scale: factor of the embeddings (Gemma: sqrt(width)).
    tied: the head is the embedding matrix.
    rope_theta: base of the rotary frequencies.
    rope_scaling: None, ("linear", factor) or ("llama3", factor, low_freq_factor,
      high_freq_factor, original_max_positions).
    local_rope_theta: unscaled base for the layers that have a window (Gemma 3).
    windows: sliding window by layer, None for full attention; () means all full.
    max_positions: context length that the model was made for.
    family: Hugging Face model_type, for export.
  """

  vocab: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  hidden: int
  activation: str = "silu"
  norm_eps: float = 1e-6
  norm_offset: float = 0.0
  post_norms: bool = False
  qkv_bias: bool = False
  o_bias: bool = False
  qk_norm: bool = False
  attn_softcap: float | None = None
  final_softcap: float | None = None
  query_scale: float | None = None
  embed_scale: float = 1.0
  tied: bool = True
  rope_theta: float = 10000.0
  rope_scaling: tuple | None = None
  local_rope_theta: float | None = None
  windows: tuple[int | None, ...] = ()
  max_positions: int = 2048
  family: str = "llama"

  def __post_init__(self):
    if self.query_scale is None:
      object.__setattr__(self, "query_scale", self.head_dim**-0.5)
    if not self.windows:
      object.__setattr__(self, "windows", (None,) * self.layers)
    if len(self.windows) != self.layers:
      raise ValueError(
        f"windows has {len(self.windows)} entries but layers is {self.layers}: "
        "give one window (or None) for each layer"
      )
    if self.activation not in _ACTIVATIONS:
      raise ValueError(
        f"activation is {self.activation!r}; allowed: {sorted(_ACTIVATIONS)}"
      )
    if self.heads % self.kv_heads:
      raise ValueError(
        f"heads is {self.heads}, which kv_heads {self.kv_heads} does not divide"
      )


@struct.dataclass
class Cache:
  """Keys and values of the tokens so far; all rows write at the same slots."""

  k: jax.Array  # [L, B, K, S, h]
  v: jax.Array  # [L, B, K, S, h]
  positions: jax.Array  # [B, S] int32, -1 = empty
  end: jax.Array  # int32 scalar, next slot


class _ApplyFn(Protocol):
  def __call__(
    self, params, tokens, positions, cache=None, adapters=None, mix=None, at=None
  ) -> tuple[jax.Array, Cache | None]: ...


class Decoder(NamedTuple):
  """A model as two pure functions; see `make_decoder`."""

  config: DecoderConfig
  init: Any  # init(key) -> params
  apply: _ApplyFn


_ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": partial(nn.gelu, approximate=True)}


def _lift(vector, like):
  """vector[n] as [1, ..., n] with the rank of `like`."""
  return jnp.expand_dims(vector, tuple(range(like.ndim - 1)))


def _dot(x, kernel):
  """x[..., D] @ kernel[D, n] summed in float32."""
  return jnp.dot(x, kernel, preferred_element_type=jnp.float32)


def _softcap(x, cap):
  return x if cap is None else cap * jnp.tanh(x / cap)


class RMSNorm(nn.Module):
  """x / rms(x) * (offset + scale), in float32."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x):
    offset = self.config.norm_offset
    fill = nn.initializers.constant(1.0 - offset)
    scale = self.param("scale", fill, (x.shape[-1],), self.dtype)
    y = x.astype(jnp.float32)
    power = jnp.mean(y * y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(power + self.config.norm_eps)
    return (y * _lift(scale.astype(jnp.float32) + offset, y)).astype(x.dtype)


class Linear(nn.Module):
  """x @ kernel (+ bias) (+ the row's own mixture of low-rank updates)."""

  features: int
  bias: bool
  dtype: Any

  @nn.compact
  def __call__(self, x, lora=None, gain=None):
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.normal(0.02), shape, self.dtype)
    y = _dot(x, kernel)
    if self.bias:
      fill = nn.initializers.zeros
      y += _lift(self.param("bias", fill, (self.features,), self.dtype), y)
    if lora is not None:
      low = _dot(x, lora["A"]) * gain
      y += _dot(low.astype(x.dtype), lora["B"])
    return y.astype(x.dtype)


def rope_frequencies(config: DecoderConfig) -> np.ndarray:
  """Angles per position, float32 [1 or 2, h / 2]; row 1 is for windowed layers.

  Source: RoFormer eq. 15; "linear" is position interpolation; "llama3" as published
  with Llama 3.1 (long waves divided by `factor`, short ones kept, a ramp between).
  """
  powers = np.arange(0, config.head_dim, 2) / config.head_dim
  rows = [_scaled(config.rope_theta ** -powers, config.rope_scaling)]
  if config.local_rope_theta is not None:
    rows.append(config.local_rope_theta ** -powers)
  return np.stack(rows).astype(np.float32)


def _scaled(frequency, scaling):
  if scaling is None:
    return frequency
  kind, factor, *rest = scaling
  if kind == "linear":
    return frequency / factor
  if kind != "llama3":
    raise ValueError(f"rope_scaling is {kind!r}; allowed: 'linear', 'llama3'")
  low, high, original = rest
  turns = original * frequency / (2 * np.pi)
  keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return frequency * (keep + (1 - keep) / factor)


def _rotate(x, cos, sin):
  """RoPE of x[B, T, n, h] by cos, sin [B, T, 1, h / 2]; pairs are (i, i + h / 2)."""
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


def _attend(config, q, k, v, q_positions, k_positions, window):
  """q[B, T, H, h] over k, v[B, K, S, h] -> [B, T, H * h]; groups share their K/V."""
  rows, tokens, heads, size = q.shape
  groups = heads // k.shape[1]
  if jax.default_backend() == "cpu":  # bf16 batched dots can fail there
    q, k, v = (x.astype(jnp.float32) for x in (q, k, v))
  q = q.reshape(rows, tokens, -1, groups, size).transpose(0, 2, 3, 1, 4)
  dot = partial(jnp.einsum, preferred_element_type=jnp.float32)
  scores = dot("bkgth,bksh->bkgts", q, k) * config.query_scale
  gap = q_positions[:, :, None] - k_positions[:, None, :]
  seen = (k_positions[:, None, :] >= 0) & (gap >= 0) & (gap < window)
  scores = jnp.where(
    seen[:, None, None], _softcap(scores, config.attn_softcap), _MASKED
  )
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  out = dot("bkgts,bksh->bkgth", weights, v)
  return out.transpose(0, 3, 1, 2, 4).reshape(rows, tokens, heads * size)


def _attend_in_blocks(config, q, k, v, q_positions, k_positions, window):
  """`_attend` over blocks of queries, so that scores never are [B, H, T, S]."""
  rows, tokens, *head = q.shape
  if tokens <= _QUERY_BLOCK:
    return _attend(config, q, k, v, q_positions, k_positions, window)
  count = -(-tokens // _QUERY_BLOCK)
  short = count * _QUERY_BLOCK - tokens
  q = jnp.pad(q, ((0, 0), (0, short), (0, 0), (0, 0)))
  q_positions = jnp.pad(q_positions, ((0, 0), (0, short)), constant_values=-1)
  blocks = (
    q.reshape(rows, count, _QUERY_BLOCK, *head).swapaxes(0, 1),
    q_positions.reshape(rows, count, _QUERY_BLOCK).swapaxes(0, 1),
  )

  @jax.checkpoint  # else the backward pass would keep every block's scores
  def one(block):
    return _attend(config, block[0], k, v, block[1], k_positions, window)

  out = jax.lax.map(one, blocks)  # [count, B, block, H * h]
  return out.swapaxes(0, 1).reshape(rows, count * _QUERY_BLOCK, -1)[:, :tokens]


class _Step(NamedTuple):
  """What all layers of one call share."""

  cos: jax.Array  # [1 or 2, B, T, 1, h / 2]
  sin: jax.Array
  q_positions: jax.Array  # [B, T]
  k_positions: jax.Array  # [B, S]
  end: jax.Array | None  # slot of the first token; None without a cache
  gain: jax.Array | None  # [B, 1, E * r] float32


class Attention(nn.Module):
  """Grouped-query attention that reads and writes its layer of the cache."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x, step, lora, facts, store):
    c = self.config
    linear = partial(Linear, dtype=self.dtype)
    use = lambda name, n, bias: linear(n, bias, name=name)(
      x, lora.get(name), step.gain
    )
    split = lambda y: y.reshape(*y.shape[:2], -1, c.head_dim)
    q = split(use("q", c.heads * c.head_dim, c.qkv_bias))
    k = split(use("k", c.kv_heads * c.head_dim, c.qkv_bias))
    v = split(use("v", c.kv_heads * c.head_dim, c.qkv_bias))
    if c.qk_norm:
      q = RMSNorm(c, self.dtype, name="q_norm")(q)
      k = RMSNorm(c, self.dtype, name="k_norm")(k)
    layer, window, base = facts
    cos, sin = step.cos[base], step.sin[base]
    q, k, v = _rotate(q, cos, sin), _rotate(k, cos, sin).swapaxes(1, 2), v.swapaxes(1, 2)
    if store is not None:
      store = tuple(_write(s, y, layer, step.end) for s, y in zip(store, (k, v)))
      k, v = (s[layer] for s in store)
    y = _attend_in_blocks(c, q, k, v, step.q_positions, step.k_positions, window)
    y = linear(c.width, c.o_bias, name="o")(
      y.astype(x.dtype), lora.get("o"), step.gain
    )
    return y, store


def _write(store, new, layer, end):
  """new[B, K, T, h] into store[L, B, K, S, h] at [layer, :, :, end:]."""
  return jax.lax.dynamic_update_slice(
    store, new[None].astype(store.dtype), (layer, 0, 0, end, 0)
  )


class Mlp(nn.Module):
  """down(act(gate(x)) * up(x))."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x, step, lora):
    c = self.config
    use = lambda name, n, y: Linear(n, False, self.dtype, name=name)(
      y, lora.get(name), step.gain
    )
    act = _ACTIVATIONS[c.activation]
    return use("down", c.width, act(use("gate", c.hidden, x)) * use("up", c.hidden, x))


class Block(nn.Module):
  """One pre-norm layer; Gemma 2 and 3 also norm what each branch adds."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x, step, lora, facts, store):
    norm = lambda name: RMSNorm(self.config, self.dtype, name=name)
    post = norm if self.config.post_norms else lambda name: lambda y: y
    attention = Attention(self.config, self.dtype, name="attn")
    y, store = attention(norm("attn_norm")(x), step, lora, facts, store)
    x = x + post("post_attn_norm")(y)
    y = Mlp(self.config, self.dtype, name="mlp")(norm("mlp_norm")(x), step, lora)
    return x + post("post_mlp_norm")(y), store


def empty_cache(config: DecoderConfig, batch: int, slots: int, dtype) -> Cache:
  """A cache for `batch` rows of at most `slots` tokens, padding included."""
  shape = (config.layers, batch, config.kv_heads, slots, config.head_dim)
  return Cache(
    k=jnp.zeros(shape, dtype),
    v=jnp.zeros(shape, dtype),
    positions=jnp.full((batch, slots), -1, jnp.int32),
    end=jnp.zeros((), jnp.int32),
  )


def unstack(params):
  """The same params with `layers` as a list of L trees: apply then loops in Python.

  Equal logits. Faster on CPU, where slicing stacked weights copies them each step;
  compile time grows with L. Call it once, outside jit.
  """
  layers = params["layers"]
  if isinstance(layers, list):
    return params
  count = layers["attn_norm"]["scale"].shape[0]
  slices = [jax.tree.map(lambda x: x[i], layers) for i in range(count)]
  return {**params, "layers": slices}


def merge(params, adapter):
  """Params with kernel += A @ B for one adapter {"q": {"A": [L, D, r], "B"}, ...}."""
  layers = dict(params["layers"])
  for name, factors in adapter.items():
    part = dict(layers[PROJECTIONS[name]])
    kernel = part[name]["kernel"]
    delta = jnp.einsum(
      "ldr,lrn->ldn", factors["A"], factors["B"], precision="highest"
    )
    part[name] = {**part[name], "kernel": (kernel + delta).astype(kernel.dtype)}
    layers[PROJECTIONS[name]] = part
  return {**params, "layers": layers}


def _side_by_side(adapters, dtype):
  """A [E, L, D, r] -> [L, D, E * r] and B [E, L, r, n] -> [L, E * r, n]."""
  packed = {}
  for name, factors in adapters.items():
    experts, layers, width, rank = factors["A"].shape
    a = factors["A"].astype(dtype).transpose(1, 2, 0, 3)
    b = factors["B"].astype(dtype).transpose(1, 0, 2, 3)
    packed[name] = {
      "A": a.reshape(layers, width, experts * rank),
      "B": b.reshape(layers, experts * rank, -1),
    }
  return packed


def _gain(adapters, mix, batch):
  """mix[B, E] repeated over the ranks: [B, 1, E * r]."""
  if not adapters:
    return None
  ranks = {name: f["A"].shape[-1] for name, f in adapters.items()}
  experts = next(iter(adapters.values()))["A"].shape[0]
  if len(set(ranks.values())) > 1:
    raise ValueError(f"adapter ranks differ: {ranks}; pad them with zeros to one rank")
  if mix is None or mix.shape != (batch, experts):
    found = None if mix is None else mix.shape
    raise ValueError(
      f"mix is {found}; adapters of {experts} experts and {batch} rows need a mix of "
      f"shape {(batch, experts)} (one-hot rows to pick one expert)"
    )
  rank = next(iter(ranks.values()))
  return jnp.repeat(mix.astype(jnp.float32), rank, axis=1)[:, None]


def _shared(config, positions, cache, gain):
  """The `_Step` of this call and the cache with this call's positions written."""
  frequency = jnp.asarray(rope_frequencies(config))
  # Padding has position -1; any angle will do there, since no one attends to it.
  angle = positions[None, :, :, None, None] * frequency[:, None, None, None, :]
  if cache is None:
    k_positions, end = positions, None
  else:
    end = cache.end
    k_positions = jax.lax.dynamic_update_slice(cache.positions, positions, (0, end))
    cache = cache.replace(positions=k_positions, end=end + positions.shape[1])
  step = _Step(jnp.cos(angle), jnp.sin(angle), positions, k_positions, end, gain)
  return step, cache


def _facts(config):
  """What differs between layers, int32 [L] each: index, window, row of frequencies."""
  local = [w is not None and config.local_rope_theta is not None for w in config.windows]
  window = [_NO_WINDOW if w is None else w for w in config.windows]
  rows = (range(config.layers), window, local)
  return tuple(np.asarray(list(row), np.int32) for row in rows)


def _run_layers(block, params, x, step, lora, store):
  """All layers, scanned when stacked and looped when `unstack`ed."""
  facts, layers = _facts(block.config), params["layers"]

  def one(carry, xs):
    weights, lora, facts = xs
    return block.apply({"params": weights}, carry[0], step, lora, facts, carry[1]), None

  if not isinstance(layers, list):
    return jax.lax.scan(one, (x, store), (layers, lora, facts))[0]
  carry = (x, store)
  for i, weights in enumerate(layers):
    lora_i, facts_i = jax.tree.map(lambda a: a[i], (lora, facts))
    carry, _ = one(carry, (weights, lora_i, facts_i))
  return carry


def _logits(config, params, x):
  """x[..., D] -> float32 [..., V]."""
  if config.tied:
    y = jnp.einsum(
      "...d,vd->...v", x, params["embed"], preferred_element_type=jnp.float32
    )
  else:
    y = _dot(x, params["head"])
  return _softcap(y, config.final_softcap)


def make_decoder(config: DecoderConfig, dtype=jnp.float32) -> Decoder:
  """The decoder of `config`; `dtype` is that of freshly initialised params.

  `apply(params, tokens, positions, cache=None, adapters=None, mix=None, at=None)`:
    tokens: int32 [B, T].
    positions: int32 [B, T], -1 for padding (left, right or anywhere).
    cache: None for a plain causal forward, else T tokens are written at slots
      [end, end + T); writing past the last slot is the caller's error.
    adapters: {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}, scale folded in B.
    mix: float [B, E]; row b runs with the base plus sum_e mix[b, e] * A_e B_e.
    at: int32 [B], token index whose logits are wanted; None for all.
  Returns (float32 logits [B, T, V] or [B, V], cache). Activations have the dtype of
  the params; norms, softmax and logits are float32.
  """
  block = Block(config, dtype)
  final = RMSNorm(config, dtype)

  def init(key):
    embed_key, layer_key, head_key = jax.random.split(key, 3)
    normal = nn.initializers.normal(0.02)
    x = jnp.zeros((1, 1, config.width), dtype)
    step, _ = _shared(config, jnp.zeros((1, 1), jnp.int32), None, None)
    facts = tuple(f[0] for f in _facts(config))
    one = lambda key: block.init(key, x, step, {}, facts, None)["params"]
    params = {
      "embed": normal(embed_key, (config.vocab, config.width), dtype),
      "layers": jax.vmap(one)(jax.random.split(layer_key, config.layers)),
      "final_norm": final.init(key, x)["params"],
    }
    if not config.tied:
      params["head"] = normal(head_key, (config.width, config.vocab), dtype)
    return params

  def apply(
    params, tokens, positions, cache=None, adapters=None, mix=None, at=None
  ):
    embed = params["embed"]
    x = jnp.take(embed, tokens, axis=0, mode="clip")
    x = x * jnp.asarray(config.embed_scale, x.dtype)
    step, cache = _shared(
      config, positions, cache, _gain(adapters, mix, tokens.shape[0])
    )
    lora = _side_by_side(adapters or {}, x.dtype)
    store = None if cache is None else (cache.k, cache.v)
    x, store = _run_layers(block, params, x, step, lora, store)
    if cache is not None:
      cache = cache.replace(k=store[0], v=store[1])
    if at is not None:
      x = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
    x = final.apply({"params": params["final_norm"]}, x)
    return _logits(config, params, x), cache

  return Decoder(config, init, apply)
