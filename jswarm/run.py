"""One run of a search in a workdir: resume or start -> iterate -> test -> results.json.

The workdir is the run: calling again with the same configuration continues it, with
another one is refused.
"""

from collections.abc import Callable, Mapping
import dataclasses
import fcntl
import json
import os
import pathlib
import time
from typing import Any

from absl import logging
import jax
import numpy as np

from jswarm import graphs, messages, stats, swarm, system
from jswarm.checkpoint import Checkpoints
from jswarm.state import Settings, State, System, blank
from jswarm.memo import Budget, Memo, Meter, versions
from jswarm.metrics import Log, write_evaluations, write_json
from jswarm.tasks.base import Task
from jswarm.types import Experts
from jswarm.utility import Evaluation, Evaluator

# Fields that do not define the search: a resumed run may change them.
FREE = ("search.iterations", "budget.", "log.", "checkpoint.", "engine.compile_cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Everything a run needs; made by `build`.

  Attributes:
    config: the resolved configuration, flat: {"search.graphs": 10, ...}.
    judge: expert index or `ask` of another model, for judged tasks.
    clock: seconds; results.json keeps what it says under `timing` alone.
    progress: called as progress(calls made, calls asked for) after each batch.
  """

  seed: int
  task: Task
  experts: Experts
  wording: messages.Wording
  settings: Settings
  meter: Meter
  config: Mapping[str, Any]
  judge: Any = None
  every: int = 1
  keep: int = 2
  tensorboard: bool = False
  baselines: bool = False
  progress: Callable[[int, int], None] | None = None
  clock: Callable[[], float] = time.monotonic


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run found.

  Attributes:
    results: the content of results.json.
    system: the best system of the search; state: the whole last state.
    tested: the evaluation on test of each contender, by name.
  """

  results: dict[str, Any]
  system: System
  state: State
  tested: dict[str, Evaluation]


def run(plan: Plan, workdir: str | None) -> Result:
  """Runs or continues the search in `workdir` (None: keeps nothing on disk).

  Raises:
    ValueError: the workdir belongs to another configuration (with the difference),
      or a question does not fit a context.
    UtilityBroken: the utility failed five times in a row.
  """
  began = plan.clock()
  folder = pathlib.Path(workdir) if workdir else None
  held = lock(folder) if folder else None
  if folder:
    claim(folder, {**plan.config, "pool.versions": versions(
        plan.experts, plan.experts.weights)})
  memo = Memo(plan.experts, plan.meter, plan.clock, plan.progress)
  evaluator = Evaluator(plan.task, memo.experts, plan.wording, plan.judge)
  evaluator.check_room()
  files = _Files(folder, plan) if folder else None
  problem = swarm.Problem(memo.experts, evaluator, plan.task.dev)
  state, history, singles, reason = _search(plan, problem, memo, files)
  result = _finish(plan, problem, state, history, singles, reason)
  result.results["timing"] = {"seconds": round(plan.clock() - began, 3),
                              "seconds_asking": round(plan.meter.seconds, 3),
                              "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
  if files:
    files.finish(plan, result)
    held.close()
  return result


def claim(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Makes the workdir this configuration's, or raises with the difference."""
  path = folder / "config.json"
  if path.exists():
    saved = json.loads(path.read_text())
    now = json.loads(json.dumps(dict(config)))
    changed = [k for k in sorted(saved.keys() | now.keys())
               if saved.get(k) != now.get(k) and not k.startswith(FREE)]
    if changed:
      lines = [f"  {k}: {saved.get(k)!r} there, {now.get(k)!r} now" for k in changed]
      raise ValueError(f"{folder} holds a run of another configuration; use a new"
                       " --workdir, or the same configuration to continue it:\n"
                       + "\n".join(lines))
  folder.mkdir(parents=True, exist_ok=True)
  write_json(path, config)


def lock(folder: pathlib.Path):
  """Holds the workdir until the process ends, however it ends.

  Raises:
    ValueError: another process runs there; two would overwrite each other.
  """
  folder.mkdir(parents=True, exist_ok=True)
  file = open(folder / ".lock", "a+", encoding="utf-8")
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.seek(0)
    raise ValueError(f"{folder} is in use by process {file.read() or '?'}: wait for it,"
                     " end it, or use another --workdir.") from error
  file.truncate(0)
  file.write(str(os.getpid()))
  file.flush()
  return file


class _Files:
  """Checkpoints and logs of a workdir."""

  def __init__(self, folder, plan):
    self.folder, self._plan = folder, plan
    self.checkpoints = Checkpoints(folder / "checkpoints", plan.keep)
    self.log = None

  def open(self, after):
    self.log = Log(self.folder, after, self._plan.tensorboard)

  def record(self, iteration, infos, history):
    ids = [example.id for example in self._plan.task.dev]
    for info in infos:
      self.log.evaluations(iteration, info.step, ids, info.evaluations)
    self.log.write(iteration, history[-1])

  def finish(self, plan, result):
    write_evaluations(self.folder / "evals" / "test.jsonl",
                      [example.id for example in plan.task.test],
                      list(result.tested.items()))
    system.save(self.folder / "best", result.system, plan.experts, plan.wording,
                limit=plan.task.limit, chat=plan.task.chat,
                context={"task": plan.task.name, "dev": result.results["dev"],
                         "test": result.results["test"]})
    write_json(self.folder / "results.json", result.results)
    self.log.close()
    self.checkpoints.close()


def _search(plan, problem, memo, files):
  """(state, history, singles, finish_reason)."""
  key = jax.random.key(plan.seed)
  state, history, singles = _restore(plan, problem, memo, files)
  if files:
    files.open(int(state.iteration) if state else -1)
  try:
    if state is None:
      singles = _singles(problem, files)
      state, infos = swarm.start(key, problem, plan.settings)
      history.append(_row(infos, state, plan.meter))
      _commit(plan, problem, memo, files, state, history, singles, infos)
    while (reason := _reason(plan, state, files)) is None:
      state, infos = swarm.iterate(key, state, problem, plan.settings)
      history.append(_row(infos, state, plan.meter))
      _commit(plan, problem, memo, files, state, history, singles, infos)
  except Budget as over:
    if state is None:
      raise ValueError(f"{over.reason} is spent before the first graphs are scored:"
                       " raise it, or search fewer graphs or examples.") from over
    reason = over.reason
  return state, history, singles, reason


def _reason(plan, state, files):
  """Why the search ends here, or None."""
  if files and (files.folder / "STOP").exists():
    return "stop_file"
  if swarm.exhausted(state, plan.settings):
    return "patience"
  return "max_iterations" if int(state.iteration) >= plan.settings.iterations else None


def _singles(problem, files):
  """Dev utility of each expert alone, as it came."""
  experts = problem.experts
  jobs = [messages.single(e) for e in range(len(experts.names))]
  evaluations = problem.evaluator.evaluate(jobs, problem.examples)
  named = list(zip(experts.names, evaluations))
  if files:
    files.log.evaluations(0, "single", [e.id for e in problem.examples], named)
  return {name: e.utility for name, e in named}


def _row(infos, state, meter):
  """One line of metrics.jsonl; nothing in it depends on the clock."""
  row = {"iteration": int(state.iteration), "best": float(state.best.utility),
         "stalled": int(state.stalled), **meter.spent}
  for info in infos:
    row.update({f"{info.step}/{name}": value for name, value in info.metrics.items()})
  logging.info("iteration %d: best %.4f, %d of %d calls made", row["iteration"],
               row["best"], row["made"], row["calls"])
  return row


def _commit(plan, problem, memo, files, state, history, singles, infos):
  """Logs, then checkpoints: a kill in between repeats the iteration, rows and all."""
  memo.forget(swarm.role_weights(state, plan.settings))
  if not files:
    return
  files.record(int(state.iteration), infos, history)
  if int(state.iteration) % plan.every == 0:
    evaluator = problem.evaluator
    files.checkpoints.save(int(state.iteration), state, {
        "memo": memo.state(), "spent": plan.meter.spent, "seconds": plan.meter.seconds,
        "history": history, "singles": singles,
        "failures": [evaluator.failed, evaluator.in_a_row, evaluator.first_error]})


def _restore(plan, problem, memo, files):
  """(state, history, singles) of the newest checkpoint, or nothing to start from."""
  found = None
  if files:
    found = files.checkpoints.restore(
        jax.eval_shape(lambda: blank(problem.experts, plan.settings)))
  if found is None:
    return None, [], {}
  step, state, host = found
  logging.info("Resuming %s after iteration %d.", files.folder, step)
  memo.restore(host["memo"])
  plan.meter.spent.update(host["spent"])
  plan.meter.seconds = host["seconds"]
  evaluator = problem.evaluator
  evaluator.failed, evaluator.in_a_row, evaluator.first_error = host["failures"]
  return state, host["history"], host["singles"]


def _finish(plan, problem, state, history, singles, reason):
  """Tests the best system beside what it has to beat."""
  plan.meter.armed = False
  experts, evaluator = problem.experts, problem.evaluator
  best_single = max(singles, key=lambda name: _or_low(singles[name]))
  initial = experts.weights
  contenders = {
      "system": (state.best.weights, system.job_of(state.best)),
      "initial": (initial, system.job_of(state.initial)),
      "best_single": (initial, messages.single(experts.names.index(best_single))),
  }
  if plan.baselines:
    contenders |= {name: (initial, job) for name, job in _topologies(plan).items()}
  tested = {}
  for name, (weights, job) in contenders.items():
    experts.install(weights)
    tested[name] = evaluator.evaluate([job], plan.task.test)[0]
  results = {
      "schema_version": 1, "task": plan.task.spec, "seed": plan.seed,
      "finish_reason": reason, "iterations": int(state.iteration),
      "dev": {"system": float(state.best.utility),
              "initial": float(state.initial.utility),
              "best_single": singles[best_single]},
      "test": {name: {**stats.summary(e.scores), **({"error": e.error} if e.error
                                                    else {})}
               for name, e in tested.items()},
      "best_single": best_single, "singles_dev": singles,
      "system_vs_best_single": _compare(tested["system"].scores,
                                        tested["best_single"].scores, plan.seed),
      "system": system.describe(state.best, experts.names),
      "spend": dict(plan.meter.spent), "failures": evaluator.failed,
      "history": history,
  }
  return Result(results, state.best, state, tested)


def _compare(a, b, seed):
  """The paired bootstrap; None where a failed test leaves nothing to compare."""
  if not np.isfinite(a - b).any():
    return None
  return stats.paired_bootstrap(a, b, seed=seed)


def _topologies(plan):
  """Fixed DAGs of the experts as they came, in the order of the pool."""
  size, key = len(plan.experts.names), jax.random.key(plan.seed)
  return {name: messages.make_job(graphs.TOPOLOGIES[name](size, key))
          for name in ("star", "chain", "random")}


def _or_low(value):
  return value if value is not None and np.isfinite(value) else -np.inf
