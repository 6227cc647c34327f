"""The language model: tokens[B, T] -> logits[B, T, V], with an explicit KV cache.

One decoder serves every family of `architecture.DecoderConfig`: what differs between
families is data, and what differs between the layers of one model (window, RoPE base)
is an array with a layer axis. Layers are stacked `[L, ...]` and scanned; `unstack`
makes them a Python loop, equal in every logit and faster on CPU.

Many experts that share a base are one batch: see `lora.pack`.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.model.architecture import DecoderConfig, layer_facts, rope_frequencies
from jswarm.model.attention import rope_angles, softcap
from jswarm.model.layers import Block, RMSNorm, Step, dot, dot_turned
from jswarm.model.lora import Grouped as Grouped
from jswarm.model.lora import Packed as Packed
from jswarm.model.lora import by_layer, gain
from jswarm.model.lora import merge as merge
from jswarm.model.lora import pack as pack


class Cache(struct.PyTreeNode):
  """Keys and values of the tokens so far; all rows write at the same slots.

  k and v may also be lists of L arrays [B, K, S, h] (`empty_cache(unstacked=True)`,
  for `unstack`ed params), which spares the CPU a copy of each layer's slice.
  """

  k: jax.Array | list[jax.Array]  # [L, B, K, S, h]
  v: jax.Array | list[jax.Array]  # [L, B, K, S, h]
  positions: jax.Array  # [B, S] int32, -1 = empty
  end: jax.Array  # int32 scalar, next slot


class _ApplyFn(Protocol):
  def __call__(
    self,
    params,
    tokens,
    positions,
    cache=None,
    adapters=None,
    mix=None,
    at=None,
    where=None,
  ) -> tuple[jax.Array, Any]: ...  # logits, and the cache that was given, moved on


class Decoder(NamedTuple):
  """A model as pure functions; see `make_decoder`."""

  config: DecoderConfig
  init: Any  # init(key) -> params
  apply: _ApplyFn
  hidden: _ApplyFn  # the same up to the head: float32 states instead of logits
  head: Any  # head(params, states [..., D]) -> float32 logits [..., V]
  # `apply` in three, for callers that make a program of each:
  enter: (
    Any  # (embed, tokens, positions, cache, adapters, mix, where) -> (x, step, cache)
  )
  run: Any  # (layers, x, step, adapters, store, together=0) -> (x, store)
  leave: Any  # (params without layers, x, at) -> logits


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def empty_cache(
  config: DecoderConfig, batch: int, slots: int, dtype, unstacked: bool = False
) -> Cache:
  """A cache for `batch` rows of at most `slots` tokens, padding included.

  `unstacked` gives one array a layer, for params that went through `unstack`. On CPU
  it is float32 whatever `dtype` says: XLA there rewrites all of a bfloat16 cache at
  every step (1.6x slower steps at 32 rows), and attention wants float32 anyway.
  """
  dtype = jnp.float32 if jax.default_backend() == "cpu" else dtype
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


def unstack(params, give_away: bool = False):
  """The same params laid out for a CPU: `layers` a list of L trees, kernels turned.

  Equal logits. Slicing stacked weights copies them in each step there, so apply loops
  over the list in Python; and kernels [n, D] make small batches faster
  (`layers.dot_turned`). Compile time grows with L. Call it once, outside jit.

  `give_away`: leaves are taken out of `params["layers"]`, which is empty afterwards, so
  that no more than one of them is in memory twice.
  """
  if is_unstacked(params):
    return params
  count = params["layers"]["attn_norm"]["scale"].shape[0]
  layers: list[dict] = [{} for _ in range(count)]
  _take_apart(params["layers"], layers, give_away)
  return {**params, "layers": layers}


def _take_apart(stacked, layers, give_away):
  """Leaves [L, ...] of a tree, one after the other, as leaves of L trees; a kernel
  [D, n] as kernel_t [n, D]."""
  for name in list(stacked):
    part = stacked.pop(name) if give_away else stacked[name]
    if isinstance(part, dict):
      inside = [each.setdefault(name, {}) for each in layers]
      _take_apart(part, inside, give_away)
      continue
    turned = name == "kernel"
    for i, each in enumerate(layers):
      each["kernel_t" if turned else name] = _entry(part, i, turned)
    jax.block_until_ready(layers)  # else the next leaf is read while this one is held


def _entry(stacked, i, turned):
  """Layer i of a stack, copied by the host, which needs no program for its shape."""
  entry = np.asarray(stacked)[i]
  entry = entry.swapaxes(-1, -2) if turned else entry
  where = stacked.sharding if isinstance(stacked, jax.Array) else None
  return jax.device_put(np.array(entry, order="C"), where)


@partial(jax.jit, static_argnums=0)
def _begin(config, positions, cache):
  """The `Step` of this call and the cache with this call's positions written."""
  cos, sin = rope_angles(positions, jnp.asarray(rope_frequencies(config)))
  if cache is None:
    return Step(cos, sin, positions, positions, None, None), None
  end = cache.end
  k_positions = jax.lax.dynamic_update_slice(cache.positions, positions, (0, end))
  cache = cache.replace(positions=k_positions, end=end + positions.shape[1])
  return Step(cos, sin, positions, k_positions, end, None), cache


@partial(jax.jit, static_argnums=0)
def _layer(block, weights, x, step, lora, facts, store):
  """One layer; a program of its own where `apply` runs outside of jit."""
  return block.apply({"params": weights}, x, step, lora, facts, store)


@partial(jax.jit, static_argnums=0, donate_argnums=6)
def _some_layers(block, weights, x, step, lora, facts, stores):
  """Several layers in one program, each with its own cache, which is given away."""
  for i, store in enumerate(stores):
    each = (weights[i], x, step, lora[i], facts[i], store)
    x, stores[i] = _layer(block, *each)
  return x, stores


def _scan_layers(block, layers, x, step, lora, store):
  """Stacked layers; the whole cache is carried, so that writes are in place."""

  def one(carry, xs):
    weights, lora, facts = xs
    return block.apply({"params": weights}, carry[0], step, lora, facts, carry[1]), None

  return jax.lax.scan(one, (x, store), (layers, lora, layer_facts(block.config)))[0]


def _loop_in_groups(block, layers, x, step, lora, store, together):
  """As `_loop_layers`, outside of jit: `together` layers a program, stores donated."""
  facts = list(zip(*layer_facts(block.config)))
  stores = list(zip(*store))
  for first in range(0, len(layers), together):
    part = slice(first, first + together)
    x, stores[part] = _some_layers(
      block, layers[part], x, step, lora[part], facts[part], stores[part]
    )
  return x, tuple(map(list, zip(*stores)))


def _loop_layers(block, layers, x, step, lora, store):
  """A list of layers; each with its own cache where that is a list too."""
  split = store is not None and isinstance(store[0], list)
  own = list(zip(*store)) if split else []
  for i, weights in enumerate(layers):
    facts = tuple(column[i] for column in layer_facts(block.config))
    args = (block, weights, x, step, lora[i], facts)
    if split:
      x, own[i] = _layer(*args, own[i])
    else:
      x, store = _layer(*args, store)
  return x, (tuple(map(list, zip(*own))) if split else store)


def _run_layers(block, layers, x, step, packed, store, together=0):
  lora = packed.layers if packed else {}
  if isinstance(layers, list):
    if not isinstance(lora, list):
      lora = by_layer(lora, len(layers)) if lora else [{}] * len(layers)
    if together:
      return _loop_in_groups(block, layers, x, step, lora, store, together)
    return _loop_layers(block, layers, x, step, lora, store)
  if isinstance(lora, list) or (store is not None and isinstance(store[0], list)):
    raise ValueError("the cache or the adapters are unstacked but params are stacked")
  return _scan_layers(block, layers, x, step, lora, store)


@partial(jax.jit, static_argnums=0)
def _embed(config, table, tokens):
  x = jnp.take(table, tokens, axis=0, mode="clip")
  return x * jnp.asarray(config.embed_scale, x.dtype)


def _share(matrix, index, count, axis):
  """The part of `matrix` that device `index` of `count` works on."""
  size = matrix.shape[axis] // count
  return jax.lax.dynamic_slice_in_dim(matrix, index * size, size, axis)


def _normed(final, scale, x, at):
  """The states x[B, T, D] after the final norm, all or just those at `at`."""
  if at is not None:
    index = at[:, None] if at.ndim == 1 else at
    x = jnp.take_along_axis(x, index[:, :, None], axis=1)
    x = x[:, 0] if at.ndim == 1 else x
  return final.apply({"params": scale}, x)


def _logits(config, mesh_axis, params, x):
  """States [..., D], in the dtype of the params, -> float32 logits [..., V]."""
  matrix, axis = params["embed" if config.tied else "head"], 0 if config.tied else 1
  count = jax.lax.axis_size(mesh_axis) if mesh_axis else 1
  split = count > 1 and config.vocab % count == 0
  if split:
    matrix = _share(matrix, jax.lax.axis_index(mesh_axis), count, axis)
  y = dot_turned(x, matrix) if config.tied else dot(x, matrix)
  if split:
    y = jax.lax.all_gather(y, mesh_axis, axis=y.ndim - 1, tiled=True)
  return softcap(y, config.final_softcap)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _finish(config, final, mesh_axis, params, x, at):
  """x[B, T, D] -> float32 logits [B, T, V], or just those at `at`."""
  return _logits(config, mesh_axis, params, _normed(final, params["final_norm"], x, at))


@partial(jax.jit, static_argnums=0)
def _finish_hidden(final, scale, x, at):
  """x[B, T, D] -> float32 states after the final norm, or just those at `at`."""
  return _normed(final, scale, x, at).astype(jnp.float32)


@partial(jax.jit, static_argnums=(0, 1))
def _finish_head(config, mesh_axis, params, x):
  return _logits(config, mesh_axis, params, x.astype(params["embed"].dtype))


@lru_cache(maxsize=64)  # one config, one pair of functions: jit caches hit
def make_decoder(
  config: DecoderConfig, dtype=jnp.float32, axis: str | None = None
) -> Decoder:
  """The decoder of `config`; `dtype` is that of freshly initialised params.

  With `axis`, a mesh axis, heads and mlp are split over its devices: `config` is then
  what one device holds (`devices.tensor_config`), and the whole is their sum.

  `apply(params, tokens, positions, cache=None, adapters=None, mix=None, at=None,
  where=None)`:
    tokens: int32 [B, T].
    positions: int32 [B, T], -1 for padding (left, right or anywhere).
    cache: None for a plain causal forward, else T tokens are written at slots
      [end, end + T); writing past the last slot is the caller's error.
    adapters: {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}, scale folded in B,
      the same `pack`ed, or `group`ed, for B * T rows in blocks of one expert.
    mix: float [B, E]; row b runs with the base plus sum_e mix[b, e] * A_e B_e; or
      [B, T, E], for every token its own. Grouped adapters take none.
    at: int32 [B], token index whose logits are wanted, or [B, R]; None for all.
    where: `attention.Spans`, if the row (B = 1) is a pack of sequences.
  Returns (float32 logits [B, T, V], [B, V] or [B, R, V], cache). Activations have the
  dtype of the params; norms, softmax and logits are float32.

  `hidden` takes the same and returns (float32 states after the final norm, with D in
  the place of V, cache); `head(params, states)` makes logits of them, so that who
  needs but one number of each V can ask for a few positions at a time.

  Called outside of jit with `unstack`ed params, it runs one small program a layer,
  compiled once for all layers: for prompts, of which many shapes occur.
  """
  block = Block(config, dtype, axis)
  final = RMSNorm(config, dtype)

  def init(key):
    keys = jax.random.split(key, 3)
    normal = nn.initializers.normal(0.02)
    x = jnp.zeros((1, 1, config.width), dtype)
    step, _ = _begin(config, jnp.zeros((1, 1), jnp.int32), None)
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

  def whole(params, tokens, positions, cache, adapters, mix, where):
    """Up to the last layer: (x, cache)."""
    packed = adapters or None
    if packed is not None and not isinstance(packed, (Packed, Grouped)):
      packed = pack(packed, params["embed"].dtype)
    embed = params["embed"]
    x, step, cache = enter(embed, tokens, positions, cache, packed, mix, where)
    store = None if cache is None else (cache.k, cache.v)
    x, store = run(params["layers"], x, step, packed, store)
    if cache is not None:
      cache = cache.replace(k=store[0], v=store[1])
    return x, cache

  def enter(embed, tokens, positions, cache, packed, mix, where):
    """Of `packed` all but its layers."""
    x = _embed(config, embed, tokens)
    step, cache = _begin(config, positions, cache)
    if isinstance(packed, Grouped):
      step = step._replace(owners=packed.owners)
    elif packed is not None:
      step = step._replace(gain=gain(packed, mix, tokens))
    return x, step._replace(spans=where), cache

  def apply(
    params, tokens, positions, cache=None, adapters=None, mix=None, at=None, where=None
  ):
    x, cache = whole(params, tokens, positions, cache, adapters, mix, where)
    return leave(without_layers(params), x, at), cache

  def hidden(
    params, tokens, positions, cache=None, adapters=None, mix=None, at=None, where=None
  ):
    x, cache = whole(params, tokens, positions, cache, adapters, mix, where)
    return _finish_hidden(final, params["final_norm"], x, at), cache

  def head(params, states):
    return _finish_head(config, axis, without_layers(params), states)

  run = partial(_run_layers, block)
  leave = partial(_finish, config, final, axis)
  return Decoder(config, init, apply, hidden, head, enter, run, leave)


def without_layers(params):
  """What stands before and behind the layers."""
  return {name: leaf for name, leaf in params.items() if name != "layers"}
