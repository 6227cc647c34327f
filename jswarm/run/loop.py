"""One run of a search in a workdir: resume or start -> iterate -> test -> results.json.

The workdir is the run: calling again with the same configuration continues it, with
another one is refused. Several processes run it together (see `processes`): each on all
of the state, rank 0 alone on files and clocks.
"""

import dataclasses
import pathlib
import time
from typing import Any

from absl import logging
import jax
import numpy as np

from jswarm.core.digests import digest
from jswarm.distributed import processes
from jswarm.run import changes, final_test, progress, results
from jswarm.run.ledger import Ledger
from jswarm.run.session import Plan, Result, Session
from jswarm.run.workdir import LEDGER, Files, enter
from jswarm.swarm import problem as problem_lib
from jswarm.swarm import steps
from jswarm.swarm.state import template
from jswarm.systems import system as system_lib
from jswarm.systems.budget import Budget
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.systems.system_memo import SystemMemo
from jswarm.tasks.base import UtilityError


def run(plan: Plan, workdir: str | None) -> Result:
  """Runs or continues the search in `workdir` (None: keeps nothing on disk).

  Raises:
    ValueError: the workdir belongs to another configuration (with the difference),
      or a question does not fit a context.
    UtilityBroken: the utility failed five times in a row.
    RankError: another process failed or is lost.
  """
  with processes.together(plan.processes):
    return _run(_divided(plan), pathlib.Path(workdir) if workdir else None)


def _run(plan, folder):
  began = plan.clock()
  # 1. Everything that can be refused is refused before the workdir is claimed.
  ledger = Ledger(folder / "checkpoints" / LEDGER, plan.on_full) if folder else None
  memo = Memo(plan.experts, plan.meter, plan.clock, plan.progress, ledger)
  config = {**plan.config, "pool.versions": list(memo.first.versions)}
  processes.same("configuration", config)
  judge = plan.judge and plan.judge(memo)
  evaluator = Evaluator(plan.task, memo, plan.wording, judge, SystemMemo(memo))
  evaluator.check_room()
  held = enter(folder, config, plan.accepted) if folder else None
  files = Files(folder, plan) if folder else None
  # 2. Search, from where an earlier run was stopped.
  problem = steps.Problem(plan.experts, evaluator, plan.task.dev)
  session = Session(plan, problem, memo, files, ledger)
  reason = _search(session)
  # 3. Test, and say what was found.
  tested = final_test.run(session)
  found = results.of(session, reason, tested, final_test.held_out(session))
  found["timing"] = {
    "seconds": round(plan.clock() - began, 3),
    "seconds_asking": round(plan.meter.seconds, 3),
    "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
  }
  progress.end(session)
  result = Result(found, session.reached.best, session.reached, tested, session.on_dev)
  if files and ledger:
    ledger.close()
    files.finish(plan, result, final_test.traces_of(session))
  if held:
    held.close()
  return result


def _divided(plan):
  """The plan, with what several processes share or leave to one of them."""
  if processes.count() == 1:
    return plan
  task = dataclasses.replace(plan.task, score=_scored_once(plan.task.score))
  if follow := task.followup:
    task = dataclasses.replace(
      task, followup=dataclasses.replace(follow, score=_scored_once(follow.score))
    )
  return dataclasses.replace(
    plan,
    task=task,
    experts=processes.spread(plan.experts),
    clock=processes.on_writer("the clock", plan.clock),
  )


def _scored_once(score):
  """The utility need not be deterministic: all ranks take what rank 0 measured."""
  numbers = lambda *args: np.asarray(score(*args), float).tolist()
  return processes.on_writer("the utility", numbers, UtilityError)


def _search(session):
  """Iterates until something ends the search: the finish reason."""
  plan, key = session.plan, problem_lib.root_key(np.int64(session.plan.seed))
  _restore(session)
  after = int(session.state.iteration) if session.state else -1
  if session.files:
    session.files.open(after)
    session.ledger.open(after)
    progress.begin(session)
  try:
    if session.state is None:
      processes.phase("iteration 0")
      session.singles = _singles(session)
      _commit(session, *steps.start(key, session.problem, plan.settings))
    while (reason := _reason(session)) is None:
      processes.phase(f"iteration {int(session.state.iteration) + 1}")
      _commit(
        session, *steps.iterate(key, session.state, session.problem, plan.settings)
      )
  except Budget as over:
    if session.state is None:
      raise ValueError(
        f"{over.reason} is spent before the first graphs are scored:"
        " raise it, or search fewer graphs or examples."
      ) from over
    reason = over.reason
  if plan.settings.result == "last":
    plan.meter.armed = False
    session.state = steps.last_system(
      key, session.reached, session.problem, plan.settings
    )
  return reason


def _reason(session):
  """Why the search ends here, or None; rank 0, which sees the file, decides."""
  return processes.exchange("go on?", _due(session))[0]


def _due(session):
  state, settings = session.state, session.plan.settings
  if session.files and (session.files.folder / "STOP").exists():
    return "stop_file"
  if steps.exhausted(state, settings):
    return "patience"
  return "max_iterations" if int(state.iteration) >= settings.iterations else None


def _singles(session):
  """Dev utility of each expert alone, as it came."""
  names, first = session.plan.experts.names, session.memo.first
  jobs = [system_lib.single(e, first) for e in range(len(names))]
  evaluations = session.evaluator.evaluate(jobs, session.problem.examples)
  if session.files:
    session.files.singles(list(zip(names, evaluations)))
  return {name: e.utility for name, e in zip(names, evaluations)}


def _commit(session, state, infos):
  """Takes up the new state: a row, a check, files. A kill in between repeats the
  iteration, rows and all."""
  session.state = state
  session.history.append(_row(session, infos))
  iteration, settings = int(state.iteration), session.plan.settings
  if processes.count() > 1:
    # What is spread over the processes is one array for all of them.
    own = list(filter(processes.holds, jax.tree.leaves(state)))
    processes.same(
      f"state after iteration {iteration}",
      {"sha256": digest(own), **session.plan.meter.spent},
    )
  # Replies of these weights may be asked for again.
  latest = steps.positions(state) or state.initial.weights
  session.memo.forget(steps.role_weights(state, settings), latest)
  if session.files:
    session.files.record(iteration, infos, session.history)
    if iteration % session.plan.every == 0:
      host = {"history": session.history, "singles": session.singles}
      if processes.is_writer():  # the others' would not be read
        host |= session.spending()
      session.files.checkpoints.save(iteration, state, host)
      session.ledger.open(iteration)
    progress.tell(session)


def _row(session, infos):
  """One line of metrics.jsonl; nothing in it depends on the clock."""
  state = session.state
  row: dict[str, Any] = {
    "iteration": int(state.iteration),
    "best": float(state.best.utility),
    "stalled": int(state.stalled),
    "systems": sum(len(info.evaluations) for info in infos),
    **session.plan.meter.spent,
  }
  for info in infos:
    row.update({f"{info.step}/{name}": value for name, value in info.metrics.items()})
  if dags := row.get("role/dags"):
    before = {name for old in session.history for name in old.get("role/dags", [])}
    row["role/seen"] = sum(name in before for name in dags) / len(dags)
  if processes.is_writer():
    logging.info(
      "iteration %d: best %.4f, graphs' mean %.4f, %d of %d calls made",
      row["iteration"],
      row["best"],
      row.get("role/mean", float("nan")),
      row["made"],
      row["calls"],
    )
    if broken := row.get("weight/repaired"):
      logging.warning(
        "iteration %d: %d expert(s) had weights that were not finite or had exploded"
        " and went back to their best ones.",
        row["iteration"],
        broken,
      )
  return row


def _restore(session):
  """Takes up the newest checkpoint, where there is one."""
  if not session.files:
    return
  shapes = template(session.plan.experts, session.plan.settings)
  found = session.files.checkpoints.restore(shapes)
  if found is None:
    return
  step, session.state, host = found
  logging.info("Resuming %s after iteration %d.", session.files.folder, step)
  session.take_up(host)
  if not changes.are_replies_valid(session.files.folder, step):
    session.memo.restore({})
  session.history, session.singles = host["history"], host["singles"]
