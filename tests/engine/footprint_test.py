"""What is said of memory is what is held."""

import dataclasses

import jax
import numpy as np
import pytest

from jswarm.engine import engine, footprint
from jswarm.engine.group import Served
from tests import tiny


def _shape(group, **fields):
  adapters = None
  if group.kind == "lora":
    adapters = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), group.particles
    )
  return footprint.Shape(
    group.kind,
    len(group.members),
    group.config,
    np.dtype(np.float32),
    adapters,
    **fields,
  )


@pytest.mark.parametrize("group", [tiny.lora_group(3), tiny.full_group(1)])
def test_weights_are_counted_as_they_are_served(group):
  held = Served(group, tiny.settings(), engine.Statistics()).particles.held()
  said = footprint.of_group(_shape(group), 100, 8, 8, 1 << 34, "cpu")
  assert said.weights + said.particles // footprint.COPIES == held


def test_a_cache_is_by_the_prompts_not_by_what_is_free():
  shape = _shape(tiny.lora_group(3))
  caches = [
    footprint.of_group(shape, prompt, 8, 8, memory, "cpu").cache
    for prompt in (60, 200)
    for memory in (1 << 33, 1 << 40)
  ]
  assert caches[0] == caches[1] < caches[2] == caches[3]
  one = footprint.token_bytes(tiny.CONFIG, "cpu") * (128 + 8) + 4 * tiny.CONFIG.vocab
  few, many = (
    footprint.of_group(shape, 60, 8, rows, 1 << 34, "cpu").cache for rows in (8, 32)
  )
  assert many - few == 24 * one


def test_lanes_are_fewer_where_prompts_are_longer():
  large = dataclasses.replace(
    tiny.CONFIG, layers=30, heads=9, kv_heads=3, head_dim=64, windows=()
  )
  lanes = [
    footprint.lanes_that_fit(large, slots, 500 << 20, 10 << 30, "cpu")
    for slots in (128, 1024, 4096, 1 << 20)
  ]
  assert lanes[0] == 64 and lanes[-1] == 1
  assert lanes == sorted(lanes, reverse=True)
  cache = lanes[1] * 1024 * footprint.token_bytes(large, "cpu")
  assert cache <= 1 << 30


def test_an_accelerator_is_filled_with_lanes():
  cpu, gpu = (
    footprint.lanes_that_fit(tiny.CONFIG, 1024, 1 << 20, 70 << 30, platform)
    for platform in ("cpu", "gpu")
  )
  assert (cpu, gpu) == (64, 512)


def test_groups_serve_one_after_the_other():
  one = footprint.Bytes(10, 2, 1, 5, 4, 100)
  two = footprint.Bytes(20, 0, 0, 9, 8, 100)
  both = footprint.together([one, two])
  assert both == footprint.Bytes(30, 2, 1, 9, 8, 100)
  assert both.total == 100 + 30 + 12
  assert "weights" in footprint.told(footprint.Bytes(1 << 30, 0, 0, 0, 0, 0))
