"""Configuration of a search -> typed settings and callables: the only reader of it, and
the only place where the search wing meets the model wing.

Cheap checks come first: settings, then data, then adapters, then bases.
"""

from collections.abc import Mapping
import json
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from jswarm.core import lookup
from jswarm.distributed import watchdog
from jswarm.engine import settings as settings_lib
from jswarm.graphs import decode
from jswarm.model.sampling import Sampling
from jswarm.swarm import motion
from jswarm.swarm.state import Settings
from jswarm.systems import prompts
from jswarm.tasks import kinds
from jswarm.tasks import published as published_lib

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
      near = lookup.near(path, known)
      raise ValueError(
        f"unknown config field {path!r}; {near}{' ' if near else ''}all fields stand in"
        " jswarm/wiring/defaults.py."
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


def wording(config: ConfigDict) -> prompts.Wording:
  return prompts.Wording(**config.messages)


def engine_settings(config: ConfigDict) -> settings_lib.Settings:
  fields = {k: v for k, v in config.engine.items() if k != "compile_cache"}
  return settings_lib.Settings(
    **fields,
    space=config.pool.space,
    seed=config.seed,
    sampling=Sampling(**config.generation),
  )


def processes(config: ConfigDict) -> watchdog.Settings:
  c = config.processes
  return watchdog.Settings(start=c.start, silence=c.silence, step=c.step)


def model_dtype(name: str, where: str):
  """The dtype of a base that is called so; `where` it stands, for the message.

  Raises:
    ValueError: no such dtype; lists those that are allowed.
  """
  lookup.check(where, name, DTYPES)
  return DTYPES[name]


def _parser(task_config, published):
  """The published parser where the mode asks for it and the kind has one."""
  known = published_lib.TASKS.get(task_config.name)
  kind = task_config.kind or (known.kind if known else "custom")
  has = kind in kinds.KINDS and "as_published" in kinds.KINDS[kind].parsers
  return "as_published" if published and has else "strict"
