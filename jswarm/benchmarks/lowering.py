"""Are the device programs accepted by compilers of devices that are not here?

`jax.export` lowers a program to StableHLO for "cuda" or "tpu" on any machine: what
traces wrongly there, or has no lowering, shows; what only the compiler behind it or a
real run would find does not. Lowered are the programs of `engine.programs` with stacked
layers, in each form of the adapters, the moves of the particles and the decoding of
graphs.

  sizes -> shapes of the arguments -> Program -> jax.export -> {name: what went wrong}
"""

from collections.abc import Callable, Sequence
import contextlib
import functools
import traceback
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jswarm.benchmarks import child, parity, workload
from jswarm.core.types import PyTree
from jswarm.engine import packing, programs
from jswarm.graphs import decode as graphs_decode
from jswarm.model import lanes as lanes_lib
from jswarm.model import lora, quantize
from jswarm.model.architecture import DecoderConfig, projection_shapes
from jswarm.model.attention import TOKEN_BLOCK
from jswarm.model.decoder import make_decoder
from jswarm.model.sampling import Sampling
from jswarm.swarm import guard, pso

PLATFORMS = ("cuda", "tpu")
_BACKENDS = {"cuda": "gpu", "tpu": "tpu", "cpu": "cpu"}  # as jax.default_backend says
_FORMS = ("grouped", "masked", "merged")
_EXPERTS, _LANES, _SLOTS, _RING, _PACK, _PREFIX = 3, 8, 128, 16, 256, 32
_LINES = 4  # of an error


class Program(NamedTuple):
  """One function of arrays and the shapes that it is lowered for."""

  function: Callable[..., Any]
  arguments: tuple[PyTree, ...]
  donate: tuple[int, ...] = ()


def in_child(
  platforms: Sequence[str] = PLATFORMS, small: bool = False, only: str = ""
) -> dict[str, str]:
  """`run` in a process of its own, which leaves this one's traces and device alone."""
  arguments = {"platforms": list(platforms), "small": small, "only": only}
  return child.call(f"{__name__}:run", arguments, {"JAX_PLATFORMS": "cpu"})


def run(platforms: Sequence[str], small: bool, only: str = "") -> dict[str, str]:
  """{"cuda, decode masked bfloat16": ""}: what went wrong, "" for nothing.

  Only for a process that does nothing else: what it traces is of other devices.

  Args:
    platforms: of `PLATFORMS`. small: see `all_programs`.
    only: those programs alone whose names have this in them.
  """
  found = {}
  for platform in platforms:
    with _as_on(platform):
      for name, program in all_programs(small).items():
        if only in name:
          found[f"{platform}, {name}"] = lower(program, platform)
  return found


def lower(program: Program, platform: str) -> str:
  """The error of lowering it for "cuda", "tpu" or "cpu"; "" if there is none."""
  compiled = jax.jit(program.function, donate_argnums=program.donate)
  try:
    jax.export.export(compiled, platforms=[platform])(*program.arguments)
  except Exception as error:  # whatever a compiler may raise is what is looked for
    return "".join(traceback.format_exception_only(error)[-_LINES:]).strip()
  return ""


@contextlib.contextmanager
def _as_on(platform):
  """Modules that ask for the kind of device are told `platform`.

  The decoder has other programs for a CPU, so that one lowered as here would not be the
  one that runs there. jit keeps traces whatever they were made for: hence the clearing.
  """
  asked = jax.default_backend
  jax.clear_caches()
  jax.default_backend = lambda: _BACKENDS[platform]
  try:
    yield
  finally:
    jax.default_backend = asked
    jax.clear_caches()


def all_programs(small: bool) -> dict[str, Program]:
  """What is lowered: every kind, form and dtype once, then the families, then the
  search; with `small` the toy shapes alone."""
  toy = workload.TOY
  found = _engine(toy, "float32", _FORMS)
  found |= _engine(toy, "bfloat16", _FORMS)
  found |= _others(toy)
  found |= _search(small)
  if small:
    return found
  for family, config in parity.FAMILIES.items():
    found |= {f"{family}, {k}": v for k, v in _engine(config, "bfloat16").items()}
  for name, config in workload.SHAPES.items():
    found |= {f"{name}, {k}": v for k, v in _engine(config, "bfloat16").items()}
  return found


def _engine(
  config: DecoderConfig, dtype: str, forms: Sequence[str] = ("masked",)
) -> dict[str, Program]:
  """Prefill, with and without a shared prefix, and decode, in these forms."""
  made = {}
  for form in forms:
    for prefix in (0, _PREFIX):
      name = f"prefill{' after a prefix' if prefix else ''} {form} {dtype}"
      made[name] = _prefill(config, dtype, form, prefix)
    made[f"decode {form} {dtype}"] = _decode("decode", config, dtype, form)
  return made


def _others(config):
  """What is done less often: drafts, fewer and wider lanes, int8, draws."""
  decoder, lanes = make_decoder(config), _lanes(config, "bfloat16")
  make = functools.partial(programs.function, decoder=decoder, sampling=Sampling())
  rounded = jax.eval_shape(quantize.quantize, _params(config, "bfloat16"))
  drawn = Sampling(temperature=0.7, top_p=0.9)
  return {
    "leap": _decode("leap", config, "bfloat16", "masked"),
    "take": Program(make("take"), (lanes, _int32(_LANES // 2))),
    "grow": Program(lambda lanes: lanes_lib.grow(lanes, 2 * _SLOTS), (lanes,)),
    "decode int8": _decode("decode", config, "bfloat16", "masked", params=rounded),
    "decode sampled": _decode("decode", config, "bfloat16", "masked", sampling=drawn),
  }


def _prefill(config, dtype, form, prefix):
  decoder = make_decoder(config)
  run = programs.function("prefill", decoder, Sampling(), _SLOTS, prefix)
  rows = packing.rows_of(_PACK, _LANES)
  row = packing.row(None, _PACK, rows, _LANES)
  blocks = len(row.pop("owners"))
  adapters, owners = _adapters(config, dtype, form, blocks, TOKEN_BLOCK)
  arguments = (
    _params(config, dtype),
    adapters,
    _int32(1),
    _lanes(config, dtype),
    owners,
    row,
  )
  return Program(run, arguments, donate=(3,))


def _decode(kind, config, dtype, form, params=None, sampling=None):
  run = programs.function(kind, make_decoder(config), sampling or Sampling())
  adapters, owners = _adapters(config, dtype, form, _LANES, 1)
  arguments = (
    params or _params(config, dtype),
    adapters,
    _int32(1),
    _lanes(config, dtype),
    owners,
    _int32(),
  )
  return Program(run, arguments, donate=(3,))


def _params(config, dtype):
  return jax.eval_shape(make_decoder(config, jnp.dtype(dtype)).init, jax.random.key(0))


def _lanes(config, dtype):
  make = lambda: lanes_lib.empty(config, _LANES, _SLOTS, _RING, jnp.dtype(dtype), False)
  return jax.eval_shape(make)


def _adapters(config, dtype, form, blocks, block):
  """(adapters, what tells `blocks` blocks of rows their experts) of a form."""
  if form == "merged":
    return None, _int32(blocks)
  lay_out = lora.pack if form == "masked" else lora.group
  adapters = jax.eval_shape(lambda x: lay_out(x, jnp.dtype(dtype)), _factors(config))
  if form == "grouped":
    return adapters, _int32(blocks)
  return adapters, jax.ShapeDtypeStruct((blocks * block, _EXPERTS), jnp.float32)


def _factors(config, rank=4):
  shape = lambda *axes: jax.ShapeDtypeStruct(
    (_EXPERTS, config.layers, *axes), "float32"
  )
  return {
    name: {"A": shape(inside, rank), "B": shape(rank, outside)}
    for name, (inside, outside) in projection_shapes(config).items()
  }


def _int32(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def _search(small):
  """The moves of particles, from start to roll-back, and the decoding of graphs."""
  settings, count = pso.Settings(), _EXPERTS
  key = jax.eval_shape(lambda: jax.random.key(0))
  adjacency = jax.ShapeDtypeStruct((count, 10, 10), jnp.float32)
  swarms = {
    "adapters": _factors(workload.TOY if small else workload.GEMMA_7B),
    "graphs": adjacency,
  }
  told = jax.ShapeDtypeStruct((count,), jnp.float32)
  found = {}
  for name, position in swarms.items():
    start = lambda key, x, u: pso.start(key, x, u, settings)
    state = jax.eval_shape(start, key, position, told)
    found |= {
      f"start {name}": Program(start, (key, position, told)),
      f"ask {name}": Program(lambda key, s: pso.ask(key, s, settings), (key, state)),
      f"tell {name}": Program(pso.tell, (state, told)),
      f"rescore {name}": Program(pso.rescore, (state, told)),
      f"roll back {name}": Program(guard.roll_back, (state, position)),
    }
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
  for top_p in (0.0, 0.8):
    settled = graphs_decode.Settings(top_p=top_p)
    found[f"graphs top-p {top_p}"] = Program(
      lambda x, k, s=settled: graphs_decode.decode_swarm(x, k, s), (adjacency, keys)
    )
  return found
