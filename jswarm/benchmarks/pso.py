"""Suite `pso`: one move of a swarm of adapters as large as those of Gemma-7B.

`pso.ask`, compiled and in place, beside evosax on raveled vectors and beside merges of
adapter files. A particle is rank 16 on all seven projections: 50.0 million numbers.
"""

import functools
import os
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from jswarm.benchmarks import published, report, workload
from jswarm.benchmarks.harness import (
  Contender,
  Options,
  Record,
  compare,
  interleave,
  optional,
)
from jswarm.core.types import PyTree
from jswarm.model.architecture import DecoderConfig, projection_shapes
from jswarm.swarm import motion, pso

SMALL = DecoderConfig(
  vocab=256, width=64, layers=2, heads=4, kv_heads=4, head_dim=16, hidden=128
)
PARTICLES = 10
# Numbers held for each number of a particle: ours 3 and evosax 4, and room to work.
COPIES = 8
COEFFICIENTS, STEP_LENGTH = (0.2, 0.3, 0.4, 0.1), 0.7


class _Swarm(NamedTuple):
  position: PyTree  # [P, L, ...]
  utility: jax.Array  # [P]


def run(options: Options) -> list[Record]:
  """One row a peer."""
  config, rank = (SMALL, 2) if options.small else (workload.GEMMA_7B, 16)
  size = _numbers(config, rank)
  count = _fitting(size)
  with tempfile.TemporaryDirectory() as folder:
    contenders = _contenders(config, rank, count, folder)
    timings = list(interleave(contenders, options, "pso").values())
  note = (
    "" if count == PARTICLES else f"{count} particles: more did not fit the memory."
  )
  extra = {"particles": count, "million numbers a particle": size / 1e6}
  return [
    compare(
      "pso",
      "one move",
      timings[0],
      other,
      unit="particle",
      count="particles",
      extra=extra if other is timings[1] else {},
      note=f"{note} {_differences(other.name)}".strip(),
    )
    for other in timings[1:]
  ]


def _contenders(config, rank, count, folder):
  """Each has its own copy of the swarm, so the drawn one is dropped here."""
  position = _draw(config, rank, count)
  swarm = _Swarm(position, jnp.arange(count, dtype=jnp.float32))
  _write(folder, position)
  return [
    Contender("jswarm pso.ask", _ours(swarm), ours=True),
    optional("evosax PSO, raveled", lambda: _evosax(swarm)),
    Contender("published merges of files", _files(folder, count)),
  ]


def _differences(name):
  return (
    "Three terms, without repulsion; ours has four."
    if name.startswith("evosax")
    else ""
  )


def _numbers(config, rank):
  return (
    config.layers * rank * sum(a + b for a, b in projection_shapes(config).values())
  )


def _fitting(size):
  """Particles that the memory holds; all of them where it cannot be known."""
  free = report.memory("MemAvailable") if jax.default_backend() == "cpu" else 0
  return (
    max(2, min(PARTICLES, int(0.9 * free) // (4 * size * COPIES)))
    if free
    else (PARTICLES)
  )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(config, rank, count):
  """Leaves [P, L, ...] like stacked adapters."""
  keys = iter(jax.random.split(jax.random.key(0), 2 * 7))
  leaf = lambda *shape: jax.random.normal(next(keys), (count, config.layers, *shape))
  return {
    name: {"A": leaf(a, rank), "B": leaf(rank, b)}
    for name, (a, b) in projection_shapes(config).items()
  }


def _ours(swarm):
  settings = motion.Settings()
  start = jax.jit(pso.start, static_argnums=3)
  ask = jax.jit(pso.ask, static_argnums=2, donate_argnums=1)
  key = jax.random.key(0)
  held = [start(key, swarm.position, swarm.utility, settings)]

  def move():
    held.append(jax.block_until_ready(ask(key, held.pop(), settings)))
    return {"particles": len(held[0].utility)}

  return move


def _evosax(swarm):
  """Compiled and in place as well; positions are raveled once, outside the clock."""
  from evosax.algorithms import PSO
  from jax import flatten_util

  flat = jax.vmap(lambda tree: flatten_util.ravel_pytree(tree)[0])(swarm.position)
  count = len(flat)
  algorithm = PSO(population_size=count, solution=flat[0])
  params, key = algorithm.default_params, jax.random.key(0)
  held = [algorithm.init(key, flat, -swarm.utility, params)]
  del flat
  ask = jax.jit(lambda state: algorithm.ask(key, state, params), donate_argnums=0)

  def move():
    population, state = jax.block_until_ready(ask(held.pop()))
    held.append(state.replace(population=population))
    return {"particles": count}

  return move


def _files(folder, count):
  """Two particles stand for all of a large swarm: each moves by itself."""
  moved = min(count, 2)

  def move():
    for i in range(moved):
      published.move(folder, str(i), COEFFICIENTS, STEP_LENGTH)
    return {"particles": moved}

  return move


def _write(folder, position):
  """The files that `published.move` reads, for the particles that it moves."""
  save = lambda tensors, *path: safetensors.numpy.save_file(
    tensors, os.path.join(folder, *path) + ".safetensors"
  )
  for i, shared in enumerate(("swarm_best", "swarm_worst")):
    os.makedirs(os.path.join(folder, str(i)))
    tensors = _tensors(position, i)
    for name in ("now", "best", "velocity"):
      save(tensors, str(i), name)
    save(tensors, shared)


def _tensors(position, particle):
  """One tensor a projection, factor and layer, as in an adapter file."""
  return {
    f"{name}.{factor}.{layer}": np.ascontiguousarray(value)
    for name, factors in position.items()
    for factor, leaf in factors.items()
    for layer, value in enumerate(np.asarray(leaf[particle]))
  }
