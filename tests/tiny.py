"""Tiny random models with the byte tokenizer, for tests of the model wing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.formats import tokenizer
from jswarm.model.architecture import DecoderConfig, projection_shapes
from jswarm.model.decoder import make_decoder
from jswarm.pool.load import Group, Pool
from jswarm.pool.specs import Spec
from jswarm.wiring import config as config_lib

CONFIG = DecoderConfig(
  vocab=259,
  width=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  hidden=48,
  max_positions=256,
)


def base(seed=0, config=CONFIG):
  # Larger than usual initial weights, so that replies differ between experts.
  return jax.tree.map(lambda x: x * 4, make_decoder(config).init(jax.random.key(seed)))


def adapters(num, rank=2, config=CONFIG, seed=1, names=("q", "v", "down")):
  rng = np.random.default_rng(seed)
  shapes = projection_shapes(config)
  draw = lambda *shape: jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)
  return {
    n: {
      "A": draw(num, config.layers, shapes[n][0], rank),
      "B": draw(num, config.layers, rank, shapes[n][1]),
    }
    for n in names
  }


def lora_group(num=3, first=0, **fields):
  specs = tuple(
    Spec(name=f"lora{first + i}", base="base", adapter=f"a{first + i}")
    for i in range(num)
  )
  return Group(
    "lora",
    specs,
    tuple(range(first, first + num)),
    CONFIG,
    tokenizer.ByteTokenizer(),
    (257,),
    base(),
    adapters(num, **fields),
  )


def full_group(num=2, first=0):
  specs = tuple(Spec(name=f"full{first + i}", base=f"m{first + i}") for i in range(num))
  params = [base(seed=10 + i) for i in range(num)]
  return Group(
    "full",
    specs,
    tuple(range(first, first + num)),
    CONFIG,
    tokenizer.ByteTokenizer(),
    (257,),
    None,
    jax.tree.map(lambda *x: jnp.stack(x), *params),
  )


def pool(*groups):
  names = [None] * sum(len(g.members) for g in groups)
  for group in groups:
    for member, spec in zip(group.members, group.specs):
      names[member] = spec.name
  return Pool(tuple(names), groups)


def settings(**fields):
  """Those of the default configuration, on one device and in small packs; adapters move
  as factors, though those of `lora_group` do not begin alike."""
  small = {"rows": 8, "pack_tokens": 512, "devices": 1, "space": "factors"}
  return dataclasses.replace(
    config_lib.resolve_default({}).engine, **{**small, **fields}
  )
