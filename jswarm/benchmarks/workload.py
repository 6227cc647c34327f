"""What the suites work on: a model, pools on it, prompts of exact lengths.

model folder, or a toy -> Base -> Pool -> Experts
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Experts, PyTree
from jswarm.engine import engine
from jswarm.formats import hf_model
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.model import lora
from jswarm.model.architecture import PROJECTIONS, DecoderConfig, projection_shapes
from jswarm.model.decoder import make_decoder
from jswarm.pool import load as load_lib
from jswarm.pool import specs as specs_lib
from jswarm.tasks.synthetic import stories as stories_lib
from jswarm.wiring import config as config_lib

TOY = DecoderConfig(
  vocab=259,
  width=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  hidden=48,
  max_positions=4096,
)
GEMMA_7B = DecoderConfig(
  vocab=256000,
  width=3072,
  layers=28,
  heads=16,
  kv_heads=16,
  head_dim=256,
  hidden=24576,
  family="gemma",
  max_positions=8192,
  embed_scale=3072.0**0.5,
  norm_offset=1.0,
  activation="gelu_tanh",
)
RANDOM, SHAPES = "random:", {"gemma_7b": GEMMA_7B}
_PERIOD = 1_000_003  # a prime
ALL_PROJECTIONS = tuple(PROJECTIONS)


class Base(NamedTuple):
  """A model; its pools know no stop tokens unless told, so that work is equal."""

  config: DecoderConfig
  tokenizer: Any
  params: PyTree  # layers stacked


def load(model: str, dtype: str, small: bool) -> Base:
  """The model in a folder, the toy, or "random:gemma_7b": random weights of that shape,
  with the byte tokenizer."""
  if small:
    return Base(TOY, tokenizer_lib.ByteTokenizer(), _toy_params(dtype))
  if is_random(model):
    name = model.removeprefix(RANDOM)
    if name not in SHAPES:
      raise ValueError(f"--model={model}: random are {', '.join(SHAPES)}.")
    init = make_decoder(SHAPES[name], config_lib.DTYPES[dtype]).init
    return Base(
      SHAPES[name], tokenizer_lib.ByteTokenizer(), jax.jit(init)(jax.random.key(0))
    )
  config, params = hf_model.load_base(model, config_lib.DTYPES[dtype])
  return Base(config, tokenizer_lib.load_tokenizer(model), params)


@functools.cache
def _toy_params(dtype):
  # Larger than usual initial weights, so that replies differ.
  draw = jax.jit(lambda key: jax.tree.map(lambda x: 4 * x, make_decoder(TOY).init(key)))
  return jax.tree.map(
    lambda x: x.astype(config_lib.DTYPES[dtype]), draw(jax.random.key(0))
  )


def is_random(model: str) -> bool:
  return model.startswith(RANDOM)


def export(base: Base, folder: str) -> str:
  """A folder that transformers loads: the same weights, without a stop token."""
  hf_model.save_base(folder, base.config, base.params)
  return folder


def adapters(
  config: DecoderConfig, count: int, rank: int, names: Sequence[str], seed: int = 1
) -> PyTree:
  """Random experts {"q": {"A": [E, L, D, r], "B": [E, L, r, n]}, ...}, float32.

  Some numbers over and over, with a period that fits no axis: to draw all of them would
  be a good part of a start.
  """
  shapes = projection_shapes(config)
  drawn = np.random.default_rng(seed).standard_normal(_PERIOD, np.float32)
  draw = lambda scale, *shape: jnp.asarray(np.resize(drawn * np.float32(scale), shape))
  return {
    name: {
      "A": draw(shapes[name][0] ** -0.5, count, config.layers, shapes[name][0], rank),
      "B": draw(0.03, count, config.layers, rank, shapes[name][1]),
    }
    for name in sorted(names)
  }


def lora_pool(base: Base, particles: PyTree) -> load_lib.Pool:
  """Experts on one base."""
  count = len(jax.tree.leaves(particles)[0])
  specs = tuple(
    specs_lib.Spec(name=f"expert{i}", base="base", adapter=f"{i}") for i in range(count)
  )
  group = load_lib.Group(
    "lora",
    specs,
    tuple(range(count)),
    base.config,
    base.tokenizer,
    (),
    base.params,
    particles,
  )
  return load_lib.Pool(tuple(spec.name for spec in specs), (group,))


def full_pool(
  base: Base, params: PyTree | None = None, stops: tuple[int, ...] = ()
) -> load_lib.Pool:
  """The base alone, or another model of its kind, as the only expert."""
  spec = specs_lib.Spec(name="alone", base="base")
  particles = jax.tree.map(lambda x: x[None], base.params if params is None else params)
  group = load_lib.Group(
    "full", (spec,), (0,), base.config, base.tokenizer, stops, None, particles
  )
  return load_lib.Pool((spec.name,), (group,))


def merged(base: Base, particles: PyTree, expert: int) -> PyTree:
  """The params of one expert with its adapter merged into them."""
  return lora.merge(base.params, jax.tree.map(lambda x: x[expert], particles))


def serve(pool: load_lib.Pool, changes: Mapping[str, Any]) -> Experts:
  """The pool behind the engine; `changes` as {"engine.rows": 8, ...}."""
  return engine.make_experts(pool, config_lib.resolve_default(changes).engine)


def counted(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
  """(what `run` gives, what the engine counted meanwhile)."""
  engine.reset_statistics()
  return run(), engine.statistics()


def prompts(base: Base, lengths: Sequence[int], seed: int = 0) -> list[str]:
  """Different texts of exactly so many tokens, as a request without chat has."""
  stories = stories_lib.questions("train", 4 * len(lengths), seed, ("arithmetic",))
  told = " ".join(story["question"] for story in stories)
  found: dict[str, int] = {}
  for turn, length in enumerate(lengths):
    found[_piece(base.tokenizer, told, 37 * turn, length, found)] = length
  return list(found)


def _piece(tokenizer, told, start, length, taken):
  """A piece of `told` from about `start` on, `length` tokens long and not `taken`."""
  added = len(tokenizer_lib.encode(tokenizer, [""])[0])
  for begin in range(start, start + len(told)):
    rest = told[begin % len(told) :] + told
    piece = tokenizer_lib.clip(tokenizer, rest[: 8 * length], length - added)
    if (
      piece not in taken and len(tokenizer_lib.encode(tokenizer, [piece])[0]) == length
    ):
      return piece
  raise ValueError(
    f"no text of exactly {length} tokens was found; choose another length or model."
  )
