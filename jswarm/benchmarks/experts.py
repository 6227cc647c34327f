"""Suite `experts`: one batch for some low-rank experts, 1, 5 or 50 rows each.

Beside the base alone on the same rows (what the adapters cost), one merged expert at a
time (what a batch for all saves) and peft's batches of mixed adapters.
"""

import tempfile
from typing import NamedTuple

import numpy as np

from jswarm.benchmarks import peers, workload
from jswarm.benchmarks.harness import (
  Contender,
  Options,
  Record,
  compare,
  interleave,
  optional,
)
from jswarm.core.types import Request
from jswarm.engine import adapter_forms
from jswarm.formats import tokenizer

SHAPES = {"rank 16 all": (16, workload.ALL_PROJECTIONS), "rank 8 q v": (8, ("q", "v"))}
ONE = "one merged expert at a time"
PEER_ROWS = 64  # most rows of a batch, on both sides
_ENGINE = {"engine.rows": PEER_ROWS}
_NOTES = {ONE: "one model stands for all; loads are not counted"}


class _Sizes(NamedTuple):
  experts: int
  rows: tuple[int, ...]
  prompt: tuple[int, int]
  new: int


class _Load(NamedTuple):
  """The rows of one case: prompts, and the expert of each."""

  prompts: list[str]
  experts: list[int]
  new: int


def _sizes(options):
  return (
    _Sizes(3, (2,), (8, 16), 3)
    if options.small
    else _Sizes(options.experts, options.rows, (64, 128), 32)
  )


def run(options: Options) -> list[Record]:
  """Every dtype and adapter shape by itself."""
  unknown = sorted(set(options.adapters) - set(SHAPES))
  if unknown:
    raise ValueError(f"adapters {unknown}: allowed are {', '.join(map(repr, SHAPES))}.")
  return [
    record
    for dtype in options.dtypes
    for shape in options.adapters or SHAPES
    for record in _run(options, dtype, shape)
  ]


def _run(options, dtype, shape):
  sizes = _sizes(options)
  base = workload.load(options.model, dtype, options.small)
  rank, names = SHAPES[shape]
  particles = workload.adapters(base.config, sizes.experts, rank, names)
  served = _served(base, particles, options.forms or adapter_forms.FORMS)
  alone = workload.serve(workload.full_pool(base), _ENGINE)
  one = workload.serve(
    workload.full_pool(base, workload.merged(base, particles, 0)), _ENGINE
  )
  mixed = _mixed(base, dtype, particles) if options.peers else None
  records = []
  for rows in sizes.rows:
    load = _load(base, sizes, rows, options.seed)
    contenders = [
      Contender(name, _ask(e, load, load.experts), ours=True)
      for name, e in served.items()
    ]
    contenders += [
      Contender("base alone", _ask(alone, load, [0] * len(load.prompts))),
      Contender(ONE, _in_turn(one, load)),
    ]
    if options.peers:
      contenders.append(optional("peft, mixed", lambda: _peft(mixed, base, load)))
    case = f"{dtype}, {shape}, {rows} rows each"
    timings = interleave(contenders, options, f"experts, {case}")
    records += [
      _record(case, timings[a], timings[b.name])
      for a in served
      for b in contenders[len(served) :]
    ]
  return records


def _served(base, particles, forms):
  """{name: the pool in one of the engine's forms}."""
  pool = workload.lora_pool(base, particles)
  return {
    f"jswarm {form}": workload.serve(pool, {**_ENGINE, "engine.form": form})
    for form in forms
  }


def _load(base, sizes, rows, seed):
  rng = np.random.default_rng(seed)
  count = sizes.experts * rows
  lengths = rng.integers(sizes.prompt[0], sizes.prompt[1] + 1, count).tolist()
  experts = np.tile(np.arange(sizes.experts), rows).tolist()
  return _Load(workload.prompts(base, lengths, seed), experts, sizes.new)


def _ask(experts, load, holders):
  requests = [Request(e, p, load.new) for e, p in zip(holders, load.prompts)]
  return lambda: _work(experts.ask(requests))


def _in_turn(alone, load):
  """As many questions to one model as there are experts, one expert's rows each."""
  turns = [
    [Request(0, p, load.new) for e, p in zip(load.experts, load.prompts) if e == expert]
    for expert in sorted(set(load.experts))
  ]
  return lambda: _work([reply for turn in turns for reply in alone.ask(turn)])


def _work(replies):
  return {
    "prompt_tokens": sum(r.prompt_tokens for r in replies),
    "new_tokens": sum(r.new_tokens for r in replies),
  }


def _mixed(base, dtype, particles):
  """peft's generate, or the ImportError that stands in its way."""
  with tempfile.TemporaryDirectory() as folder:
    try:
      workload.export(base, folder)
      return peers.peft_generate(folder, dtype, base.config, particles)
    except ImportError as error:
      return error


def _peft(generate, base, load):
  if isinstance(generate, ImportError):
    raise generate
  rows = tokenizer.encode(base.tokenizer, load.prompts)
  order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # less padding

  def ask():
    out = []
    for batch in peers.batches(order, PEER_ROWS):
      out += generate(
        [rows[i] for i in batch], load.new, experts=[load.experts[i] for i in batch]
      )
    return {"prompt_tokens": sum(map(len, rows)), "new_tokens": sum(map(len, out))}

  return ask


def _record(case, ours, theirs):
  return compare(
    "experts",
    case,
    ours,
    theirs,
    unit="new token",
    count="new_tokens",
    same=("prompt_tokens", "new_tokens"),
    note=_NOTES.get(theirs.name, ""),
  )
