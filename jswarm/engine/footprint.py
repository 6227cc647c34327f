"""Bytes that a pool takes when it is served: arithmetic, before anything is loaded.

    shapes of the groups, longest prompt, rows -> Bytes

The same rules say how many lanes the engine opens, so that it takes what was said.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jswarm.core.types import PyTree
from jswarm.engine import packing, schedule
from jswarm.model.architecture import DecoderConfig
from jswarm.model.decoder import make_decoder

# Positions, velocities, own bests, the best, the initial, those that are moved to, and
# what is laid out to be served.
COPIES = 7
_CPU_CACHE = 1 << 30  # bytes of lanes that are worth having on a CPU, at least
_MOST_LANES = {"cpu": 64}
_PROGRAM = {"cpu": 600 << 20}  # libraries and compiled programs of a process


class Bytes(NamedTuple):
  """What is held at the peak.

  Attributes:
    weights: of bases and whole models, as they are served.
    particles: of what moves, with the copies that a swarm keeps.
    merged: of one expert that is added into its base, beside it.
    cache: of lanes and of one pack, at most.
    loading: one leaf on its way to the device.
    program: libraries and compiled programs.
  """

  weights: int
  particles: int
  merged: int
  cache: int
  loading: int
  program: int

  @property
  def total(self) -> int:
    """At the peak: what is loaded leaf by leaf is there before any cache is."""
    steady = self.particles + self.merged + self.cache
    return self.program + self.weights + max(steady, self.loading)


class Shape(NamedTuple):
  """One group of a pool, not loaded.

  Attributes:
    kind: "lora" or "full". experts: E.
    config: of the base. dtype: it is served in.
    adapters: shapes of the stacked factors [E, L, ...], or None.
    dense, int8: as in `Settings`.
  """

  kind: str
  experts: int
  config: DecoderConfig
  dtype: np.dtype
  adapters: PyTree | None = None
  dense: bool = False
  int8: bool = False


def params_shapes(config: DecoderConfig, dtype) -> PyTree:
  """The params of a base, as shapes."""
  return jax.eval_shape(make_decoder(config, dtype).init, jax.random.key(0))


def size(tree: PyTree) -> int:
  """Bytes of all leaves."""
  return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def token_bytes(config: DecoderConfig, platform: str) -> int:
  """Keys and values of one token in all layers; on a CPU they are float32."""
  width = 4 if platform == "cpu" else 2
  return 2 * config.layers * config.kv_heads * config.head_dim * width


def most_lanes(platform: str) -> int:
  return _MOST_LANES.get(platform, schedule.LANES[-1])


def lanes_that_fit(
  config: DecoderConfig, slots: int, held: int, memory: int, platform: str
) -> int:
  """Lanes of `slots` tokens for which there is room; a number of `schedule`.

  On a CPU more lanes than the cores keep busy gain little: the cache is no larger than
  what the pool itself takes, or than 1 GiB.

  Args:
    held: bytes of base and particles. memory: that may be planned with, 0: unknown.
  """
  most, sizes = most_lanes(platform), schedule.LANES
  if not memory:
    return most_lanes("cpu")
  free = memory - 2 * held
  if platform == "cpu":
    free, sizes = min(free, max(held, _CPU_CACHE)), schedule.FINE_LANES
  lane = token_bytes(config, platform) * slots + 4 * config.vocab
  fitting = [n for n in sizes if n <= most and n * lane <= free]
  return fitting[-1] if fitting else sizes[0]


def of_group(
  shape: Shape, prompt: int, limit: int, rows: int, memory: int, platform: str
) -> Bytes:
  """What one group takes.

  Args:
    prompt: tokens of the longest prompt. limit: new tokens.
    rows: most lanes that are asked for: prompts of one call, or `engine.rows`.
    memory: see `lanes_that_fit`.
  """
  params = params_shapes(shape.config, shape.dtype)
  base, leaf = size(params), max(size(x) for x in jax.tree.leaves(params))
  particles = merged = 0
  weights = base
  if shape.kind == "lora":
    each = size(shape.adapters)
    particles = each + each // 7 if shape.dense else COPIES * each
    large = 2 * each // shape.experts * (4 // shape.dtype.itemsize) > 0.03 * base
    merged = _merged(shape, params) if large or shape.experts == 1 else 0
  elif shape.experts > 1:
    moved = shape.experts * base * 4 // shape.dtype.itemsize
    particles = COPIES * moved
  if shape.int8:
    kernels = size(params["layers"])
    weights += kernels // shape.dtype.itemsize - (
      kernels if shape.kind == "lora" else 0
    )
  held = weights + particles // COPIES
  ring = 8 if limit <= 8 else -(-limit // 16) * 16
  slots = packing.size_of(max(prompt, 1), 128) + ring
  lanes = min(rows, lanes_that_fit(shape.config, slots, held, memory, platform))
  token = token_bytes(shape.config, platform)
  cache = lanes * (token * slots + 4 * shape.config.vocab)
  pack = token * max(2048, prompt) + 3 * 2048 * 4 * shape.config.hidden
  return Bytes(
    weights, particles, merged, cache + pack, 2 * leaf, _PROGRAM.get(platform, 0)
  )


def _merged(shape: Shape, params: PyTree) -> int:
  """Kernels that an adapter changes, once more."""
  names = set(shape.adapters or ())
  layers = params["layers"]
  parts = (layers["attn"], layers["mlp"])
  return sum(size(part[n]["kernel"]) for part in parts for n in part if n in names)


def together(parts: Sequence[Bytes]) -> Bytes:
  """Several groups: all are there at once, but one serves and one loads at a time."""
  return Bytes(
    weights=sum(p.weights for p in parts),
    particles=sum(p.particles for p in parts),
    merged=max(p.merged for p in parts),
    cache=max(p.cache for p in parts),
    loading=max(p.loading for p in parts),
    program=max(p.program for p in parts),
  )


def told(need: Bytes) -> str:
  """Such as "about 1.2 GiB: weights 0.50, particles 0.01, ..."."""
  g = lambda count: f"{count / 2**30:.2f}"
  known = {name: g(value) for name, value in need._asdict().items()}
  parts = ", ".join(f"{name} {text}" for name, text in known.items() if text != "0.00")
  return f"about {g(need.total)} GiB at its peak ({parts})"
