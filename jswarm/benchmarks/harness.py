"""Timing of contenders, alternately in one process, and the records of it.

    Contender -> interleave -> Timing -> compare -> Record -> report

Shared machines change their speed by the minute, so contenders take turns (A B A B)
and what counts are ratios: of the medians, and the median of the ratios of each round.
A ratio is the peer's time over ours for the same work: above 1, ours is faster.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import time
from typing import Any, NamedTuple

from absl import logging
import jax
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What to measure.

  Attributes:
    repeats: rounds of a case after its warm-up.
    seconds: a case begins no further round after so long, but has two in any case.
    small: toy sizes and a toy model, to try the benchmarks themselves.
    dtypes: of the weights; peer_dtypes: of those of transformers, where others.
    batches: rows of `generate`; rows: of each of so many `experts`, whose adapters are
      of these shapes and served in these forms (empty: all).
    peers: suite `experts` is also timed beside peft.
    model: folder of the model; data: a published gsm8k.json, or self-made questions
      where there is no such file.
    worlds: names of synthetic worlds; steps: role, weight, both; empty: all.
    variants: of methods, some of a step's; empty: all. seeds: searches of a variant.
    dev: questions of a search; profile: folder of traces of our side, or empty.
  """

  repeats: int = 5
  seconds: float = 600.0
  small: bool = False
  dtypes: tuple[str, ...] = ("float32", "bfloat16")
  peer_dtypes: tuple[str, ...] = ()
  batches: tuple[int, ...] = (1, 8, 32, 64)
  rows: tuple[int, ...] = (1, 5, 50)
  experts: int = 10
  adapters: tuple[str, ...] = ()
  forms: tuple[str, ...] = ()
  peers: bool = True
  model: str = "models/smollm2-135m-instruct"
  data: str = ""
  worlds: tuple[str, ...] = ()
  steps: tuple[str, ...] = ()
  variants: tuple[str, ...] = ()
  seeds: int = 5
  dev: int = 4
  profile: str = ""
  seed: int = 0

  @property
  def theirs(self) -> tuple[str, ...]:
    """Dtypes of transformers."""
    return self.peer_dtypes or self.dtypes


class Contender(NamedTuple):
  """One way to do a job.

  Attributes:
    name: with the dtype, where that matters.
    run: does the job once, waits for the device, and says how much work it was, such
      as {"prompt_tokens": 128, "new_tokens": 64}. None: it cannot run here.
    ours: it is what gets profiled; missing: why it cannot run.
  """

  name: str
  run: Callable[[], Mapping[str, int]] | None
  ours: bool = False
  missing: str = ""


class Timing(NamedTuple):
  """Seconds of each round, and the work of one."""

  name: str
  seconds: tuple[float, ...]
  work: Mapping[str, int]
  missing: str = ""


class Spread(NamedTuple):
  """Median and quartiles."""

  median: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """One row of a table.

  Attributes:
    unit: what the amounts count; ours_ms, theirs_ms: milliseconds a unit.
    ratio: of the medians; paired: of each round.
    rounds: that were measured; extra: other numbers; note: what to know.
  """

  suite: str
  case: str
  ours: str
  theirs: str = ""
  unit: str = ""
  ours_ms: Spread | None = None
  theirs_ms: Spread | None = None
  ratio: float | None = None
  paired: Spread | None = None
  rounds: int = 0
  extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  note: str = ""


def optional(
  name: str, build: Callable[[], Callable[[], Mapping[str, int]]]
) -> Contender:
  """A peer whose package may not be there; `build` imports it and gives its `run`."""
  try:
    return Contender(name, build())
  except ImportError as error:
    return Contender(name, None, missing=f"not installed ({error})")


def interleave(
  contenders: Sequence[Contender],
  options: Options,
  label: str,
  clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
  """Runs each once to warm up, then all in turn, round after round.

  A warm-up that alone took longer than `options.seconds` is the one round of its case:
  compiling is little of so much.
  """
  able = [c for c in contenders if c.run is not None]
  seconds = {c.name: [] for c in able}
  began = clock()
  work = {c.name: _timed(c, seconds, clock) for c in able}
  if clock() - began <= options.seconds:
    seconds = {c.name: [] for c in able}
    began = clock()
    for turn in range(options.repeats):
      if turn >= 2 and clock() - began > options.seconds:
        break
      for contender in able:
        _timed(contender, seconds, clock)
  logging.info(
    "%s: %d rounds in %.0f s.", label, len(seconds[able[0].name]), clock() - began
  )
  _trace(able, options, label)
  return {
    c.name: Timing(
      c.name, tuple(seconds.get(c.name, ())), work.get(c.name, {}), c.missing
    )
    for c in contenders
  }


def _timed(contender, seconds, clock):
  start = clock()
  work = dict(contender.run())
  seconds[contender.name].append(clock() - start)
  return work


def _trace(contenders, options, label):
  """A Perfetto trace of one more run of the first of ours."""
  ours = [c for c in contenders if c.ours]
  if not options.profile or not ours:
    return
  folder = os.path.join(
    options.profile, "".join(c if c.isalnum() else "_" for c in label)
  )
  with jax.profiler.trace(folder, create_perfetto_trace=True):
    ours[0].run()


def minus(whole: Timing, part: Timing) -> Timing:
  """What is left of `whole`, round by round, when `part` of it is taken away."""
  seconds = tuple(a - b for a, b in zip(whole.seconds, part.seconds))
  work = {k: v - part.work.get(k, 0) for k, v in whole.work.items()}
  return Timing(whole.name, seconds, work, whole.missing)


def spread(values: Sequence[float]) -> Spread | None:
  if not len(values):
    return None
  low, median, high = np.percentile(values, (25, 50, 75)).tolist()
  return Spread(median, low, high)


def compare(
  suite: str,
  case: str,
  ours: Timing,
  theirs: Timing | None,
  *,
  unit: str,
  count: str,
  same: Sequence[str] = (),
  extra: Mapping[str, Any] | None = None,
  note: str = "",
) -> Record:
  """The row of one contender beside another.

  Args:
    unit, count: what is counted, in words and as a name in the `work` of both.
    same: names in `work` that have to be equal.

  Raises:
    ValueError: the two did not do the same work.
  """
  mine = [1000 * s / ours.work[count] for s in ours.seconds]
  row = Record(
    suite=suite,
    case=case,
    ours=ours.name,
    unit=unit,
    ours_ms=spread(mine),
    rounds=len(mine),
    extra=dict(extra or {}),
    note=note,
  )
  if theirs is None:
    return row
  if theirs.missing:
    return dataclasses.replace(row, theirs=theirs.name, note=theirs.missing)
  _check_same(case, ours, theirs, same)
  other = [1000 * s / theirs.work[count] for s in theirs.seconds]
  good = min(*mine, *other) > 0  # a difference of timings may be all noise
  return dataclasses.replace(
    row,
    theirs=theirs.name,
    theirs_ms=spread(other),
    ratio=float(np.median(other) / np.median(mine)) if good else None,
    paired=spread([b / a for a, b in zip(mine, other)]) if good else None,
  )


def _check_same(case, ours, theirs, same):
  wrong = {
    key: (ours.work[key], theirs.work[key])
    for key in same
    if ours.work[key] != theirs.work[key]
  }
  if wrong:
    raise ValueError(
      f"{case}: {ours.name} and {theirs.name} did different work"
      f" {wrong}; a ratio of their times would mean nothing."
    )
