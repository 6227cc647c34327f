"""Suite `search`: a role-step and a weight-step against the published calling order.

Ours is `steps.iterate` behind the memo, after `steps.start`: waves of all graphs, one
batch for all experts. The published order takes graph by graph, node by node, one model
at a time, on our engine and on transformers. It reads the prompts of our run and its
words are thrown away, replies never stop early: the work is the same, token by token.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import tempfile
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jswarm.benchmarks import peers, published, workload
from jswarm.benchmarks.harness import (
  Contender,
  Options,
  Record,
  Timing,
  compare,
  interleave,
  optional,
)
from jswarm.core.types import Experts, PyTree, Request
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.swarm import steps
from jswarm.systems import prompts as prompts_lib
from jswarm.systems import system
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.tasks import base as base_lib
from jswarm.tasks.synthetic import stories
from jswarm.wiring import config as config_lib
from jswarm.wiring import search

_MODEL = ", one model for all experts, loads not counted"
PARTS = ("text", "prefill", "decode")


class _Sizes(NamedTuple):
  experts: int
  graphs: int  # and assignments
  rank: int
  limit: int
  subset: int  # graphs, and assignments, that the published order is measured on
  projections: tuple[str, ...]


class _Phase(NamedTuple):
  """What a step asked: its weights, its graphs and every reply."""

  weights: tuple[PyTree, ...]
  jobs: tuple[system.Job, ...]
  said: dict[tuple[int, str], str]


@dataclasses.dataclass
class _Recording(Evaluator):
  """An evaluator that keeps the phases of the last iteration, and what is asked."""

  phases: list[_Phase] = dataclasses.field(default_factory=list)

  def __post_init__(self):
    self._ask = self.memo.ask
    self.memo.ask = self._asked_and_kept

  def evaluate(self, systems, examples):
    # All jobs of a step carry the same weights.
    self.phases.append(_Phase(systems[0].weights.trees, tuple(systems), {}))
    return super().evaluate(systems, examples)

  def _asked_and_kept(self, requests, weights=None):
    replies = self._ask(requests, weights)
    for request, reply in zip(requests, replies):
      self.phases[-1].said[request.expert, request.prompt] = reply.text
    return replies


class _Side(NamedTuple):
  """One engine with a started search on it."""

  base: workload.Base
  experts: Experts  # without the memo
  task: base_lib.Task
  wording: prompts_lib.Wording
  meter: Meter
  recording: _Recording
  iterate: Any


def _sizes(options):
  return (
    _Sizes(3, 2, 2, 4, 1, ("q", "v"))
    if options.small
    else _Sizes(10, 10, 16, 48, 2, workload.ALL_PROJECTIONS)
  )


def run(options: Options) -> list[Record]:
  """Ours and the published order on the same engine, by dtype, and on transformers."""
  sizes = _sizes(options)
  sides = {dtype: _side(options, dtype, sizes) for dtype in options.dtypes}
  contenders = []
  for dtype, side in sides.items():
    contenders += [
      Contender(f"jswarm {dtype}", side.iterate, ours=True),
      Contender(f"published order on our engine {dtype}", _on_engine(side, sizes)),
    ]
  with tempfile.TemporaryDirectory() as folder:
    first = next(iter(sides.values()))
    workload.export(first.base, folder)
    contenders += [
      optional(
        f"published order on transformers {dtype}",
        lambda d=dtype: _on_transformers(sides.get(d, first), sizes, folder, d),
      )
      for dtype in options.theirs
    ]
  timings = interleave(contenders, options, "search")
  return _records(sides, timings, sizes)


def _side(options, dtype, sizes):
  base = workload.load(options.model, dtype, options.small)
  particles = workload.adapters(
    base.config, sizes.experts, sizes.rank, sizes.projections
  )
  experts = workload.serve(workload.lora_pool(base, particles), {})
  published_file = options.data if pathlib.Path(options.data).is_file() else ""
  config = config_lib.resolve_default(
    {
      "search.mode": "as_published",
      "search.graphs": sizes.graphs,
      "search.assignments": sizes.graphs,
      "task.name": "gsm8k",
      "task.path": published_file,
      "task.limit": sizes.limit,
      "task.dev_size": options.dev,
      "task.test_size": 1,
    }
  )
  task = _task(config, options)
  meter = Meter()
  memo = Memo(experts, meter, time.perf_counter)
  recording = _Recording(task, memo, config.wording)
  iterate = _iterate(options.seed, memo, meter, recording, task.dev, config.swarm)
  return _Side(base, experts, task, config.wording, meter, recording, iterate)


def _task(config, options):
  """GSM8K from its published file, else sums in stories of our own."""
  if config.task.path:
    return search.task(config)
  records = {
    split: stories.questions(split, count, options.seed, ("arithmetic",))
    for split, count in (("dev", options.dev), ("test", 1))
  }
  return search.task(config, records)


def _iterate(seed, memo, meter, recording, examples, settings):
  """A function that does iteration 1, each time from the same start."""
  key = jax.random.key(seed)
  problem = steps.Problem(memo.experts, recording, examples)
  state, _ = steps.start(key, problem, settings)
  memo.forget(steps.role_weights(state, settings))
  replies = memo.state()

  def iterate():
    memo.restore(replies)
    recording.phases.clear()
    meter.spent.update(dict.fromkeys(meter.spent, 0))
    meter.seconds = 0.0
    steps.iterate(key, state, problem, settings)
    return {"calls": meter.spent["calls"]}

  return iterate


def _walk(side: _Side, sizes: _Sizes, install, ask) -> int:
  """The published order on the first graphs of each step; node executions."""
  questions = [side.task.prompt(example) for example in side.task.dev]
  calls = 0
  for phase in side.recording.phases:
    install(phase.weights)
    calls += sum(
      published.walk(job, questions, side.wording, phase.said, ask)
      for job in phase.jobs[: sizes.subset]
    )
  return calls


def _on_engine(side, sizes):
  def ask(expert: int, prompts: Sequence[str]):
    side.experts.ask(
      [Request(expert, p, side.task.limit, side.task.chat) for p in prompts]
    )

  return lambda: {"calls": _walk(side, sizes, side.experts.install, ask)}


def _on_transformers(side, sizes, folder, dtype):
  generate = peers.transformers_generate(folder, dtype)
  tokenizer = side.base.tokenizer

  def ask(expert: int, prompts: Sequence[str]):
    del expert  # the base stands for each: the values of weights do not change the time
    rows = tokenizer_lib.encode(tokenizer, prompts, side.task.chat)
    out = generate(rows, side.task.limit)
    if any(len(row) != side.task.limit for row in out):
      raise ValueError("transformers stopped before the limit: the work is not equal.")
    tokenizer_lib.decode(tokenizer, out)

  return lambda: {"calls": _walk(side, sizes, lambda weights: None, ask)}


def _records(sides, timings, sizes):
  rows = []
  note = f"timed on {min(sizes.subset, sizes.graphs)} of {sizes.graphs} graphs a step"
  others = [name for name in timings if name.startswith("published")]
  for dtype, side in sides.items():
    mine = timings[f"jswarm {dtype}"]
    extra = _facts(side, mine)
    for other in others:
      if "engine" in other and not other.endswith(dtype):
        continue
      rows.append(
        compare(
          "search",
          f"role-step and weight-step, {dtype}",
          mine,
          timings[other],
          unit="nominal call",
          count="calls",
          extra=extra,
          note=note + ("" if "engine" in other else _MODEL),
        )
      )
      extra = {}
  return rows


def _facts(side: _Side, timing: Timing) -> dict[str, Any]:
  """Counts of one more iteration, and where its time went."""
  start = time.perf_counter()
  _, counts = workload.counted(side.iterate)
  seconds = time.perf_counter() - start
  spent, typical = side.meter.spent, float(np.median(timing.seconds))
  parts = {part: counts[f"{part}_seconds"] for part in PARTS}
  parts["rest"] = seconds - sum(parts.values())
  return {
    "nominal calls": spent["calls"],
    "calls made": spent["made"],
    "share made": spent["made"] / spent["calls"],
    "prompt tokens": spent["prompt_tokens"],
    "new tokens": spent["new_tokens"],
    "prefill padding": counts["prefill_padding"],
    "idle decode slots": 1 - spent["new_tokens"] / max(1, counts["decode_slots"]),
    "new tokens/s": spent["new_tokens"] / typical,
    "all tokens/s": (spent["prompt_tokens"] + spent["new_tokens"]) / typical,
    **{f"time in {name}": value / seconds for name, value in parts.items()},
  }
