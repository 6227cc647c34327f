"""The checks for a machine with its first accelerator, and in small for any machine.

  parity, lowering, forms and speed and search here -> checks -> one JSON

What the benchmarks measure against peers at length is here looked at once, in minutes:
does this device compute the right thing, in every form, and how near its ceilings?
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import os
import pathlib
import tempfile
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jswarm.benchmarks import (
  checks,
  harness,
  lowering,
  parity,
  report,
  roofline,
  workload,
)
from jswarm.benchmarks.checks import Check, Section
from jswarm.core import files
from jswarm.core.types import Request
from jswarm.engine import adapter_forms, schedule
from jswarm.formats import tokenizer
from jswarm.model import decoder as decoder_lib
from jswarm.model import generate as generate_lib
from jswarm.model import lora, quantize
from jswarm.model.sampling import Sampling
from jswarm.run import loop
from jswarm.tasks.synthetic import words
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config

MODEL, DTYPE, RANK, EXPERTS = "random:gemma_7b", "bfloat16", 16, 10
AIM = 0.6  # share of the ceilings that decoding should reach
_MOST = 1.2  # above so much of a ceiling the count or the clock is wrong
_POOL = ("arithmetic", "letters", "mixed", "order", "reader", "tally")
_INT8_AGREE = 0.8  # of the likeliest tokens, at least


class _Sizes(NamedTuple):
  """Of the section speed."""

  rows: tuple[int, ...]
  prompt: int
  new: int
  repeats: int


def sections(small: bool, model: str = MODEL) -> tuple[Section, ...]:
  """All of them, with budgets of seconds that add up to eight minutes.

  `small` may be a busy machine of two cores, where the work is less and the time may be
  more: there the budgets only end what hangs.
  """
  wait = 10 if small else 1
  return (
    Section("parity", 100 * wait, parity.run),
    Section("forms", 60 * wait, forms),
    Section("speed", 200 * wait, functools.partial(speed, small, model)),
    Section("search", 60 * wait, search_twice),
    Section("lowering", 60 * wait, functools.partial(lowered, small)),
  )


def run(out: str, chosen: Sequence[Section], small: bool) -> bool:
  """Runs the sections, writes the JSON file `out` as they go; did all of them pass?"""
  pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
  began, machine = time.monotonic(), report.machine()

  def keep(found: dict[str, checks.Found]) -> None:
    value = {
      "schema_version": 1,
      "machine": machine,
      "small": small,
      "passed": len(found) == len(chosen) and all(f.passed for f in found.values()),
      "seconds": round(time.monotonic() - began, 2),
      "sections": {name: f.plain() for name, f in found.items()},
    }
    files.write_json(out, value)

  found = checks.run(chosen, keep)
  return all(f.passed for f in found.values())


def forms() -> Iterator[Check]:
  """Replies of a toy in every form of the adapters, stacked or not, in 8 bits."""
  base = workload.load("", "float32", True)
  experts = workload.adapters(base.config, 3, 4, workload.ALL_PROJECTIONS)
  pool = workload.lora_pool(base, experts)
  lengths = np.random.default_rng(0).integers(8, 40, 12).tolist()
  prompts = workload.prompts(base, lengths)
  requests = [Request(i % 3, p, 4 + i % 5) for i, p in enumerate(prompts)]

  def said(**changes):
    changed = {f"engine.{name}": value for name, value in changes.items()}
    served = workload.serve(pool, {"engine.rows": 8, **changed})
    return [reply.text for reply in served.ask(requests)]

  with jax.default_matmul_precision("highest"):  # else words may turn on a rounding
    first, *others = (f for f in adapter_forms.FORMS if f != "auto")
    wanted = said(form=first)
    for form in others:
      yield _equal(f"{form} and {first}", said(form=form), wanted)
    yield _layouts(base, experts, prompts)
    yield _rounded(base, prompts, said(form=first, int8=True), wanted)


def _equal(name, found, wanted):
  share = float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))
  return Check(f"replies of {name}", share == 1.0, {"equal": share})


def _layouts(base, experts, prompts, new=8):
  """Layers stacked, as accelerators hold them, and one by one, as a CPU does."""
  rows = tokenizer.encode(base.tokenizer, prompts)
  lengths = np.array([len(row) for row in rows], np.int32)
  tokens = np.zeros((len(rows), max(lengths)), np.int32)
  for row, ids in enumerate(rows):
    tokens[row, : len(ids)] = ids
  mix = np.eye(3, dtype=np.float32)[np.arange(len(rows)) % 3]

  def said(params):
    packed = lora.pack(experts, unstacked=decoder_lib.is_unstacked(params))
    found, _ = generate_lib.generate(
      decoder_lib.make_decoder(base.config),
      params,
      packed,
      mix,
      tokens,
      lengths,
      np.full(len(rows), new, np.int32),
      np.full(1, -1, np.int32),
      np.zeros(len(rows), np.uint32),
      new_tokens=new,
      sampling=Sampling(),
    )
    return np.asarray(found).tolist()

  return _equal(
    "stacked and separate layers",
    said(base.params),
    said(decoder_lib.unstack(base.params)),
  )


def _rounded(base, prompts, found, wanted):
  """int8 kernels: how far logits move, and which replies stay."""
  decoder = decoder_lib.make_decoder(base.config)
  text = tokenizer.encode(base.tokenizer, [" ".join(prompts)])[0][:256]
  error = quantize.logit_error(
    decoder, base.params, quantize.quantize(base.params), text
  )
  same = float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))
  figures = {**error, "equal replies": same, "allowed agree": _INT8_AGREE}
  return Check("int8 kernels", error["agree"] >= _INT8_AGREE, figures)


def speed(small: bool, model: str = MODEL) -> Iterator[Check]:
  """Prefill and decoding of the base alone and of ten experts, beside the ceilings."""
  sizes = _Sizes((8,), 16, 4, 2) if small else _Sizes((64, 256), 128, 64, 3)
  ceilings = roofline.measure((DTYPE,), small)
  yield Check(
    "ceilings",
    True,
    {
      "TFLOP/s": ceilings.operations[DTYPE] / 1e12,
      "read GB/s": ceilings.read / 1e9,
      "copy GB/s": ceilings.copy / 1e9,
    },
  )
  base = workload.load(model, DTYPE, small)
  particles = workload.adapters(base.config, EXPERTS, RANK, workload.ALL_PROJECTIONS)
  # The base alone is one expert that is merged: a pool of whole models would keep a
  # copy in float32 to move.
  still = workload.adapters(base.config, 1, 1, ("q",))
  pools = {
    "base": workload.lora_pool(base, still),
    "ten experts": workload.lora_pool(base, particles),
  }
  # Its limit of seconds stays beyond the section's budget: a long warm-up, which is
  # compiling, would else be taken for the measurement.
  options = harness.Options(repeats=sizes.repeats, seconds=3600.0)
  for rows in sizes.rows:
    served = {n: workload.serve(p, {"engine.rows": rows}) for n, p in pools.items()}
    prompts = workload.prompts(base, [sizes.prompt] * rows)
    contenders = [
      harness.Contender(f"{name} {new}", _ask(experts, prompts, new))
      for name, experts in served.items()
      for new in (1, sizes.new)
    ]
    timings = harness.interleave(contenders, options, f"speed, {rows} rows")
    yield from _phases(base, sizes, rows, timings, ceilings, list(pools))


def _ask(experts, prompts, new) -> Callable[[], dict[str, int]]:
  """Asks all experts in equal parts, in blocks of lanes that share one."""
  block, count = schedule.lane_block(len(prompts)), len(experts.names)
  requests = [Request(i // block % count, p, new) for i, p in enumerate(prompts)]

  def ask():
    replies = experts.ask(requests)
    return {
      "prompt_tokens": sum(r.prompt_tokens for r in replies),
      "new_tokens": sum(r.new_tokens for r in replies),
    }

  return ask


def _phases(base, sizes, rows, timings, ceilings, names):
  """Prefill and decoding of each, with its share of the ceilings; experts over base."""
  width = roofline.BYTES[DTYPE]
  costs = {
    "prefill": roofline.prefill(base.config, width, rows, sizes.prompt),
    "decode": roofline.decode(base.config, width, rows, sizes.prompt, sizes.new),
  }
  work = {"prompt_tokens": rows * sizes.prompt, "new_tokens": rows * sizes.new}
  medians = {}
  for name in names:
    head, whole = timings[f"{name} 1"], timings[f"{name} {sizes.new}"]
    phases = {"prefill": head, "decode": harness.minus(whole, head)}
    for phase, timing in phases.items():
      seconds = medians[name, phase] = float(np.median(timing.seconds))
      tokens = timing.work["prompt_tokens" if phase == "prefill" else "new_tokens"]
      yield _phase(
        f"{name}, {rows} rows, {phase}", seconds, tokens, costs[phase], ceilings,
        dict(whole.work) == work,
      )  # fmt: skip
  for phase in costs:
    ours, alone = (medians[name, phase] for name in reversed(names))
    ratio = alone / ours if min(ours, alone) > 0 else None
    yield Check(f"ten experts beside the base, {rows} rows, {phase}", True,
                {"speed of the base": ratio})  # fmt: skip


def _phase(name, seconds, tokens, cost, ceilings, complete):
  """Passes if all was said and no more than the device can do."""
  if seconds <= 0:  # a difference of times so short that noise is more
    return Check(name, complete, note="too short to measure")
  share = roofline.fraction(cost, seconds, DTYPE, ceilings)
  figures = {
    "tokens/s": tokens / seconds,
    "of the ceiling": share,
    "aim": AIM,
    "aim met": share >= AIM,
  }
  return Check(name, complete and share <= _MOST, figures)


def search_twice() -> Iterator[Check]:
  """A few graphs of the pool that ships, with checkpoints and without: one result."""
  with tempfile.TemporaryDirectory() as folder:
    kept = _search(folder)
    written = os.path.exists(os.path.join(folder, "results.json"))
  yield Check(
    "finishes",
    written and kept["iterations"] == 1,
    {"score": kept["test"]["system"]["score"], "calls": kept["spend"]["made"]},
  )
  yield Check("says the same again", _search(None) == kept)


def _search(workdir) -> dict[str, Any]:
  """results.json without its clocks."""
  config = config_lib.override(
    get_config(),
    {
      "pool.base": "builtin:tiny_pool/base",
      "pool.experts": tuple(f"builtin:tiny_pool/experts/{name}" for name in _POOL),
      "task.name": "skills",
      "task.records": "jswarm.tasks.synthetic.words:splits",
      "task.utility": "jswarm.tasks.synthetic.words:score",
      "task.dev_size": 6,
      "task.test_size": 10,
      "task.limit": 8,
      "task.chat": False,
      "search.graphs": 2,
      "search.assignments": 2,
      "search.iterations": 1,
      "log.tensorboard": False,
      **words.MESSAGES,
    },
  )
  results = dict(loop.run(search.plan(config), workdir).results)
  results.pop("timing")
  return results


def lowered(small: bool) -> Iterator[Check]:
  """The device programs, lowered for CUDA and TPU in a process beside this one."""
  for name, error in lowering.in_child(small=small).items():
    yield Check(name, not error, note=error)
