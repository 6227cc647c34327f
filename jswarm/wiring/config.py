"""Configuration of a search -> `Resolved`, typed settings: the only reader of it.

  get_config -> override -> resolve -> Resolved

A ConfigDict is what a user wrote, in which fields may be open; everything behind
`resolve` works with the record.
"""

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from jswarm.core import lookup
from jswarm.core.problems import attempt
from jswarm.distributed import watchdog
from jswarm.engine import settings as settings_lib
from jswarm.graphs import decode
from jswarm.model.sampling import Sampling
from jswarm.swarm import motion
from jswarm.swarm.state import Settings
from jswarm.systems import prompts
from jswarm.tasks import kinds
from jswarm.tasks import published as published_lib
from jswarm.tasks.wishes import Wishes
from jswarm.wiring.defaults import get_config

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings:
  """Section `task`: strings that are empty name nothing.

  Attributes:
    name: of the task; path, dev_path, test_path: of its data.
    records, utility: "pkg.module:function".
    utility_seconds: time limit of a call, see `systems.killable`; 0: none.
    retry_seconds: of a call with its repetitions, see `tasks.again`.
    judge: expert of the pool, path of another model, or URL of a server, of which
      judge_model and judge_seconds are asked, see `systems.http_judge`.
    ratings: of a judge, see `tasks.wishes.Judging`.
    wishes: how the task is asked and cut.
  """

  name: str
  path: str
  dev_path: str
  test_path: str
  records: str
  utility: str
  utility_seconds: float
  retry_seconds: float
  judge: str
  judge_model: str
  judge_seconds: float
  ratings: str
  wishes: Wishes


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolSettings:
  """Section `pool`, but for `space`, which is the engine's affair."""

  base: str
  experts: tuple[str | Mapping[str, str], ...]
  dtype: str
  allow_pickle: bool
  skip_bad: bool
  today: str
  thinking: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
  """A configuration in which nothing is open; made by `resolve` alone.

  Attributes:
    swarm: sizes and rules of the search; wording: of the nodes' prompts.
    engine: how the pool is served; processes: how long they wait for each other.
    budget: {"calls", "tokens", "seconds"}, 0: no limit.
    accepted: fields in which a workdir may differ, see `run.changes`.
    every, keep, on_full: of checkpoints, see `run.checkpoint`.
    tensorboard, baselines: what is logged and tested besides.
    flat: {"section.field": value} of the whole, JSON-able, as in config.json.
  """

  seed: int
  task: TaskSettings
  pool: PoolSettings
  swarm: Settings
  wording: prompts.Wording
  engine: settings_lib.Settings
  processes: watchdog.Settings
  budget: Mapping[str, Any]
  accepted: tuple[str, ...]
  every: int
  keep: int
  on_full: str
  tensorboard: bool
  baselines: bool
  flat: Mapping[str, Any]


def resolve(config: ConfigDict) -> Resolved:
  """Decides what "None" leaves to the mode, and checks every field.

  Raises:
    ValueError: names the field, what was allowed, what to change.
  """
  config = _decided(config)
  return Resolved(
    seed=config.seed,
    swarm=Settings(
      **config.search,
      graph=decode.Settings(**config.graph),
      role=motion.Settings(**config.role),
      weight=motion.Settings(**config.weight),
    ),
    wording=prompts.Wording(**config.messages),
    engine=_engine(config),
    task=_task(config),
    pool=PoolSettings(
      base=config.pool.base,
      experts=tuple(config.pool.experts),
      dtype=config.pool.dtype,
      allow_pickle=config.pool.allow_pickle,
      skip_bad=config.pool.skip_bad,
      today=config.pool.today,
      thinking=config.pool.thinking,
    ),
    processes=processes(config),
    budget=dict(config.budget),
    accepted=tuple(filter(None, map(str.strip, config.accept_changes.split(",")))),
    every=config.checkpoint.every,
    keep=config.checkpoint.keep,
    on_full=config.checkpoint.on_full,
    tensorboard=config.log.tensorboard,
    baselines=config.log.baselines,
    flat=flatten(config),
  )


def problems_of(config: ConfigDict) -> list[str]:
  """Everything that `resolve` has against a configuration, not only the first.

  Each changed field is looked at alone, beside the defaults; then, with those that are
  wrong by themselves put back, what does not go together.
  """
  found: list[str] = []
  if attempt(found, resolve, config):
    return []
  alone: list[str] = []
  good = changed(config)
  for field, value in list(good.items()):
    before = len(alone)
    attempt(alone, resolve_default, {field: value})
    if len(alone) > before:
      del good[field]
  attempt(alone, resolve_default, good)
  return alone or found


def resolve_default(changes: Mapping[str, Any]) -> Resolved:
  """The default configuration with {"engine.rows": 8, ...}, resolved."""
  return resolve(override(get_config(), changes))


def flatten(config: ConfigDict) -> dict[str, Any]:
  """{"section.field": value}, JSON-able."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      flat.update({f"{name}.{k}": v for k, v in flatten(value).items()})
    else:
      flat[name] = value
  return json.loads(json.dumps(flat, default=str))


def changed(config: ConfigDict) -> dict[str, Any]:
  """{"section.field": value} of the fields that are not as by default."""
  given, known = flatten(config), flatten(get_config())
  return {k: v for k, v in leaves(config).items() if given[k] != known.get(k)}


def leaves(config: ConfigDict) -> dict[str, Any]:
  """{"section.field": value}, as it was written."""
  found = {}
  for name, value in config.items():
    inner = leaves(value) if isinstance(value, ConfigDict) else {"": value}
    found |= {f"{name}.{k}".rstrip("."): v for k, v in inner.items()}
  return found


def override(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
  """The config with {"search.graphs": 6, ...}; an unknown field is an error."""
  config = ConfigDict(config.to_dict())
  known = flatten(config)
  for path, value in changes.items():
    if path not in known:
      near = lookup.near(path, known)
      raise ValueError(
        f"unknown config field {path!r}; {near}{' ' if near else ''}all fields stand in"
        " jswarm/wiring/defaults.py."
      )
    section, _, field = path.rpartition(".")
    (config[section] if section else config)[field] = value
  return config


def processes(config: ConfigDict) -> watchdog.Settings:
  """Section `processes`, which a launcher needs before all else is resolved."""
  c = config.processes
  return watchdog.Settings(start=c.start, silence=c.silence, step=c.step)


def model_dtype(name: str, where: str):
  """The dtype of a base that is called so; `where` it stands, for the message.

  Raises:
    ValueError: no such dtype; lists those that are allowed.
  """
  lookup.check(where, name, DTYPES)
  return DTYPES[name]


def _decided(config: ConfigDict) -> ConfigDict:
  """A copy in which what "None" leaves to the mode is decided."""
  config = ConfigDict(config.to_dict())
  published = config.search.mode == "as_published"
  paper = config.search.mode == "paper"
  fixed = not (published or paper)  # another mode is refused with the settings
  by_mode = [
    (config.graph, "top_p", 0.0 if published else 0.8),
    (config.graph, "edge_mode", "independent" if paper else "single"),
    (config.graph, "as_published", published),
    (config.pool, "space", "auto" if fixed else "factors"),
    (config.search, "role_weights", "best" if fixed else "current"),
    (config.search, "keep_assignments", not paper),
    (config.search, "credit", "jfk"),
    (config.search, "result", "last" if paper else "best"),
    (config.search, "imprint", False),
    (config.task, "ratings", "share" if paper else "points"),
    (config.task, "parser", _parser(config.task, published)),
  ]
  for swarm in (config.role, config.weight):
    by_mode += [
      (swarm, "method", "evolution" if fixed else "pso"),
      (swarm, "velocity", "zero" if paper else "random"),
      (swarm, "step_decay", 0.95 if fixed else 1.0),
      (swarm, "restart", not paper),
    ]
  for section, field, value in by_mode:
    if section[field] is None:
      section[field] = value
  return config


def _engine(config):
  # The compile cache is jax's, for the whole program: launchers turn it on.
  fields = {k: v for k, v in config.engine.items() if k != "compile_cache"}
  return settings_lib.Settings(
    **fields,
    space=config.pool.space,
    seed=config.seed,
    sampling=Sampling(**config.generation),
  )


def _task(config):
  c = config.task
  return TaskSettings(
    name=c.name,
    path=c.path,
    dev_path=c.dev_path,
    test_path=c.test_path,
    records=c.records,
    utility=c.utility,
    utility_seconds=c.utility_seconds,
    retry_seconds=c.retry_seconds,
    judge=c.judge,
    judge_model=c.judge_model,
    judge_seconds=c.judge_seconds,
    ratings=c.ratings,
    wishes=Wishes(
      kind=c.kind,
      parser=c.parser,
      limit=c.limit,
      chat=c.chat,
      dev_size=c.dev_size or None,
      test_size=c.test_size or None,
      allow_overlap=c.allow_overlap,
      problems=c.problems,
      held_out=c.held_out,
      seed=config.seed,
      min_chunks=max(1, len(config.pool.experts)),
    ),
  )


def _parser(task_config, published):
  """The published parser where the mode asks for it and the kind has one."""
  known = published_lib.TASKS.get(task_config.name)
  kind = task_config.kind or (known.kind if known else "custom")
  has = kind in kinds.KINDS and "as_published" in kinds.KINDS[kind].parsers
  return "as_published" if published and has else "strict"
