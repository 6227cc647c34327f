"""Configuration -> a plan to run: where the search wing meets the model wing.

Cheap checks come first: settings, then data, then adapters, then bases.
"""

from collections.abc import Callable
import os
import pathlib
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jswarm.core.types import Experts, Reply
from jswarm.distributed import processes
from jswarm.distributed.devices import Replicas, local_devices
from jswarm.engine import engine
from jswarm.pool import load, specs
from jswarm.run import code, session
from jswarm.run import workdir as workdir_lib
from jswarm.systems import http_judge
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Unheard
from jswarm.systems.killable import Killable
from jswarm.tasks import base, custom, wishes
from jswarm.tasks import load as tasks_load
from jswarm.wiring import config as config_lib
from jswarm.wiring.config import Resolved


def task(
  config: Resolved, records: Any = None, utility: Callable | str | None = None
) -> base.Task:
  """The task with its data, validated; `records` instead of files."""
  c = config.task
  if records is None and c.records:
    # As in the configuration, 0 is all of a split.
    sizes = c.wishes.dev_size or 0, c.wishes.test_size or 0
    records = custom.imported(c.records, "task.records")(*sizes, config.seed)
  source = wishes.Source(
    path=c.path or None,
    dev_path=c.dev_path or None,
    test_path=c.test_path or None,
    records=records,
  )
  utility = utility or c.utility or None
  if c.utility_seconds and utility:
    utility = Killable(utility, c.utility_seconds, "task.utility_seconds")
  judging = wishes.Judging(utility=utility)
  return tasks_load.load_task(c.name or None, source, c.wishes, judging)


def pool(config: Resolved) -> load.Pool:
  """Loads the pool that the config names."""
  dtype = config_lib.model_dtype(config.pool.dtype, "pool.dtype")
  replicas = Replicas(local_devices(config.engine.devices), config.engine.tensor)
  c = config.pool
  return load.load_pool(
    _specs(config), dtype, c.allow_pickle, replicas, c.today, c.thinking
  )


def plan(
  config: ConfigDict,
  *,
  records: Any = None,
  utility: Callable | None = None,
  experts: Experts | None = None,
  workdir: str | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> session.Plan:
  """Everything that `run.loop` needs.

  Args:
    config: complete, as from `get_config`.
    records: examples from Python instead of files.
    utility: a function `(examples, replies) -> scores` of your own.
    experts: a pool that is not to be loaded: a remote endpoint, a test.
    workdir: refused, before any model is loaded, if it is of another configuration.
    progress: called as progress(calls made, calls asked for).

  Raises:
    ValueError: names the field, file or record, what was allowed, what to change.
  """
  resolved = config_lib.resolve(config)
  loaded_task = task(resolved, records, utility)
  flat = dict(resolved.flat)
  flat.update(
    {f"data.{split}": digest for split, digest in loaded_task.spec["sha256"].items()}
  )
  flat["data.prompts"] = loaded_task.spec["prompts_sha256"]
  flat.update(_code(utility or resolved.task.utility))
  if workdir:
    unknown_yet = ("pool.versions",)
    workdir_lib.check(pathlib.Path(workdir), flat, unknown_yet, resolved.accepted)
  rates = judge(resolved, loaded_task, experts, workdir=workdir)
  if experts is None:
    experts = engine.make_experts(pool(resolved), resolved.engine, keep=False)
  return session.Plan(
    seed=resolved.seed,
    task=loaded_task,
    experts=experts,
    wording=resolved.wording,
    settings=resolved.swarm,
    meter=Meter(**resolved.budget),
    config=flat,
    judge=rates,
    accepted=resolved.accepted,
    every=resolved.every,
    keep=resolved.keep,
    on_full=resolved.on_full,
    tensorboard=resolved.tensorboard,
    baselines=resolved.baselines,
    progress=progress,
    processes=resolved.processes,
  )


def _code(utility: Callable | str | None) -> dict[str, Any]:
  """Fields for the code that scores: the utility's text, or a digest of the readers."""
  if not utility:
    return {"code.readers": code.readers()}
  if isinstance(utility, str):
    utility = custom.imported(utility)
  told = code.describe(utility)
  if told.unknown:
    logging.warning(
      "the utility %s reads what cannot be compared between runs, so a workdir is"
      " continued whether or not it has changed: %s.",
      custom.name_of(utility),
      "; ".join(told.unknown),
    )
  return {"code.utility": list(told.lines)}


def judge(
  config: Resolved,
  loaded_task: base.Task,
  experts: Experts | None = None,
  alone: bool = False,
  workdir: str | None = None,
) -> session.JudgeFn | None:
  """Who rates replies: an expert of the pool on the weights it came with, another
  model, or a server; None for a task that needs no judge.

  Args:
    experts: a loaded pool; None: the one that the config names.
    alone: load the judge by itself even if it is an expert of the pool, for a pool
      whose weights have moved.
    workdir: where verdicts of a server are kept.

  Raises:
    ValueError: the task needs a judge and the config names none, or none that is there.
  """
  name = config.task.judge
  if not loaded_task.judge:
    return None
  if name.startswith(("http://", "https://")):
    return _server(config.task, workdir)
  named = {}
  if (alone or not experts) and config.pool.experts:
    named = {spec.name: spec for spec in _specs(config)}
  members = list(experts.names) if experts else list(named)
  allowed = f"an expert ({', '.join(members)}), a model's path or a server's https://"
  if not name:
    raise ValueError(
      f"task {loaded_task.name!r} is rated by a judge: set task.judge to {allowed}."
    )
  if name in members and not alone:
    expert = members.index(name)
    return lambda memo: memo.as_loaded(expert)
  try:
    chosen = [named[name]] if name in named else specs.parse_specs([name])
    dtype = config_lib.model_dtype(config.pool.dtype, "pool.dtype")
    c = config.pool
    loaded = load.load_pool(
      chosen, dtype, c.allow_pickle, today=c.today, thinking=c.thinking
    )
  except ValueError as error:
    raise ValueError(f"task.judge={name!r}: allowed is {allowed}. {error}") from error
  rater = engine.make_experts(loaded, config.engine, keep=False)
  return lambda memo: processes.spread_ask(rater.ask)


def _server(c: config_lib.TaskSettings, workdir: str | None) -> session.JudgeFn:
  """A judge behind a URL; of several processes one asks it, and all hear."""
  endpoint = http_judge.Endpoint(
    c.judge, c.judge_model, c.judge_seconds, os.environ.get(http_judge.KEY, "")
  )
  store = pathlib.Path(workdir) / "verdicts.jsonl" if workdir else None
  rater = http_judge.HttpJudge(endpoint, store)
  if processes.count() == 1:
    return lambda memo: rater.ask
  told = lambda requests: [list(verdict) for verdict in rater.ask(requests)]
  once = processes.on_writer("the judge", told, ValueError)
  # An `Unheard` is of one part, a `Reply` of three.
  made = lambda parts: Unheard(*parts) if len(parts) == 1 else Reply(*parts)
  return lambda memo: lambda requests: [made(parts) for parts in once(requests)]


def names(config: Resolved) -> list[str]:
  """The experts that the config names, in order."""
  return [spec.name for spec in _specs(config)]


def _specs(config: Resolved) -> list[specs.Spec]:
  return specs.parse_specs(config.pool.experts, config.pool.base)
