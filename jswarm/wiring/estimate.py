"""What a search will take: calls, tokens, memory, disk, seconds here and elsewhere.

  pool -> calibrate (asked here, twice) -> rehearsal -> Estimate

Calls and tokens are counted by `rehearsal`: at most (replies never agree) and as
expected (they agree now and then). Seconds here are those of calls like them that were
made here; seconds elsewhere are arithmetic with the figures of `ACCELERATORS`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import time
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np

from jswarm.core.types import Experts, Request
from jswarm.distributed.devices import Replicas, local_devices
from jswarm.engine import engine, footprint
from jswarm.pool import load
from jswarm.tasks import base
from jswarm.wiring import config as config_lib
from jswarm.wiring import memory, rehearsal, search, skipping

# Different replies to prompts that differ in what they quote, as a search meets them:
# of short ones three, of longer ones more. What came of it: docs/performance.md.
_VARIETY, _VARIETY_LONG, _SHORT = 3, 8, 16
_SAMPLE = 48  # calls that are timed
_WORDS = (
  "the answer may be seven or nine because each of them can be found in it".split()
)


class Accelerator(NamedTuple):
  """What a data sheet says: bytes, bytes a second, operations a second in bfloat16."""

  memory: float
  read: float
  operations: float


ACCELERATORS = {
  "NVIDIA L4": Accelerator(24e9, 300e9, 121e12),
  "NVIDIA A100 80GB": Accelerator(80e9, 2.0e12, 312e12),
  "NVIDIA H100 SXM": Accelerator(80e9, 3.35e12, 989e12),
  "NVIDIA H200": Accelerator(141e9, 4.8e12, 989e12),
  "TPU v4": Accelerator(32e9, 1.2e12, 275e12),
  "TPU v5e": Accelerator(16e9, 0.82e12, 197e12),
  "TPU v5p": Accelerator(95e9, 2.77e12, 459e12),
  "TPU v6e": Accelerator(32e9, 1.64e12, 918e12),
}
_REACHED = 0.5  # share of both that an engine can be expected to reach
_LAUNCH = 2e-5  # seconds that the programs of a layer take to start
_PLANNED = 0.85  # share of the memory that is planned with


class Rates(NamedTuple):
  """Seconds as calls like those of the search took them.

  Attributes:
    prompt, new: a token of a prompt, and one of a reply.
    compile: of the programs that these calls needed, once.
    load: of the pool.
  """

  prompt: float
  new: float
  compile: float
  load: float


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What a search will take.

  Attributes:
    calls_bound: node executions at most.
    most, expected: what is asked, by replies that never and that sometimes agree.
    memory: bytes on the busiest device; on a CPU of the process.
    checkpoint, saved: bytes of one checkpoint, and of the found experts.
    rates: None: nothing was timed.
    seconds: {"iteration", "search", "test", "whole", "first"} here; "first" adds
      loading and compiling.
    elsewhere: seconds of the whole on named accelerators; None: it does not fit.
  """

  calls_bound: int
  most: rehearsal.Rehearsed
  expected: rehearsal.Rehearsed
  memory: footprint.Bytes
  checkpoint: int
  saved: int
  rates: Rates | None
  seconds: Mapping[str, float]
  elsewhere: Mapping[str, float | None]


def estimate(config: ConfigDict, timed: bool = True) -> Estimate:
  """Counts what a search will ask; `timed`: loads the pool and times some calls.

  Raises:
    ValueError: as `search.plan`; `validate.check` lists all problems.
  """
  settled = skipping.settle(config)
  resolved = config_lib.resolve(settled.config)
  task = search.task(resolved)
  specs = search.chosen(resolved)
  c = resolved.pool
  checked = settled.checked or load.check_pool(
    specs, c.allow_pickle, c.today, c.thinking
  )
  replicas = Replicas(local_devices(resolved.engine.devices), resolved.engine.tensor)
  need = memory.need(resolved, task, specs, checked, replicas)
  timer = _Timer(resolved, task) if timed else None
  say = timer.phrases if timer else _guessed(task.limit)
  variety = _VARIETY if task.limit <= _SHORT else _VARIETY_LONG
  rater = search.rater(resolved, task)
  judge = rater if isinstance(rater, int) else None
  count = lambda kinds: rehearsal.rehearse(
    resolved, task, specs, checked, say, kinds, judge
  )
  most, expected = count(0), count(variety)  # the second one compiles nothing
  moving = memory.moving(resolved, specs, checked)
  shapes = memory.shapes(resolved, specs, checked)
  rates = timer.rates(expected.inner) if timer else None
  return Estimate(
    calls_bound=rehearsal.bound(resolved, task, moving),
    most=most,
    expected=expected,
    memory=need,
    checkpoint=memory.checkpoint(resolved, task, specs, checked),
    saved=memory.saved_experts(resolved, specs, checked),
    rates=rates,
    seconds=_seconds(expected, rates) if rates else {},
    elsewhere={
      name: _elsewhere(each, task, shapes, expected)
      for name, each in ACCELERATORS.items()
    },
  )


def lines(found: Estimate) -> list[str]:
  """The estimate in words."""
  e, m = found.expected.whole, found.most.whole
  told = [
    f"calls: at most {found.calls_bound:,}; about {e.calls:,.0f}, of which about"
    f" {e.made:,.0f} are made (at most {max(m.made, e.made):,.0f} if no two replies"
    " agree)",
    f"tokens of calls that are made: about {e.prompt_tokens:,.0f} of prompts and"
    f" {e.new_tokens:,.0f} new ones; the final test is"
    f" {found.expected.test.made / max(1, e.made):.0%} of the calls",
    *_verdicts(found),
    f"memory: {footprint.told(found.memory)}",
    f"disk: {_mib(found.checkpoint)} a checkpoint, {_mib(found.saved)} for the found"
    " experts at most",
  ]
  if found.rates:
    s = found.seconds
    told.append(
      f"here: {s['iteration']:.1f} s an iteration, {s['whole']:.0f} s in all (search"
      f" {s['search']:.0f}, final test {s['test']:.0f}); {s['first']:.0f} s the first"
      f" time, with {found.rates.load:.0f} s to load and about"
      f" {found.rates.compile:.0f} s to compile"
    )
  told.append("elsewhere, one device, by arithmetic with half of its data sheet:")
  for name, seconds in found.elsewhere.items():
    said = "does not fit" if seconds is None else f"{seconds:,.0f} s in all"
    told.append(f"  {name}: {said}")
  return told


class _Timer:
  """The pool, loaded, and how long it takes for calls of the search.

  Attributes:
    phrases: what its experts said.
  """

  def __init__(self, config, task: base.Task):
    began = time.perf_counter()
    self._experts: Experts = engine.make_experts(
      search.pool(config), config.engine, keep=False
    )
    self._statistics: Any = self._experts.statistics  # the engine always has them
    self._load, self._parts = time.perf_counter() - began, []
    roots = _roots(config, task, len(self._experts.names))
    said = self._time(roots)
    by_expert: dict[int, list[str]] = {}
    for request, reply in zip(roots, said):
      by_expert.setdefault(request.expert, []).append(reply.text or "-")
    every = [text for texts in by_expert.values() for text in texts]
    self.phrases = lambda expert: by_expert.get(expert, every)

  def rates(self, inner: Sequence[Request]) -> Rates:
    if inner:
      self._time(inner)
    cold, warm = (sum(part[i] for part in self._parts) for i in (0, 1))
    prefill = sum(part[2]["prefill_seconds"] for part in self._parts)
    decode = sum(part[2]["decode_seconds"] for part in self._parts)
    rest = max(0.0, warm - prefill - decode)  # text, placing, merging
    prompts = sum(part[3] for part in self._parts)
    new = sum(part[4] for part in self._parts)
    share = prefill / max(prefill + decode, 1e-9)
    return Rates(
      prompt=(prefill + share * rest) / max(1, prompts),
      new=(decode + (1 - share) * rest) / max(1, new),
      compile=max(0.0, cold - warm),
      load=self._load,
    )

  def _time(self, requests):
    """Asks twice: with compiling, and without. The replies."""
    began = time.perf_counter()
    self._experts.ask(requests)
    cold = time.perf_counter() - began
    before = self._statistics()
    began = time.perf_counter()
    replies = self._experts.ask(requests)
    warm = time.perf_counter() - began
    after = self._statistics()
    spent = {k: after[k] - before[k] for k in ("prefill_seconds", "decode_seconds")}
    tokens = sum(r.prompt_tokens for r in replies), sum(r.new_tokens for r in replies)
    self._parts.append((cold, warm, spent, *tokens))
    return replies


def _roots(config, task, num) -> list[Request]:
  """Calls of the experts alone, as a search begins."""
  each = max(1, min(len(task.dev), _SAMPLE // num))
  prompt = lambda e: config.wording.question.replace("{prompt}", task.prompt(e))
  return [
    Request(expert, prompt(example), task.limit, task.chat)
    for example in task.dev[:each]
    for expert in range(num)
  ]


def _guessed(limit):
  """Replies of half the tokens that they may have."""
  size = max(1, limit // 2)
  turn = lambda i: [_WORDS[(i + k) % len(_WORDS)] for k in range(size)]
  said = [" ".join(turn(i)) for i in range(len(_WORDS))]
  return lambda expert: said


def _seconds(found: rehearsal.Rehearsed, rates: Rates) -> dict[str, float]:
  ask = lambda c: rates.prompt * c.prompt_tokens + rates.new * c.new_tokens
  calls = max(1.0, found.whole.calls)
  rest = lambda c: found.seconds * c.calls / calls
  each = {
    "iteration": ask(found.iteration) + rest(found.iteration),
    "search": ask(found.search) + rest(found.search),
    "test": ask(found.test) + rest(found.test),
  }
  whole = each["search"] + each["test"]
  return {**each, "whole": whole, "first": whole + rates.load + rates.compile}


def _elsewhere(device: Accelerator, task, shapes, found) -> float | None:
  """Seconds of the whole on one device: weights are read once a step of all lanes, and
  every prompt token is two operations a weight."""
  planned = int(device.memory * _PLANNED)
  rows = max(1, round(found.search.made / max(1, found.waves)))
  total = 0.0
  share = 1 / len(shapes)  # of the calls, by group
  whole = found.whole
  context = whole.prompt_tokens / max(1, whole.made) + task.limit
  for shape in shapes:
    half = shape._replace(dtype=np.dtype(jax.numpy.bfloat16))
    need = footprint.of_group(half, int(context), task.limit, rows, planned, "gpu")
    if need.total > planned:
      return None
    held = need.weights + need.particles // footprint.COPIES
    most = footprint.lanes_that_fit(half.config, int(context), held, planned, "gpu")
    lanes = min(rows, most)
    one = need.weights / (shape.experts if shape.kind == "full" else 1)
    operations = one * whole.prompt_tokens  # two a weight of two bytes
    cache = footprint.token_bytes(half.config, "gpu") * context
    steps = whole.new_tokens / lanes
    read = steps * (one + lanes * cache)
    busy = (operations / device.operations + read / device.read) / _REACHED
    total += share * (busy + steps * half.config.layers * _LAUNCH)
  return total


def _verdicts(found: Estimate) -> list[str]:
  """A line on a judge that is no expert of the pool, if there is one."""
  e, m = found.expected.verdicts, found.most.verdicts
  if not e.calls:
    return []
  return [
    f"verdicts of a judge that is asked apart: about {e.made:,.0f} (at most"
    f" {max(m.made, e.made):,.0f}) with {e.prompt_tokens:,.0f} tokens of prompts, as"
    " the pool's first expert counts them; its time is not in the seconds below"
  ]


def _mib(count: int) -> str:
  return f"{count / 2**20:,.1f} MiB"


def as_json(found: Estimate) -> dict[str, Any]:
  """The figures of an estimate."""
  counts = lambda r: {
    name: getattr(r, name)._asdict()
    for name in ("search", "iteration", "test", "whole", "verdicts")
  }
  return {
    "calls_bound": found.calls_bound,
    "expected": counts(found.expected),
    "most": counts(found.most),
    "memory": {**found.memory._asdict(), "total": found.memory.total},
    "checkpoint": found.checkpoint,
    "saved": found.saved,
    "rates": found.rates and found.rates._asdict(),
    "seconds": dict(found.seconds),
    "elsewhere": dict(found.elsewhere),
  }
