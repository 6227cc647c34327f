"""Suite `compile`: from the start of a process to the first token of a search, and on.

Cold: the persistent compile cache is empty; warm: it holds what the cold run left.
"""

from collections import Counter
import os
import tempfile
import time

import jax
import jax.monitoring

from jswarm.benchmarks import child, workload
from jswarm.benchmarks.harness import Options, Record, Timing, compare, spread
from jswarm.engine import engine
from jswarm.graphs import decode
from jswarm.systems import prompts, system, waves
from jswarm.tasks.synthetic import stories
from jswarm.wiring import config

_COMPILED = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"
PARTS = ("imports", "loading", "first token", "first wave", "all waves")
_CACHE = {
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def run(options: Options) -> list[Record]:
  """Cold beside warm; a round is a fresh cache and two processes."""
  rounds = [_round(options) for _ in range(min(options.repeats, 3))]
  warm, cold = ([pair[i] for pair in rounds] for i in (1, 0))
  row = compare(
    "compile",
    "start to the first token",
    _timing("warm start", warm),
    _timing("cold start", cold),
    unit="start",
    count="starts",
    extra={
      "programs": cold[0]["programs"],
      "compiled when warm": warm[0]["programs"] - warm[0]["hits"],
      "files in the cache": cold[0]["files"],
    },
  )
  parts = [
    Record(
      suite="compile",
      case=part,
      ours="warm start",
      theirs="cold start",
      unit="start",
      rounds=len(rounds),
      ours_ms=_spread(warm, part),
      theirs_ms=_spread(cold, part),
    )
    for part in PARTS
  ]
  return [row, *parts]


def _spread(runs, part):
  return spread([1000 * found[part] for found in runs])


def _timing(name, runs):
  return Timing(name, tuple(found["total"] for found in runs), {"starts": 1})


def _round(options):
  """(cold, warm), each what `first_replies` found."""
  arguments = {
    "model": options.model,
    "small": options.small,
    "dtype": options.dtypes[0],
    "count": options.dev,
  }
  with tempfile.TemporaryDirectory() as folder:
    both = []
    for _ in range(2):
      both.append(
        child.call(
          "jswarm.benchmarks.compile:first_replies",
          {**arguments, "began": time.time()},
          {**_CACHE, "JAX_COMPILATION_CACHE_DIR": folder},
        )
      )
      both[-1]["files"] = len(os.listdir(folder))
    return both


def first_replies(
  began: float, model: str, small: bool, dtype: str, count: int
) -> dict:
  """Seconds from `began` (of `time.time`) to the first token of a search's graphs, and
  by part."""
  events: Counter[str] = Counter()
  jax.monitoring.register_event_listener(lambda event, **_: events.update([event]))
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration_secs, **_: events.update([event])
  )
  marks = {"imports": time.time()}
  experts, jobs = _pool(model, small, dtype), _graphs()
  marks["loading"] = time.time()
  asked = []

  def ask(requests):
    replies = experts.ask(requests)
    asked.append(time.time())
    return replies

  _answer(experts._replace(ask=ask), jobs, count, small)
  marks |= {
    "first token": engine.statistics()["first_token"],
    "first wave": asked[0],
    "all waves": asked[-1],
  }
  seconds, last = {"total": marks["first token"] - began}, began
  for name, mark in marks.items():
    seconds[name], last = mark - last, mark
  return {**seconds, "programs": events[_COMPILED], "hits": events[_HIT]}


def _pool(model, small, dtype):
  base = workload.load(model, dtype, small)
  particles = workload.adapters(base.config, 10, 16, workload.ALL_PROJECTIONS)
  return workload.serve(workload.lora_pool(base, particles), {})


def _graphs():
  """The first graphs of a search of ten."""
  settings = decode.Settings(top_p=0.0)
  adjacency = decode.init_adjacency(jax.random.key(0), 10, 10)
  dags = jax.device_get(decode.decode_swarm(adjacency, None, settings))
  return [system.make_job(jax.tree.map(lambda x: x[g], dags)) for g in range(10)]


def _answer(experts, jobs, count, small):
  wording = config.resolve_default({}).wording
  asked = [
    prompts.Question(r["question"])
    for r in stories.questions("dev", count, 0, ("arithmetic",))
  ]
  terms = prompts.Terms(experts, wording, limit=4 if small else 48, chat=True)
  waves.run(waves.grid(jobs, [asked] * len(jobs)), terms, waves.direct(experts))
