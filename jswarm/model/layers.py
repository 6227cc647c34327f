"""The parts of one transformer layer, as flax.linen modules used by the decoder.

A module holds no state: params come in through `apply`, and the layer's cache goes in
and out as `store`. What all layers of a call share travels in a `Step`.
"""

from functools import partial
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from jswarm.model.architecture import DecoderConfig, projection_shapes
from jswarm.model.attention import Spans, attend, attend_spans, rotate

_MOST = 1e18  # of a key or value: times any query it is far from the mask's 1e30
_FEW = 64  # rows of a product up to which packing the kernel outweighs it
_ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": partial(nn.gelu, approximate=True)}


class Step(NamedTuple):
  """What all layers of one call share."""

  cos: jax.Array  # [1 or 2, B, T, 1, h / 2]
  sin: jax.Array
  q_positions: jax.Array  # [B, T]
  k_positions: jax.Array  # [B, S]
  end: jax.Array | None  # slot of the first token; None without a cache
  gain: jax.Array | None  # [B, 1 or T, E * r] float32; None for grouped adapters
  owners: jax.Array | None = None  # int32 [n], expert of each block of B * T rows
  spans: Spans | None = None  # where the tokens are a pack of sequences


def _lift(vector, like):
  """vector[n] as [1, ..., n] with the rank of `like`."""
  return jnp.expand_dims(vector, tuple(range(like.ndim - 1)))


def each_linear(change, layers):
  """A tree of layers whose modules with a kernel are replaced by change(module)."""
  if not isinstance(layers, dict):
    return layers
  if "kernel" in layers:
    return change(layers)
  return {name: each_linear(change, part) for name, part in layers.items()}


def dot(x, kernel, axes="...d,dn->...n"):
  """x[..., D] @ kernel[D, n], or another einsum of the two, summed in float32."""
  product = partial(jnp.einsum, axes, preferred_element_type=jnp.float32)
  alone = x.size == x.shape[-1] and x.dtype == jnp.bfloat16
  if not alone or jax.default_backend() != "cpu":
    return product(x, kernel)
  # XLA on CPU takes ten times as long for one bfloat16 row as for two.
  return product(jax.lax.optimization_barrier(jnp.concatenate([x, x])), kernel)[:1]


def dot_turned(x, kernel):
  """x[..., D] @ kernel[n, D].T, summed in float32.

  XLA on CPU packs the right operand of a product anew in every call, which for few rows
  costs more than the product: there the kernel stands left, between barriers that keep
  the transposes out of the product.
  """
  rows = x.size // x.shape[-1]
  few = 1 < rows <= _FEW and kernel.dtype == jnp.float32
  if not few or jax.default_backend() != "cpu":
    return dot(x, kernel, "...d,nd->...n")
  columns = jax.lax.optimization_barrier(x.reshape(rows, -1).T)
  y = jax.lax.optimization_barrier(dot(kernel, columns))
  return y.T.reshape(*x.shape[:-1], -1)


def low_rank(x, factors, step):
  """x[B, T, D] through the row's own adapter: float32 [B, T, n].

  Factors side by side, A[D, E * r], are masked by `gain`; factors of each block of
  rows, A[n, D, r] (or of each expert, with `owners` [n]), are n small products.
  """
  a, b = factors["A"], factors["B"]
  if step.gain is not None:
    # Selected, not only multiplied: what another's huge factors make of this row may
    # be infinite, and nothing times that is NaN.
    low = jnp.where(step.gain == 0, 0.0, dot(x, a) * step.gain)
    return dot(low.astype(x.dtype), b)
  if step.owners is not None:
    a, b = a[step.owners], b[step.owners]
  blocks = x.reshape(a.shape[0], -1, x.shape[-1])
  product = partial(jnp.einsum, preferred_element_type=jnp.float32)
  low = product("gbd,gdr->gbr", blocks, a).astype(x.dtype)
  return product("gbr,grn->gbn", low, b).reshape(*x.shape[:-1], -1)


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
  """x @ kernel (* scale) (+ bias) (+ the row's own mixture of low-rank updates).

  The kernel is [D, n], or turned, `kernel_t` [n, D] (see `decoder.unstack`).
  With `axis` the input is split over the devices of that mesh axis, and what each of
  them computes is a part of the sum.
  """

  features: int
  bias: bool
  dtype: Any
  axis: str | None = None

  @nn.compact
  def __call__(self, x, lora, step):
    shape, fill = (x.shape[-1], self.features), nn.initializers.normal(0.02)
    turned = self.has_variable("params", "kernel_t")
    kernel = (
      self.get_variable("params", "kernel_t")
      if turned
      else self.param("kernel", fill, shape, self.dtype)
    )
    kernel = kernel.astype(x.dtype) if kernel.dtype == jnp.int8 else kernel
    y = dot_turned(x, kernel) if turned else dot(x, kernel)
    if self.has_variable("params", "scale"):  # of an int8 kernel, see `quantize`
      y *= _lift(self.get_variable("params", "scale"), y)
    if lora is not None:
      y += low_rank(x, lora, step)
    if self.axis is not None:
      y = jax.lax.psum(y, self.axis)
    if self.bias:
      fill = nn.initializers.zeros
      y += _lift(self.param("bias", fill, (self.features,), self.dtype), y)
    return y.astype(x.dtype)


class Attention(nn.Module):
  """Grouped-query attention that reads and writes its layer of the cache."""

  config: DecoderConfig
  dtype: Any
  axis: str | None = None

  @nn.compact
  def __call__(self, x, step, lora, facts, store):
    c, (layer, window, base) = self.config, facts
    use = lambda name, y, bias: Linear(
      projection_shapes(c)[name][1],
      bias,
      self.dtype,
      self.axis if name == "o" else None,
      name=name,
    )(y, lora.get(name), step)
    q, k, v = (
      use(name, x, c.qkv_bias).reshape(*x.shape[:2], -1, c.head_dim) for name in "qkv"
    )
    if c.qk_norm:
      q = RMSNorm(c, self.dtype, name="q_norm")(q)
      k = RMSNorm(c, self.dtype, name="k_norm")(k)
    cos, sin = step.cos[base], step.sin[base]
    q = rotate(q, cos, sin)
    k, v = (_bounded(x).swapaxes(1, 2) for x in (rotate(k, cos, sin), v))
    if store is not None:
      store = tuple(_write(s, y, layer, step.end) for s, y in zip(store, (k, v)))
      k, v = (s if s.ndim == 4 else s[layer] for s in store)
    if step.spans is not None:
      y = attend_spans(c, q, k, v, step.spans, window)
    else:
      y = attend(c, q, k, v, step.q_positions, step.k_positions, window)
    return use("o", y.astype(x.dtype), c.o_bias), store


def _bounded(x):
  """Zeros for what no sane expert says: sequences that lie beside each other do not see
  each other's keys and values because of a mask, which NaN and infinity pass."""
  return jnp.where(jnp.abs(x) < _MOST, x, jnp.zeros((), x.dtype))


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
  axis: str | None = None

  @nn.compact
  def __call__(self, x, step, lora):
    shapes = projection_shapes(self.config)
    use = lambda name, y: Linear(
      shapes[name][1],
      False,
      self.dtype,
      self.axis if name == "down" else None,
      name=name,
    )(y, lora.get(name), step)
    act = _ACTIVATIONS[self.config.activation]
    return use("down", act(use("gate", x)) * use("up", x))


class Block(nn.Module):
  """One pre-norm layer; Gemma 2 and 3 also norm what each branch adds."""

  config: DecoderConfig
  dtype: Any
  axis: str | None = None

  @nn.compact
  def __call__(self, x, step, lora, facts, store):
    norm = lambda name: RMSNorm(self.config, self.dtype, name=name)
    post = norm if self.config.post_norms else lambda name: lambda y: y
    attention = Attention(self.config, self.dtype, self.axis, name="attn")
    y, store = attention(norm("attn_norm")(x), step, lora, facts, store)
    x = x + post("post_attn_norm")(y)
    mlp = Mlp(self.config, self.dtype, self.axis, name="mlp")
    y = mlp(norm("mlp_norm")(x), step, lora)
    return x + post("post_mlp_norm")(y), store
