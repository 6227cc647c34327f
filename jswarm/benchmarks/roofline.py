"""How fast a model could answer here: operations and bytes over measured ceilings.

Counted from the config, for B rows, a prompt of T tokens and M new ones, without
sliding windows. P is the number of weights in the linear maps of all layers, b the
bytes of a number.

  prefill  operations  B T (2 P) + 4 L H h B T (T + 1) / 2 + 2 B D V
           bytes       b (P + D V) + 2 L K h b B T     (weights once, cache written)
  decode   operations  sum over c of B (2 P + 2 D V + 4 L H h c)
           bytes       sum over c of b (P + D V) + 2 L K h b B c  (weights, cache read)

with the context c = T + 1 ... T + M - 1: the first new token comes from the prefill.
No implementation can take less than max(operations / ceiling, bytes / bandwidth).
"""

from collections.abc import Callable
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jswarm.model.architecture import DecoderConfig, projection_shapes

BYTES = {"float32": 4, "bfloat16": 2}
_SIZES = (512, 1024, 2048, 4096, 8192)
_LONG = 0.2  # seconds of a product, from which no larger one is tried


class Cost(NamedTuple):
  """The least work of a phase."""

  operations: float
  bytes: float


class Ceilings(NamedTuple):
  """What this device reached: operations a second by dtype, bytes a second."""

  operations: dict[str, float]
  read: float
  copy: float


def linear_weights(config: DecoderConfig) -> int:
  """P: weights of the linear maps of all layers, without embedding and head."""
  return config.layers * sum(a * b for a, b in projection_shapes(config).values())


def prefill(config: DecoderConfig, width: int, batch: int, prompt: int) -> Cost:
  """`width` is b, the bytes of a number."""
  head = config.width * config.vocab
  pairs = batch * prompt * (prompt + 1) / 2
  operations = (
    2 * batch * prompt * linear_weights(config)
    + 2 * batch * head
    + _pair_operations(config) * pairs
  )
  moved = width * (linear_weights(config) + head)
  return Cost(operations, moved + _cache_bytes(config, width) * batch * prompt)


def decode(
  config: DecoderConfig, width: int, batch: int, prompt: int, new: int
) -> Cost:
  """The `new - 1` steps after the prefill."""
  weights = linear_weights(config) + config.width * config.vocab
  contexts = sum(range(prompt + 1, prompt + new))
  operations = (
    2 * batch * (new - 1) * weights + _pair_operations(config) * batch * contexts
  )
  moved = width * weights * (new - 1)
  return Cost(operations, moved + _cache_bytes(config, width) * batch * contexts)


def _pair_operations(config):
  """Of one query with one key: scores and weighted sum, all layers and heads."""
  return 4 * config.layers * config.heads * config.head_dim


def _cache_bytes(config, width):
  """Keys and values of one token."""
  return 2 * config.layers * config.kv_heads * config.head_dim * width


def fraction(cost: Cost, seconds: float, dtype: str, ceilings: Ceilings) -> float:
  """The least possible time over the measured one."""
  least = max(
    cost.operations / ceilings.operations[dtype],
    cost.bytes / max(ceilings.read, ceilings.copy),
  )
  return least / seconds


def measure(dtypes: tuple[str, ...], small: bool = False) -> Ceilings:
  """The best of several tries, by XLA and, where there is one, by torch."""
  x = jnp.ones(2**16 if small else 2**26, jnp.float32)
  matrix, vector = x.reshape(-1, 1024), jnp.ones(1024, jnp.float32)
  total, product = jax.jit(jnp.sum), jax.jit(jnp.dot)
  double = jax.jit(lambda x: x * 2)
  read = min(_best(lambda: total(x)), _best(lambda: product(matrix, vector)))
  copy = _best(lambda: double(x))
  return Ceilings(
    {dtype: _operations(dtype, small) for dtype in dtypes},
    x.nbytes / read,
    2 * x.nbytes / copy,
  )


def _operations(dtype, small):
  """The highest rate over square products of growing size, by XLA or by torch."""
  makers = [_xla_product, *([_torch_product] if _has_torch() else [])]
  return max(_growing(make, dtype, small) for make in makers)


def _growing(make, dtype, small):
  best = 0.0
  for size in (128,) if small else _SIZES:
    seconds = _best(make(dtype, size))
    best = max(best, 2 * size**3 / seconds)
    if seconds > _LONG:  # slow dtypes would take minutes at the next sizes
      break
  return best


def _xla_product(dtype, size):
  ones = jnp.ones((size, size), dtype)
  product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
  return lambda: product(ones, ones)


def _has_torch():
  """Is there a torch for the kind of device that jax has here?"""
  try:
    import torch
  except ImportError:
    return False
  return jax.default_backend() == "cpu" or torch.cuda.is_available()


def _torch_product(dtype, size):
  import torch

  on_gpu = jax.default_backend() != "cpu"
  ones = torch.ones(
    (size, size), dtype=getattr(torch, dtype), device="cuda" if on_gpu else "cpu"
  )
  wait = torch.cuda.synchronize if on_gpu else lambda: None
  return lambda: (torch.matmul(ones, ones), wait())[1]


def _best(run: Callable[[], object], tries: int = 10, seconds: float = 3.0) -> float:
  """The shortest of at most `tries` runs, begun within so many seconds."""
  jax.block_until_ready(run())
  found, began = [], time.perf_counter()
  while not found or (len(found) < tries and time.perf_counter() - began < seconds):
    start = time.perf_counter()
    jax.block_until_ready(run())
    found.append(time.perf_counter() - start)
  return min(found)
