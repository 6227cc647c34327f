"""One run of a search in a workdir: resume or start -> iterate -> test -> results.json.

The workdir is the run: calling again with the same configuration continues it, with
another one is refused. Several processes run it together (see `ranks`): each on all of
the state, rank 0 alone on files and clocks.
"""

from collections.abc import Callable, Mapping
import dataclasses
import pathlib
import time
from typing import Any

from absl import logging
import jax
import numpy as np

from jswarm.core.digests import digest
from jswarm.core.types import Experts
from jswarm.distributed import processes as processes_lib
from jswarm.distributed import watchdog
from jswarm.graphs import decode
from jswarm.run.workdir import Files, enter
from jswarm.swarm import steps
from jswarm.swarm.state import Settings, State, template
from jswarm.systems import artifact, prompts
from jswarm.systems import scores as scores_lib
from jswarm.systems import system as system_lib
from jswarm.systems.budget import Budget, Meter
from jswarm.systems.evaluate import Evaluation, Evaluator, mean
from jswarm.systems.memo import Memo, versions
from jswarm.systems.system import System
from jswarm.systems.system_memo import DagCache
from jswarm.tasks.base import Task, UtilityError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Everything a run needs; made by `build`.

  Attributes:
    config: the resolved configuration, flat: {"search.graphs": 10, ...}.
    judge: expert index or `ask` of another model, for judged tasks.
    clock: seconds; results.json keeps what it says under `timing` alone.
    progress: called as progress(calls made, calls asked for) after each batch.
    processes: how long several processes wait for each other.
  """

  seed: int
  task: Task
  experts: Experts
  wording: prompts.Wording
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
  processes: watchdog.Settings = watchdog.Settings()


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
    RankError: another process failed or is lost.
  """
  with processes_lib.together(plan.processes):
    return _run(_divided(plan), pathlib.Path(workdir) if workdir else None)


def _run(plan, folder):
  began = plan.clock()
  config = {
    **plan.config,
    "pool.versions": versions(plan.experts, plan.experts.weights),
  }
  processes_lib.same("configuration", config)
  memo = Memo(plan.experts, plan.meter, plan.clock, plan.progress)
  judge = memo.as_loaded(plan.judge) if isinstance(plan.judge, int) else plan.judge
  evaluator = Evaluator(plan.task, memo.experts, plan.wording, judge, DagCache(memo))
  evaluator.check_room()  # before the workdir is claimed for this configuration
  held = enter(folder, config) if folder else None
  files = Files(folder, plan) if folder else None
  problem = steps.Problem(memo.experts, evaluator, plan.task.dev)
  state, history, singles, reason = _search(plan, problem, memo, files)
  tested = _tested(plan, problem, memo, files, state, singles)
  result = _result(plan, problem, state, history, singles, reason, tested)
  result.results["timing"] = {
    "seconds": round(plan.clock() - began, 3),
    "seconds_asking": round(plan.meter.seconds, 3),
    "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
  }
  if files:
    files.finish(plan, result)
  if held:
    held.close()
  return result


def _divided(plan):
  """The plan, with what several processes share or leave to one of them."""
  if processes_lib.count() == 1:
    return plan
  task = dataclasses.replace(plan.task, score=_scored_once(plan.task.score))
  if follow := task.followup:
    task = dataclasses.replace(
      task, followup=dataclasses.replace(follow, score=_scored_once(follow.score))
    )
  judge = processes_lib.spread_ask(plan.judge) if callable(plan.judge) else plan.judge
  return dataclasses.replace(
    plan,
    task=task,
    judge=judge,
    experts=processes_lib.spread(plan.experts),
    clock=processes_lib.on_writer("the clock", plan.clock),
  )


def _scored_once(score):
  """The utility need not be deterministic: all ranks take what rank 0 measured."""
  numbers = lambda *args: np.asarray(score(*args), float).tolist()
  return processes_lib.on_writer("the utility", numbers, UtilityError)


def _search(plan, problem, memo, files):
  """(state, history, singles, finish_reason)."""
  key = jax.random.key(plan.seed)
  state, history, singles = _restore(plan, problem, memo, files)
  if files:
    files.open(int(state.iteration) if state else -1)
  try:
    if state is None:
      processes_lib.phase("iteration 0")
      singles = _singles(problem, files)
      state, infos = steps.start(key, problem, plan.settings)
      history.append(_row(infos, state, plan.meter))
      _commit(plan, problem, memo, files, state, history, singles, infos)
    while (reason := _reason(plan, state, files)) is None:
      processes_lib.phase(f"iteration {int(state.iteration) + 1}")
      state, infos = steps.iterate(key, state, problem, plan.settings)
      history.append(_row(infos, state, plan.meter))
      _commit(plan, problem, memo, files, state, history, singles, infos)
  except Budget as over:
    if state is None:
      raise ValueError(
        f"{over.reason} is spent before the first graphs are scored:"
        " raise it, or search fewer graphs or examples."
      ) from over
    reason = over.reason
  return state, history, singles, reason


def _reason(plan, state, files):
  """Why the search ends here, or None; rank 0, which sees the file, decides."""
  return processes_lib.exchange("go on?", _due(plan, state, files))[0]


def _due(plan, state, files):
  if files and (files.folder / "STOP").exists():
    return "stop_file"
  if steps.exhausted(state, plan.settings):
    return "patience"
  return "max_iterations" if int(state.iteration) >= plan.settings.iterations else None


def _singles(problem, files):
  """Dev utility of each expert alone, as it came."""
  experts = problem.experts
  jobs = [system_lib.single(e) for e in range(len(experts.names))]
  evaluations = problem.evaluator.evaluate(jobs, problem.examples)
  named = list(zip(experts.names, evaluations))
  if files:
    files.singles(named)
  return {name: e.utility for name, e in named}


def _row(infos, state, meter):
  """One line of metrics.jsonl; nothing in it depends on the clock."""
  row = {
    "iteration": int(state.iteration),
    "best": float(state.best.utility),
    "stalled": int(state.stalled),
    **meter.spent,
  }
  for info in infos:
    row.update({f"{info.step}/{name}": value for name, value in info.metrics.items()})
  if processes_lib.is_writer():
    logging.info(
      "iteration %d: best %.4f, %d of %d calls made",
      row["iteration"],
      row["best"],
      row["made"],
      row["calls"],
    )
  return row


def _commit(plan, problem, memo, files, state, history, singles, infos):
  """Logs, then checkpoints: a kill in between repeats the iteration, rows and all."""
  if processes_lib.count() > 1:
    # What is spread over the processes is one array for all of them.
    own = list(filter(processes_lib.holds, jax.tree.leaves(state)))
    processes_lib.same(
      f"state after iteration {int(state.iteration)}",
      {"sha256": digest(own), **plan.meter.spent},
    )
  memo.forget(steps.role_weights(state, plan.settings))
  if not files:
    return
  files.record(int(state.iteration), infos, history)
  if int(state.iteration) % plan.every == 0:
    evaluator = problem.evaluator
    files.checkpoints.save(
      int(state.iteration),
      state,
      {**_spending(plan, evaluator, memo), "history": history, "singles": singles},
    )


def _spending(plan, evaluator, memo):
  """What was asked, spent and failed so far, for a bit-exact resume; JSON-able."""
  return {
    "memo": memo.state(),
    "spent": plan.meter.spent,
    "seconds": plan.meter.seconds,
    "failures": [evaluator.failed, evaluator.in_a_row, evaluator.first_error],
  }


def _resume(plan, evaluator, memo, kept):
  """Takes up what `_spending` kept."""
  memo.restore(kept["memo"])
  plan.meter.spent.update(kept["spent"])
  plan.meter.seconds = kept["seconds"]
  evaluator.failed, evaluator.in_a_row, evaluator.first_error = kept["failures"]


def _restore(plan, problem, memo, files):
  """(state, history, singles) of the newest checkpoint, or nothing to start from."""
  found = None
  if files:
    found = files.checkpoints.restore(template(problem.experts, plan.settings))
  if found is None:
    return None, [], {}
  step, state, host = found
  logging.info("Resuming %s after iteration %d.", files.folder, step)
  _resume(plan, problem.evaluator, memo, host)
  return state, host["history"], host["singles"]


def _tested(plan, problem, memo, files, state, singles):
  """{name: evaluation on test} of the best system and of what it has to beat.

  Kept after each contender: a run that is killed here goes on with the next one.
  """
  processes_lib.phase("the final test")
  plan.meter.armed = False
  experts, evaluator = problem.experts, problem.evaluator
  iteration, initial = int(state.iteration), experts.weights
  contenders = {
    "system": (state.best.weights, artifact.job_of(state.best)),
    "initial": (initial, artifact.job_of(state.initial)),
    "best_single": (
      initial,
      system_lib.single(experts.names.index(_best_single(singles))),
    ),
  }
  if plan.baselines:
    contenders |= {name: (initial, job) for name, job in _topologies(plan).items()}
  kept = processes_lib.exchange(
    "the tests so far", files and files.read_tests(iteration)
  )[0]
  if kept:
    _resume(plan, evaluator, memo, kept)
  rows = kept["tested"] if kept else {}
  for name, (weights, job) in contenders.items():
    if name in rows:
      continue
    logging.info("Testing %s on %d questions.", name, len(plan.task.test))
    experts.install(weights)
    done = evaluator.evaluate([job], plan.task.test)[0]
    rows[name] = [done.scores.tolist(), done.replies, done.error]
    if files:
      files.keep_tests(
        {"iteration": iteration, "tested": rows, **_spending(plan, evaluator, memo)}
      )
  return {name: _evaluation(*rows[name]) for name in contenders}


def _evaluation(scores, replies, error):
  scores = np.array(scores, float)  # None becomes NaN
  utility = float("nan") if error else mean(scores)
  return Evaluation(utility, scores, replies, error)


def _best_single(singles):
  return max(singles, key=lambda name: _or_low(singles[name]))


def _result(plan, problem, state, history, singles, reason, tested):
  """What stands in results.json."""
  best_single = _best_single(singles)
  results = {
    "schema_version": 1,
    "task": plan.task.spec,
    "seed": plan.seed,
    "finish_reason": reason,
    "iterations": int(state.iteration),
    "dev": {
      "system": float(state.best.utility),
      "initial": float(state.initial.utility),
      "best_single": singles[best_single],
    },
    "test": {
      name: {**scores_lib.summary(e.scores), **({"error": e.error} if e.error else {})}
      for name, e in tested.items()
    },
    "best_single": best_single,
    "singles_dev": singles,
    "system_vs_best_single": _compare(
      tested["system"].scores, tested["best_single"].scores, plan.seed
    ),
    "system": artifact.describe(state.best, plan.experts.names),
    "spend": dict(plan.meter.spent),
    "failures": problem.evaluator.failed,
    "history": history,
  }
  return Result(results, state.best, state, tested)


def _compare(a, b, seed):
  """The paired bootstrap; None where a failed test leaves nothing to compare."""
  if not np.isfinite(a - b).any():
    return None
  return scores_lib.paired_bootstrap(a, b, seed=seed)


def _topologies(plan):
  """Fixed DAGs of the experts as they came, in the order of the pool."""
  size, key = len(plan.experts.names), jax.random.key(plan.seed)
  return {
    name: system_lib.make_job(decode.TOPOLOGIES[name](size, key))
    for name in ("star", "chain", "random")
  }


def _or_low(value):
  return value if value is not None and np.isfinite(value) else -np.inf
