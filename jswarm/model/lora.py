"""Low-rank experts on their way into the decoder, in one of three forms.

Many experts that share a base are one batch.

  masked   factors side by side along the rank; each row scales its low-rank
           activations by its own mixture: delta(x_b) = sum_e mix[b, e] (x_b A_e) B_e
           costs two products and no gather, but E times the work (`Packed`).
  grouped  rows lie in blocks of one expert; n small products (`Grouped`).
  merged   kernel += A B: one expert at a time, no extra work a token (`merge`).
"""

from functools import partial
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import PyTree
from jswarm.model.architecture import PROJECTIONS


@struct.dataclass
class Packed:
  """Adapters laid out for use: see `pack`."""

  layers: Any  # {"q": {"A": [L, D, E * r], "B": [L, E * r, n]}, ...} or a list of L
  experts: int = struct.field(pytree_node=False)
  rank: int = struct.field(pytree_node=False)


class Grouped(struct.PyTreeNode):
  """Adapters for batches whose rows lie in blocks of one expert: see `group`.

  Attributes:
    layers: {"q": {"A": [L, E, D, r], "B": [L, E, r, n]}, ...} or a list of L.
    owners: int32 [n], the expert of each of n equal blocks of rows; None where
      `layers` holds a block's own factors already (E is then n).
  """

  layers: Any
  owners: jax.Array | None = None


def group(adapters, dtype=jnp.float32, unstacked: bool = False) -> Grouped:
  """Adapters {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}, layer first."""
  cast = jax.tree.map(lambda x: x.astype(dtype), adapters)
  if not unstacked:
    return Grouped(jax.tree.map(lambda x: x.swapaxes(0, 1), cast))
  return Grouped(by_layer(cast, next(iter(adapters.values()))["A"].shape[1], axis=1))


def gather(grouped: Grouped) -> Grouped:
  """Each block's own factors, for a loop that would else gather at every step."""
  if grouped.owners is None:
    return grouped
  if isinstance(grouped.layers, list):
    return Grouped([_own_factors(x, grouped.owners, 0) for x in grouped.layers])
  return Grouped(_own_factors(grouped.layers, grouped.owners, 1))


@partial(jax.jit, static_argnums=2)
def _own_factors(layer, owners, axis):
  """Outside of jit, one program for all layers."""
  return jax.tree.map(lambda x: jnp.take(x, owners, axis=axis), layer)


def by_layer(tree, count, axis=0):
  """A list of `count` trees, one for each entry of the axis."""
  return [layer(tree, i, axis) for i in range(count)]


@partial(jax.jit, static_argnums=2)
def layer(tree, i, axis=0):
  """Entry i of the axis. One program for all i: eager slices are a program each."""
  take = lambda x: jax.lax.dynamic_index_in_dim(x, i, axis, keepdims=False)
  return jax.tree.map(take, tree)


def merge(params, adapter):
  """Params with A @ B added to the kernels, for one adapter {"q": {"A": [L, D, r],
  "B": [L, r, n]}, ...}."""
  layers = params["layers"]
  if isinstance(layers, list):
    each = by_layer(adapter, len(layers))
    return {**params, "layers": [_merged(*pair) for pair in zip(layers, each)]}
  return {**params, "layers": _merged(layers, adapter)}


def _merged(weights, adapter):
  weights = dict(weights)
  for name, factors in adapter.items():
    part = dict(weights[PROJECTIONS[name]])
    delta = jnp.matmul(factors["A"], factors["B"], precision="highest")
    turned = "kernel_t" in part[name]
    key, delta = ("kernel_t", delta.swapaxes(-1, -2)) if turned else ("kernel", delta)
    kernel = part[name][key]
    part[name] = {**part[name], key: (kernel + delta).astype(kernel.dtype)}
    weights[PROJECTIONS[name]] = part
  return weights


def likeness(particles: PyTree) -> float:
  """Mean cosine between the A of any two experts; 1 for an expert alone.

  Near 1 where all were tuned from one A, near 0 where each drew its own: factors of the
  latter cannot be averaged one by one, only their products can (arXiv 2506.05713).

  Args:
    particles: factors with leaves A [E, L, D, r], padded to one rank by zeros.
  """
  cosines = []
  for factors in particles.values():
    rows = np.asarray(factors["A"], np.float32)
    rows = rows.reshape(len(rows), -1)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines.append((rows @ rows.T)[np.triu_indices(len(rows), 1)])
  known = np.concatenate(cosines) if cosines else np.zeros(0)
  return float(known.mean()) if known.size else 1.0


def dense_start(num_experts: int) -> PyTree:
  """The start {"mix": [E, E]}, the identity, of a swarm in the space of dense deltas.

  Every move is a linear combination of differences of particles, so a swarm of dense
  deltas dW_e = A_e B_e never leaves their span: particle i is sum_e mix[i, e] dW_e,
  and PSO on the mixing coefficients is PSO on the dense deltas, exactly, without
  storing one. Moving the factors instead (as published) moves A and B separately,
  and the product gains cross terms A_i B_j.
  """
  return {"mix": np.eye(num_experts, dtype=np.float32)}


def dense_adapter(particles: PyTree, mix: np.ndarray) -> PyTree:
  """The adapter whose product is sum_e mix[e] * A_e B_e, of rank E * r.

  Args:
    particles: factors with leaves A [E, L, D, r] and B [E, L, r, n].
    mix: [E].
  """

  def side_by_side(factors):
    a, b = np.asarray(factors["A"]), np.asarray(factors["B"])
    b = b * np.asarray(mix)[:, None, None, None]
    return {
      "A": np.concatenate(list(a), axis=-1),
      "B": np.concatenate(list(b), axis=-2),
    }

  return {name: side_by_side(factors) for name, factors in particles.items()}


def dense_adapters(particles: PyTree, mix: np.ndarray) -> PyTree:
  """`dense_adapter` of each row of `mix` [E, E]: leaves [E, L, ...], of rank E * r."""
  each = [dense_adapter(particles, row) for row in mix]
  return jax.tree.map(lambda *x: np.stack(x), *each)


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
    # Side by side in one product: what is no number would reach all, times zero too.
    a, b = (_numbers(factors[side].astype(dtype)) for side in "AB")
    a, b = a.transpose(1, 2, 0, 3), b.transpose(1, 0, 2, 3)
    layers[name] = {
      "A": a.reshape(*a.shape[:2], experts * rank),
      "B": b.reshape(count, experts * rank, -1),
    }
  return Packed(by_layer(layers, count) if unstacked else layers, experts, rank)


@jax.jit
def _numbers(x):
  """Zeros for what is not finite."""
  return jnp.where(jnp.isfinite(x), x, 0)


def gain(packed, mix, tokens):
  """mix[B, E] or [B, T, E] repeated over the ranks: float32 [B, 1 or T, E * r]."""
  (batch, length), experts = tokens.shape, packed.experts
  allowed = ((batch, experts), (batch, length, experts))
  if mix is None or mix.shape not in allowed:
    raise ValueError(
      f"mix is {None if mix is None else mix.shape}; {batch} rows and adapters of "
      f"{experts} experts need a mix of shape {allowed[0]} or, one a token, "
      f"{allowed[1]} (one-hot rows to pick one expert)"
    )
  mix = mix if mix.ndim == 3 else mix[:, None]
  return jnp.repeat(mix.astype(jnp.float32), packed.rank, axis=-1)
