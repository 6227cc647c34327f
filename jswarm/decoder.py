"""The language model: tokens[B, T] -> logits[B, T, V], with an explicit KV cache.

One decoder serves every family of `architecture.DecoderConfig`: what differs between
families is data, and what differs between the layers of one model (window, RoPE base)
is an array with a layer axis. Layers are stacked `[L, ...]` and scanned; `unstack`
makes them a Python loop, equal in every logit and faster on CPU.

Many experts that share a base are one batch: their LoRA factors lie side by side
along the rank, and each row scales its low-rank activations by its own `mix`.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from jswarm.architecture import DecoderConfig
from jswarm.architecture import layer_facts
from jswarm.architecture import PROJECTIONS
from jswarm.architecture import projection_shapes
from jswarm.architecture import rope_frequencies
from jswarm.attention import attend
from jswarm.attention import rope_angles
from jswarm.attention import rotate
from jswarm.attention import softcap

_ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": partial(nn.gelu, approximate=True)}


@struct.dataclass
class Cache:
  """Keys and values of the tokens so far; all rows write at the same slots.

  k and v may also be lists of L arrays [B, K, S, h] (`empty_cache(unstacked=True)`,
  for `unstack`ed params), which spares the CPU a copy of each layer's slice.
  """

  k: jax.Array  # [L, B, K, S, h]
  v: jax.Array  # [L, B, K, S, h]
  positions: jax.Array  # [B, S] int32, -1 = empty
  end: jax.Array  # int32 scalar, next slot


@struct.dataclass
class Packed:
  """Adapters laid out for use: see `pack`."""

  layers: Any  # {"q": {"A": [L, D, E * r], "B": [L, E * r, n]}, ...} or a list of L
  experts: int = struct.field(pytree_node=False)
  rank: int = struct.field(pytree_node=False)


class _ApplyFn(Protocol):
  def __call__(
    self, params, tokens, positions, cache=None, adapters=None, mix=None, at=None
  ) -> tuple[jax.Array, Cache | None]: ...


class Decoder(NamedTuple):
  """A model as two pure functions; see `make_decoder`."""

  config: DecoderConfig
  init: Any  # init(key) -> params
  apply: _ApplyFn


class _Step(NamedTuple):
  """What all layers of one call share."""

  cos: jax.Array  # [1 or 2, B, T, 1, h / 2]
  sin: jax.Array
  q_positions: jax.Array  # [B, T]
  k_positions: jax.Array  # [B, S]
  end: jax.Array | None  # slot of the first token; None without a cache
  gain: jax.Array | None  # [B, 1, E * r] float32


def _lift(vector, like):
  """vector[n] as [1, ..., n] with the rank of `like`."""
  return jnp.expand_dims(vector, tuple(range(like.ndim - 1)))


def _dot(x, kernel):
  """x[..., D] @ kernel[D, n] summed in float32."""
  return jnp.dot(x, kernel, preferred_element_type=jnp.float32)


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
  def __call__(self, x, lora, gain):
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


class Attention(nn.Module):
  """Grouped-query attention that reads and writes its layer of the cache."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x, step, lora, facts, store):
    c, (layer, window, base) = self.config, facts
    use = lambda name, y, bias: Linear(
      projection_shapes(c)[name][1], bias, self.dtype, name=name
    )(y, lora.get(name), step.gain)
    q, k, v = (
      use(name, x, c.qkv_bias).reshape(*x.shape[:2], -1, c.head_dim) for name in "qkv"
    )
    if c.qk_norm:
      q = RMSNorm(c, self.dtype, name="q_norm")(q)
      k = RMSNorm(c, self.dtype, name="k_norm")(k)
    cos, sin = step.cos[base], step.sin[base]
    q = rotate(q, cos, sin)
    k, v = rotate(k, cos, sin).swapaxes(1, 2), v.swapaxes(1, 2)
    if store is not None:
      store = tuple(_write(s, y, layer, step.end) for s, y in zip(store, (k, v)))
      k, v = (s if s.ndim == 4 else s[layer] for s in store)
    y = attend(c, q, k, v, step.q_positions, step.k_positions, window)
    return use("o", y.astype(x.dtype), c.o_bias), store


def _write(store, new, layer, end):
  """new[B, K, T, h] into store[(L,) B, K, S, h] at [(layer,) :, :, end:]."""
  new = new.astype(store.dtype)
  if store.ndim == 4:
    return jax.lax.dynamic_update_slice(store, new, (0, 0, end, 0))
  return jax.lax.dynamic_update_slice(store, new[None], (layer, 0, 0, end, 0))


class Mlp(nn.Module):
  """down(act(gate(x)) * up(x))."""

  config: DecoderConfig
  dtype: Any

  @nn.compact
  def __call__(self, x, step, lora):
    shapes = projection_shapes(self.config)
    use = lambda name, y: Linear(shapes[name][1], False, self.dtype, name=name)(
      y, lora.get(name), step.gain
    )
    act = _ACTIVATIONS[self.config.activation]
    return use("down", act(use("gate", x)) * use("up", x))


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


def empty_cache(
  config: DecoderConfig, batch: int, slots: int, dtype, unstacked: bool = False
) -> Cache:
  """A cache for `batch` rows of at most `slots` tokens, padding included.

  `unstacked` gives one array a layer, for params that went through `unstack`.
  """
  shape = (batch, config.kv_heads, slots, config.head_dim)
  if unstacked:
    new = lambda: [jnp.zeros(shape, dtype) for _ in range(config.layers)]
  else:
    new = lambda: jnp.zeros((config.layers, *shape), dtype)
  positions = jnp.full((batch, slots), -1, jnp.int32)
  return Cache(k=new(), v=new(), positions=positions, end=jnp.zeros((), jnp.int32))


def is_unstacked(params) -> bool:
  """Whether `params` went through `unstack`."""
  return isinstance(params["layers"], list)


def unstack(params):
  """The same params with `layers` as a list of L trees: apply then loops in Python.

  Equal logits. Faster on CPU, where slicing stacked weights copies them each step;
  compile time grows with L. Call it once, outside jit.
  """
  if is_unstacked(params):
    return params
  count = params["layers"]["attn_norm"]["scale"].shape[0]
  return {**params, "layers": _by_layer(params["layers"], count)}


def _by_layer(tree, count):
  return [jax.tree.map(lambda x: x[i], tree) for i in range(count)]


def merge(params, adapter):
  """Stacked params with kernel += A @ B for one {"q": {"A": [L, D, r], "B"}, ...}."""
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


def pack(adapters, dtype=jnp.float32, unstacked: bool = False) -> Packed:
  """Adapters with the experts side by side: `apply` takes them in either form.

  `apply` packs what is not packed yet; a decoding loop packs once, before it starts.

  Args:
    adapters: {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}; one E and r for all.
    dtype: of the result, that of the params.
    unstacked: a list of L trees, for params that went through `unstack`.
  """
  shapes = {name: factors["A"].shape for name, factors in adapters.items()}
  if len({(experts, rank) for experts, _, _, rank in shapes.values()}) != 1:
    raise ValueError(
      f"A of the adapters are {shapes}: every projection needs the same experts (first "
      "axis) and rank (last axis); pad ranks with zeros"
    )
  experts, count, _, rank = next(iter(shapes.values()))
  layers = {}
  for name, factors in adapters.items():
    a = factors["A"].astype(dtype).transpose(1, 2, 0, 3)
    b = factors["B"].astype(dtype).transpose(1, 0, 2, 3)
    layers[name] = {
      "A": a.reshape(*a.shape[:2], experts * rank),
      "B": b.reshape(count, experts * rank, -1),
    }
  return Packed(_by_layer(layers, count) if unstacked else layers, experts, rank)


def _gain(packed, mix, batch):
  """mix[B, E] repeated over the ranks: float32 [B, 1, E * r]."""
  if mix is None or mix.shape != (batch, packed.experts):
    raise ValueError(
      f"mix is {None if mix is None else mix.shape}; {batch} rows and adapters of "
      f"{packed.experts} experts need a mix of shape {(batch, packed.experts)} "
      "(one-hot rows to pick one expert)"
    )
  return jnp.repeat(mix.astype(jnp.float32), packed.rank, axis=1)[:, None]


def _begin(config, positions, cache, gain):
  """The `_Step` of this call and the cache with this call's positions written."""
  cos, sin = rope_angles(positions, jnp.asarray(rope_frequencies(config)))
  if cache is None:
    return _Step(cos, sin, positions, positions, None, gain), None
  end = cache.end
  k_positions = jax.lax.dynamic_update_slice(cache.positions, positions, (0, end))
  cache = cache.replace(positions=k_positions, end=end + positions.shape[1])
  return _Step(cos, sin, positions, k_positions, end, gain), cache


def _scan_layers(block, layers, x, step, lora, store):
  """Stacked layers; the whole cache is carried, so that writes are in place."""

  def one(carry, xs):
    weights, lora, facts = xs
    return block.apply({"params": weights}, carry[0], step, lora, facts, carry[1]), None

  return jax.lax.scan(one, (x, store), (layers, lora, layer_facts(block.config)))[0]


def _loop_layers(block, layers, x, step, lora, store):
  """A list of layers; each with its own cache where that is a list too."""
  split = store is not None and isinstance(store[0], list)
  own = list(zip(*store)) if split else None
  for i, weights in enumerate(layers):
    facts = tuple(int(column[i]) for column in layer_facts(block.config))
    args = ({"params": weights}, x, step, lora[i], facts)
    if split:
      x, own[i] = block.apply(*args, own[i])
    else:
      x, store = block.apply(*args, store)
  return x, (tuple(map(list, zip(*own))) if split else store)


def _run_layers(block, params, x, step, packed, store):
  layers, lora = params["layers"], packed.layers if packed else {}
  if is_unstacked(params):
    if not isinstance(lora, list):
      lora = _by_layer(lora, len(layers))
    return _loop_layers(block, layers, x, step, lora, store)
  if isinstance(lora, list) or (store is not None and isinstance(store[0], list)):
    raise ValueError("the cache or the adapters are unstacked but params are stacked")
  return _scan_layers(block, layers, x, step, lora, store)


def _logits(config, params, x):
  """x[..., D] -> float32 [..., V]."""
  if config.tied:
    head = partial(jnp.einsum, "...d,vd->...v", preferred_element_type=jnp.float32)
    return softcap(head(x, params["embed"]), config.final_softcap)
  return softcap(_dot(x, params["head"]), config.final_softcap)


def make_decoder(config: DecoderConfig, dtype=jnp.float32) -> Decoder:
  """The decoder of `config`; `dtype` is that of freshly initialised params.

  `apply(params, tokens, positions, cache=None, adapters=None, mix=None, at=None)`:
    tokens: int32 [B, T].
    positions: int32 [B, T], -1 for padding (left, right or anywhere).
    cache: None for a plain causal forward, else T tokens are written at slots
      [end, end + T); writing past the last slot is the caller's error.
    adapters: {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}, scale folded in B,
      or the same `pack`ed.
    mix: float [B, E]; row b runs with the base plus sum_e mix[b, e] * A_e B_e.
    at: int32 [B], token index whose logits are wanted; None for all.
  Returns (float32 logits [B, T, V] or [B, V], cache). Activations have the dtype of
  the params; norms, softmax and logits are float32.
  """
  block = Block(config, dtype)
  final = RMSNorm(config, dtype)

  def init(key):
    keys = jax.random.split(key, 3)
    normal = nn.initializers.normal(0.02)
    x = jnp.zeros((1, 1, config.width), dtype)
    step, _ = _begin(config, jnp.zeros((1, 1), jnp.int32), None, None)
    facts = tuple(column[0] for column in layer_facts(config))
    one = lambda key: block.init(key, x, step, {}, facts, None)["params"]
    params = {
      "embed": normal(keys[0], (config.vocab, config.width), dtype),
      "layers": jax.vmap(one)(jax.random.split(keys[1], config.layers)),
      "final_norm": final.init(keys[2], x)["params"],
    }
    if not config.tied:
      params["head"] = normal(keys[2], (config.width, config.vocab), dtype)
    return params

  def apply(
    params, tokens, positions, cache=None, adapters=None, mix=None, at=None
  ):
    x = jnp.take(params["embed"], tokens, axis=0, mode="clip")
    x = x * jnp.asarray(config.embed_scale, x.dtype)
    packed, gain = adapters or None, None
    if packed is not None:
      packed = packed if isinstance(packed, Packed) else pack(packed, x.dtype)
      gain = _gain(packed, mix, tokens.shape[0])
    step, cache = _begin(config, positions, cache, gain)
    store = None if cache is None else (cache.k, cache.v)
    x, store = _run_layers(block, params, x, step, packed, store)
    if cache is not None:
      cache = cache.replace(k=store[0], v=store[1])
    if at is not None:
      x = jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0]
    x = final.apply({"params": params["final_norm"]}, x)
    return _logits(config, params, x), cache

  return Decoder(config, init, apply)
