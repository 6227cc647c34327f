"""Configuration of a search -> typed settings and callables: the only reader of it, and
the only place where the search wing meets the model wing.

Cheap checks come first: settings, then data, then adapters, then bases.
"""

from collections.abc import Callable, Mapping
import difflib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jswarm.core.types import Experts
from jswarm.distributed import watchdog
from jswarm.distributed.devices import Desks, local_devices
from jswarm.engine import engine
from jswarm.graphs import decode
from jswarm.model.sampling import Sampling
from jswarm.pool import load
from jswarm.run import loop
from jswarm.run import workdir as workdir_lib
from jswarm.swarm import motion
from jswarm.swarm.state import Settings
from jswarm.systems import artifact, waves
from jswarm.systems.memo import Meter
from jswarm.tasks import base as base_lib
from jswarm.tasks import custom, kinds
from jswarm.tasks import load as load_lib
from jswarm.tasks import published as published_lib
from jswarm.wiring.defaults import get_config

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def resolve(config: ConfigDict) -> ConfigDict:
  """A copy in which what "None" leaves to the mode is decided."""
  config = ConfigDict(config.to_dict())
  published = config.search.mode == "as_published"
  by_mode = [
    (config.graph, "top_p", 0.0 if published else 0.8),
    (config.graph, "as_published", published),
    (config.search, "role_weights", "current" if published else "best"),
    (config.role, "step_decay", 1.0 if published else 0.95),
    (config.weight, "step_decay", 1.0 if published else 0.95),
    (config.task, "parser", _parser(config.task, published)),
  ]
  for section, field, value in by_mode:
    if section[field] is None:
      section[field] = value
  return config


def flatten(config: ConfigDict) -> dict[str, Any]:
  """{"section.field": value}, JSON-able."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ConfigDict):
      flat.update({f"{name}.{k}": v for k, v in flatten(value).items()})
    else:
      flat[name] = value
  return json.loads(json.dumps(flat, default=str))


def override(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
  """The config with {"search.graphs": 6, ...}; an unknown field is an error."""
  config = ConfigDict(config.to_dict())
  known = flatten(config)
  for path, value in changes.items():
    if path not in known:
      close = difflib.get_close_matches(path, known, 3, 0.5)
      raise ValueError(
        f"unknown config field {path!r}"
        + (f"; did you mean {', '.join(close)}?" if close else "")
        + " All fields stand in jswarm/wiring/defaults.py."
      )
    section, _, field = path.rpartition(".")
    (config[section] if section else config)[field] = value
  return config


def swarm_settings(config: ConfigDict) -> Settings:
  """The search wing's settings from a resolved config."""
  return Settings(
    **config.search,
    graph=decode.Settings(**config.graph),
    role=motion.Settings(**config.role),
    weight=motion.Settings(**config.weight),
  )


def wording(config: ConfigDict) -> waves.Wording:
  return waves.Wording(**config.messages)


def engine_settings(config: ConfigDict) -> engine.Settings:
  fields = {k: v for k, v in config.engine.items() if k != "compile_cache"}
  return engine.Settings(
    **fields,
    space=config.pool.space,
    seed=config.seed,
    sampling=Sampling(**config.generation),
  )


def processes(config: ConfigDict) -> watchdog.Settings:
  c = config.processes
  return watchdog.Settings(start=c.start, silence=c.silence, step=c.step)


def task(
  config: ConfigDict, records: Any = None, utility: Callable | str | None = None
) -> base_lib.Task:
  """The task with its data, validated; `records` instead of files."""
  c = config.task
  if records is None and c.records:
    records = custom.imported(c.records, "task.records")(
      c.dev_size, c.test_size, config.seed
    )
  return load_lib.load_task(
    c.name or None,
    path=c.path or None,
    dev_path=c.dev_path or None,
    test_path=c.test_path or None,
    records=records,
    kind=c.kind,
    parser=c.parser,
    limit=c.limit,
    chat=c.chat,
    dev_size=c.dev_size or None,
    test_size=c.test_size or None,
    utility=utility or c.utility or None,
    allow_overlap=c.allow_overlap,
    seed=config.seed,
    min_chunks=max(1, len(config.pool.experts)),
  )


def model_dtype(name: str, where: str):
  """The dtype of a base that is called so; `where` it stands, for the message.

  Raises:
    ValueError: no such dtype; lists those that are allowed.
  """
  if name not in DTYPES:
    raise ValueError(f"{where}={name!r}: allowed are {', '.join(DTYPES)}.")
  return DTYPES[name]


def pool(config: ConfigDict) -> load.Pool:
  """Loads the pool that the config names."""
  dtype = model_dtype(config.pool.dtype, "pool.dtype")
  specs = load.parse_specs(config.pool.experts, config.pool.base)
  desks = Desks(local_devices(config.engine.devices), config.engine.tensor)
  return load.load_pool(specs, dtype, config.pool.allow_pickle, desks)


def plan(
  config: ConfigDict,
  *,
  records: Any = None,
  utility: Callable | None = None,
  experts: Experts | None = None,
  workdir: str | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> loop.Plan:
  """Everything that `loop.run` needs.

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
  config = resolve(config)
  settings, words = swarm_settings(config), wording(config)
  serving = engine_settings(config)
  loaded_task = task(config, records, utility)
  flat = flatten(config)
  flat.update(
    {f"data.{split}": digest for split, digest in loaded_task.spec["sha256"].items()}
  )
  flat["data.prompts"] = loaded_task.spec["prompts_sha256"]
  if workdir:
    workdir_lib.check(pathlib.Path(workdir), flat, but=("pool.versions",))
  if config.engine.compile_cache:
    _keep_compiled()
  rates = judge(config, loaded_task, experts)
  if experts is None:
    experts = engine.make_experts(pool(config), serving)
  return loop.Plan(
    seed=config.seed,
    task=loaded_task,
    experts=experts,
    wording=words,
    settings=settings,
    meter=Meter(**config.budget),
    config=flat,
    judge=rates,
    every=config.checkpoint.every,
    keep=config.checkpoint.keep,
    tensorboard=config.log.tensorboard,
    baselines=config.log.baselines,
    progress=progress,
    processes=processes(config),
  )


def judge(
  config: ConfigDict,
  loaded_task: base_lib.Task,
  experts: Experts | None = None,
  alone: bool = False,
):
  """Who rates replies: an expert's index, the `ask` of another model, or None.

  Args:
    experts: a loaded pool; None: the one that the config names.
    alone: load the judge by itself even if it is an expert of the pool, for a pool
      whose weights have moved.

  Raises:
    ValueError: the task needs a judge and the config names none, or none that is there.
  """
  name = config.task.judge
  if not loaded_task.judge:
    return None
  specs = {}
  if (alone or not experts) and config.pool.experts:
    specs = {spec.name: spec for spec in _specs(config)}
  members = list(experts.names) if experts else list(specs)
  allowed = f"an expert ({', '.join(members)}) or a model's path"
  if not name:
    raise ValueError(
      f"task {loaded_task.name!r} is rated by a judge: set task.judge to {allowed}."
    )
  if name in members and not alone:
    return members.index(name)
  try:
    chosen = [specs[name]] if name in specs else load.parse_specs([name])
    dtype = model_dtype(config.pool.dtype, "pool.dtype")
    loaded = load.load_pool(chosen, dtype, config.pool.allow_pickle)
  except ValueError as error:
    raise ValueError(f"task.judge={name!r}: allowed is {allowed}. {error}") from error
  return engine.make_experts(loaded, engine_settings(resolve(config))).ask


def names(config: ConfigDict) -> list[str]:
  """The experts that the config names, in order."""
  return [spec.name for spec in _specs(config)]


def _specs(config):
  return load.parse_specs(config.pool.experts, config.pool.base)


def load_system(
  folder: str | os.PathLike, *, base: str = "", dtype: str = ""
) -> artifact.LoadedSystem:
  """A saved system, ready to answer.

  Args:
    folder: the `best` folder of a run, or a copy of it.
    base: where the base model is now, if not where it was in the search.
    dtype: of the base on the device; empty: that of the search.

  Raises:
    ValueError: a file is missing or was changed, or the base is not there.
  """
  description, job = artifact.read(folder)
  stored = description["experts"]
  specs = [
    _stored_spec(pathlib.Path(folder), name, entry, base)
    for name, entry in stored.items()
  ]
  config = resolve(
    override(
      get_config(),
      {**description.get("serving", {}), **({"pool.dtype": dtype} if dtype else {})},
    )
  )
  loaded = load.load_pool(specs, model_dtype(config.pool.dtype, "dtype"))
  return artifact.LoadedSystem(
    job,
    engine.make_experts(loaded, engine_settings(config)),
    waves.Wording(**description["wording"]),
    description["limit"],
    description["chat"],
    description,
  )


def _stored_spec(folder, name, entry, base):
  path = str(folder / entry["path"])
  if entry["kind"] == "full":
    return load.Spec(name=name, base=path)
  revision = None if base else entry.get("base_revision")  # of where it was
  return load.Spec(
    name=name, base=base or entry["base"], adapter=path, base_revision=revision
  )


def _parser(task_config, published):
  """The published parser where the mode asks for it and the kind has one."""
  known = published_lib.TASKS.get(task_config.name)
  kind = task_config.kind or (known.kind if known else "custom")
  has = kind in kinds.KINDS and "as_published" in kinds.KINDS[kind].parsers
  return "as_published" if published and has else "strict"


def _keep_compiled():
  """A persistent compile cache: the second start of a search compiles nothing."""
  if jax.config.jax_compilation_cache_dir is None:
    folder = pathlib.Path.home() / ".cache" / "jswarm" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
