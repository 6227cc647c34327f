"""A search run through without a model, to count what it will ask.

    task, pool (checked, not loaded) -> the search itself, on a few examples -> Counts

Everything is the search's own: graphs are drawn and moved, prompts written and counted
by the experts' tokenizers, identical calls made once. Only what experts say and what
the utility thinks of it is drawn at random. Calls of an example do not depend on other
examples, so those of a few are scaled to all.
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import hashlib
import time
from typing import NamedTuple

from absl import logging
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Experts, Reply, Request
from jswarm.engine import texts
from jswarm.pool import load
from jswarm.pool.specs import Spec
from jswarm.run import loop, session
from jswarm.systems.budget import Meter
from jswarm.tasks import base
from jswarm.wiring.config import Resolved

_EXECUTIONS = 4_000  # of nodes in one run, about: seconds
_RUNS = 3  # what is found, and so what is scored anew, is chance
_EXAMPLES = 8  # more of them say nothing new
_SAMPLE = 48  # prompts of inner nodes that are kept

Phrases = Callable[[int], Sequence[str]]
"""What an expert may say, by its index."""


class Counts(NamedTuple):
  """What is asked of the pool, of all examples.

  Attributes:
    calls: node executions. made: those that reach a model.
    prompt_tokens, new_tokens: of the calls that are made.
  """

  calls: float
  made: float
  prompt_tokens: float
  new_tokens: float

  def plus(self, other: "Counts", times: float = 1.0) -> "Counts":
    return Counts(*(a + times * b for a, b in zip(self, other)))


class Rehearsed(NamedTuple):
  """What a search asks.

  Attributes:
    search: of the whole search; iteration: of one iteration on average; test: of the
      final test, with what its contenders ask on dev.
    verdicts: of a judge that is no expert of the pool, which is asked apart.
    waves: times that the pool is asked in the search.
    seconds: of all that is no model: prompts, graphs, particles.
    inner: some requests of nodes that read others, as they were made.
  """

  search: Counts
  iteration: Counts
  test: Counts
  waves: int
  seconds: float
  inner: list[Request]
  verdicts: Counts

  @property
  def whole(self) -> Counts:
    return self.search.plus(self.test)


def bound(config: Resolved, task: base.Task, moving: bool) -> int:
  """Node executions at most: no patience, and a new reference graph every time.

  (T + 1) (G + A) n D of the paper, and in `fixed` mode the swarm's best graph and the
  pool as it is once more an iteration, and the personal bests anew; the experts alone
  on dev; the final test.
  """
  s, num = config.swarm, len(config.pool.experts)
  fixed = s.mode == "fixed"
  role = s.graphs + fixed if s.steps != "weight" else 0
  weight = (2 * s.assignments + 1 if fixed else s.assignments) if moving else 0
  if moving and s.credit == "replace":
    weight = num + 1  # each alone, and all that gained together
  first = s.graphs + (s.assignments if moving else 0)
  systems = first + s.iterations * (role + weight) + (s.result == "last")
  turns = 2 if task.followup else 1
  test = (2 + 4 * config.baselines) * num + 1
  if config.baselines:
    test += num  # of random search, which scores as many systems on dev
    systems *= 2
  return turns * (num * (systems + 1) * len(task.dev) + test * len(task.test))


def rehearse(
  config: Resolved,
  task: base.Task,
  specs: Sequence[Spec],
  checked: load.Checked,
  phrases: Phrases,
  variety: int,
  rater: int | None = None,
) -> Rehearsed:
  """Runs the search on as many examples as take seconds.

  Args:
    phrases: what is said; each of some tokens.
    rater: the expert of the pool that judges; None: none of them.
    variety: how many different replies an expert gives to prompts that differ in what
      they quote; 0: never the same twice, which makes the most calls.
  """
  groups = tuple(
    tuple(i for mine, _ in entries for i in mine)
    for _, entries in load.divide(specs, checked)
    if sum(len(mine) for mine, _ in entries) > 1
  )
  moving = config.swarm.steps != "role" and bool(groups)
  each = max(1, bound(config, task, moving) // max(1, len(task.dev) + len(task.test)))
  few = min(len(task.dev), max(1, min(_EXAMPLES, _EXECUTIONS // each)))
  small = dataclasses.replace(
    task,
    dev=task.dev[:few],
    test=task.test[:few],
    score=_draw,
    followup=task.followup and dataclasses.replace(task.followup, score=_draw_checked),
    judge=task.judge and dataclasses.replace(task.judge, parse=_rating),
  )
  dev, test = len(task.dev) / few, len(task.test) / max(1, len(small.test))
  bench = None
  if small.judge and rater is None:
    bench = _Bench(
      small.judge, small.test, texts.unloaded(specs, checked, config.engine)
    )
    small = dataclasses.replace(
      small, judge=dataclasses.replace(small.judge, prompt=bench.prompt)
    )
  search = iteration = tested = Counts(0, 0, 0, 0)
  asked, seconds = _Asked(phrases, variety), 0.0
  for run in range(_RUNS):
    began = time.perf_counter()
    if bench:
      bench.begin()
    pool = _pool(specs, checked, config, groups, asked)
    rows, whole, on_dev = _run(config, run, small, pool, rater)
    seconds += time.perf_counter() - began
    search = search.plus(rows[-1], dev / _RUNS)
    between = rows[-1].plus(rows[0], -1.0)
    iteration = iteration.plus(between, dev / _RUNS / max(1, len(rows) - 1))
    after = whole.plus(rows[-1], -1.0).plus(on_dev, -1.0)
    tested = tested.plus(after, test / _RUNS).plus(on_dev, dev / _RUNS)
  return Rehearsed(
    search,
    iteration,
    tested,
    waves=asked.waves // _RUNS,
    seconds=(seconds - asked.seconds) * dev / _RUNS,
    inner=asked.inner,
    verdicts=bench.counts(dev / _RUNS, test / _RUNS) if bench else Counts(0, 0, 0, 0),
  )


def _run(config, run, task, pool, rater) -> tuple[list[Counts], Counts, Counts]:
  """(after each iteration, after the final test, of that on dev) of a search that draws
  other numbers in each run."""
  meter = Meter()
  with _quiet():
    plan = _plan(config, task, pool, meter, rater)
    result = loop.run(dataclasses.replace(plan, seed=config.seed + run), None)
  rows = [_counts(row) for row in result.results["history"]]
  return rows, _counts(meter.spent), _counts(result.on_dev)


def _pool(specs, checked, config, groups, asked: "_Asked") -> Experts:
  """The pool, with two numbers for the weights of each expert that can move."""
  words = texts.unloaded(specs, checked, config.engine, asked.ask)
  return words._replace(
    groups=groups,
    weights=tuple(_particles(len(members)) for members in groups),
    install=asked.install,
    fixed=tuple(spec.name for spec in specs),
  )


class _Asked:
  """Experts that draw what they say from phrases."""

  def __init__(self, phrases: Phrases, variety: int):
    self._phrases, self._variety = phrases, variety
    self._weights = b""
    self.waves, self.inner, self.seconds = 0, [], 0.0

  def install(self, weights) -> None:
    leaves = [np.asarray(tree["w"]).tobytes() for tree in weights]
    self._weights = hashlib.sha256(b"".join(leaves)).digest()

  def ask(self, requests: Sequence[Request], of: list[texts.Text]) -> list[Reply]:
    self.waves += 1
    began = time.perf_counter()
    replies = [self._reply(request, of[request.expert]) for request in requests]
    room = _SAMPLE - len(self.inner)
    if self.waves > 2 and room > 0:  # the first are the experts alone, and roots
      self.inner += list(requests[: max(1, room // 4)])
    self.seconds += time.perf_counter() - began
    return replies

  def _reply(self, request, text):
    place = hashlib.sha256(
      self._weights + f"{request.expert}|{request.prompt}".encode("utf-8", "replace")
    )
    number = int.from_bytes(place.digest()[:6], "big")
    said = self._phrases(request.expert)
    if self._variety:
      words = said[number % min(self._variety, len(said))]
    else:
      words = f"{said[number % len(said)]} {number % 100_000}"
    words = text.clip(words, request.limit)
    prompt = len(text.encode(request.prompt, request.chat))
    return Reply(words, prompt, max(1, text.count(words)))


def _particles(count):
  rows = np.random.default_rng(0).normal(size=(count, 2))
  return {"w": jnp.asarray(rows, jnp.float32)}


class _Bench:
  """A judge that is no expert of the pool: what it is asked, by split.

  Verdicts are asked once for a question, whatever the split, in all of a search; tokens
  are those of the pool's first expert, since nobody knows a server's.
  """

  def __init__(self, judge: base.Judge, test: Sequence[base.Example], words: Experts):
    self._judge, self._words = judge, words
    self._test = {id(example) for example in test}
    self._asked = {False: [0, 0, 0], True: [0, 0, 0]}  # calls, made, tokens
    self._seen: set[str] = set()

  def prompt(self, example, reply) -> str:
    text = self._judge.prompt(example, reply)
    counts = self._asked[id(example) in self._test]
    counts[0] += 1
    if text not in self._seen:
      self._seen.add(text)
      counts[1] += 1
      counts[2] += self._words.count(0, text)
    return text

  def begin(self) -> None:
    """Another search, which knows nothing of those before."""
    self._seen.clear()

  def counts(self, dev: float, test: float) -> Counts:
    """Of all runs, each split times a number."""
    of = lambda c: Counts(c[0], c[1], c[2], c[1] * self._judge.limit)
    nothing = Counts(0, 0, 0, 0)
    on_dev, on_test = of(self._asked[False]), of(self._asked[True])
    return nothing.plus(on_dev, dev).plus(on_test, test)


def _verdicts(requests: Sequence[Request]) -> list[Reply]:
  return [Reply(request.prompt, 0, 0) for request in requests]


def _plan(config, task, pool: Experts, meter, rater) -> session.Plan:
  # Nobody knows what the utility will be: patience is not what is counted.
  patient = dataclasses.replace(
    config.swarm.role, patience=config.swarm.iterations + config.swarm.role.patience
  )
  judge = None
  if task.judge:
    judge = lambda memo: _verdicts if rater is None else memo.as_loaded(rater)
  return session.Plan(
    seed=config.seed,
    task=task,
    experts=pool,
    wording=config.wording,
    settings=dataclasses.replace(config.swarm, role=patient),
    meter=meter,
    config={},
    judge=judge,
    baselines=config.baselines,
  )


def _counts(row) -> Counts:
  return Counts(*(float(row[name]) for name in Meter.FIELDS))


def _draw(examples, replies) -> np.ndarray:
  """A utility that tells replies apart, and nothing else."""
  draw = lambda e, reply: hashlib.sha256(f"{e.id}|{reply}".encode()).digest()[0] / 255
  return np.array([draw(e, reply) for e, reply in zip(examples, replies)])


def _draw_checked(examples, replies, checks) -> np.ndarray:
  del checks
  return _draw(examples, replies)


def _rating(verdict: str) -> float:
  return 1.0 + hashlib.sha256(verdict.encode()).digest()[0] % 10


@contextlib.contextmanager
def _quiet():
  """What the rehearsal logs is no news."""
  before = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(before)
