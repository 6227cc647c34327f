"""Configuration -> a plan to run: where the search wing meets the model wing.

Cheap checks come first: settings, then data, then adapters, then bases.
"""

from collections.abc import Callable, Iterable, Mapping
import os
import pathlib
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jswarm.core.types import Experts, Reply
from jswarm.distributed import processes
from jswarm.distributed.devices import Replicas, local_devices
from jswarm.engine import engine, footprint
from jswarm.pool import load, specs
from jswarm.run import code, session
from jswarm.run import workdir as workdir_lib
from jswarm.systems import http_judge
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Unheard
from jswarm.systems.killable import Killable
from jswarm.tasks import again, base, custom, gym, wishes
from jswarm.tasks import load as tasks_load
from jswarm.wiring import config as config_lib
from jswarm.wiring import memory, skipping
from jswarm.wiring.config import Resolved


def task(
  config: Resolved, records: Any = None, utility: Callable | str | None = None
) -> base.Task:
  """The task with its data, validated; `records` instead of files."""
  c = config.task
  if gym.is_gym(c.name):
    return _gym(config, records, utility)
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
  utility = _limited(config, utility or c.utility or None)
  patience = again.Patience(c.retry_seconds)
  judging = wishes.Judging(utility=utility, patience=patience, ratings=c.ratings)
  return tasks_load.load_task(c.name or None, source, c.wishes, judging)


def _gym(config: Resolved, records, utility) -> base.Task:
  """A task of generators, which bring questions and score."""
  c = config.task
  given = {f: getattr(c, f) for f in ("path", "dev_path", "test_path", "records")}
  given = [f"task.{f}={value!r}" for f, value in given.items() if value]
  if given or records is not None:
    raise ValueError(
      f"task.name={c.name!r} makes its own questions, and {given or 'records'} are"
      " given too: leave out one of them."
    )
  scores = _limited(config, utility or c.utility or gym.SCORE)
  return gym.load(c.name, c.wishes, config.seed, scores)


def _limited(config: Resolved, utility):
  """A utility in a process of its own, where its calls have a limit of time."""
  seconds = config.task.utility_seconds
  if not (seconds and utility):
    return utility
  return Killable(utility, seconds, "task.utility_seconds")


def pool(
  config: Resolved,
  task: base.Task | None = None,
  checked: load.Checked | None = None,
) -> load.Pool:
  """Loads the pool that the config names; of a task it is said first what memory that
  takes. `checked`: what `load.check_pool` has found, if it was asked already."""
  dtype = config_lib.model_dtype(config.pool.dtype, "pool.dtype")
  replicas = Replicas(local_devices(config.engine.devices), config.engine.tensor)
  c, named = config.pool, chosen(config)
  checked = checked or load.check_pool(named, c.allow_pickle, c.today, c.thinking)
  if task:
    need = memory.need(config, task, named, checked, replicas)
    logging.info("memory: %s", footprint.told(need))
  return load.load_pool(
    named, dtype, c.allow_pickle, replicas, c.today, c.thinking, checked
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
  settled = skipping.Settled(config, {}, None) if experts else skipping.settle(config)
  resolved = config_lib.resolve(settled.config)
  loaded_task = task(resolved, records, utility)
  flat = defining(resolved, loaded_task, utility, settled.skipped)
  if workdir:
    check_workdir(workdir, flat, resolved)
  rates = judge(resolved, loaded_task, experts, workdir=workdir)
  if experts is None:
    experts = engine.make_experts(
      pool(resolved, loaded_task, settled.checked), resolved.engine, keep=False
    )
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
    skipped=settled.skipped,
    progress=progress,
    processes=resolved.processes,
  )


def defining(
  config: Resolved,
  loaded_task: base.Task,
  utility: Callable | None = None,
  skipped: Iterable[str] = (),
) -> dict[str, Any]:
  """What a workdir is of, but for the versions of experts: all fields, experts that
  were skipped, data, code."""
  spec = loaded_task.spec
  data = {f"data.{split}": digest for split, digest in spec["sha256"].items()}
  if "dropped" in spec:
    data["data.dropped"] = spec["dropped"]["sha256"]
  if "gym" in spec:  # another version of the package may score otherwise
    data["data.gym"] = spec["gym"]
  return {
    **config.flat,
    "pool.skipped": list(skipped),
    **data,
    "data.prompts": spec["prompts_sha256"],
    **_code(utility or config.task.utility),
  }


def check_workdir(workdir: str, flat: Mapping[str, Any], config: Resolved) -> None:
  """Raises ValueError, with the difference, for a workdir of another search."""
  unknown_yet = ("pool.versions",)
  workdir_lib.check(pathlib.Path(workdir), flat, unknown_yet, config.accepted)


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
  if loaded_task.judge and http_judge.is_address(config.task.judge):
    return _server(config.task, workdir)
  who = rater(config, loaded_task, experts, alone)
  if who is None:
    return None
  if isinstance(who, int):
    return lambda memo: memo.as_loaded(who)
  dtype = config_lib.model_dtype(config.pool.dtype, "pool.dtype")
  try:
    c = config.pool
    loaded = load.load_pool(
      [who], dtype, c.allow_pickle, today=c.today, thinking=c.thinking
    )
  except ValueError as error:
    raise ValueError(f"task.judge={config.task.judge!r}: {error}") from error
  apart = engine.make_experts(loaded, config.engine, keep=False)
  return lambda memo: processes.spread_ask(apart.ask)


def rater(
  config: Resolved,
  loaded_task: base.Task,
  experts: Experts | None = None,
  alone: bool = False,
) -> specs.Spec | int | None:
  """Who rates replies, not loaded: an index in the pool, a model; None for nobody and
  for a server; see `judge`.

  Raises:
    ValueError: the task needs a judge and the config names none, or none that is there.
  """
  name = config.task.judge
  if not loaded_task.judge:
    return None
  if http_judge.is_address(name):
    return None
  named = {}
  if (alone or not experts) and config.pool.experts:
    named = {spec.name: spec for spec in chosen(config)}
  members = list(experts.names) if experts else list(named)
  allowed = f"an expert ({', '.join(members)}), a model's path or a server's https://"
  if not name:
    raise ValueError(
      f"task {loaded_task.name!r} is rated by a judge: set task.judge to {allowed}."
    )
  if name in members and not alone:
    return members.index(name)
  if name in named:
    return named[name]
  try:
    (spec,) = specs.parse_specs([name])
    specs.locate(*spec.source)
  except ValueError as error:
    raise ValueError(f"task.judge={name!r}: allowed is {allowed}. {error}") from error
  return spec


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
  return [spec.name for spec in chosen(config)]


def chosen(config: Resolved) -> list[specs.Spec]:
  return specs.parse_specs(config.pool.experts, config.pool.base)
