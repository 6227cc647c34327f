"""A saved system -> one that answers."""

import os
import pathlib

from jswarm.engine import engine
from jswarm.pool import load, specs
from jswarm.systems import artifact, prompts
from jswarm.wiring import config as config_lib


def load_system(
  folder: str | os.PathLike, *, base: str = "", dtype: str = ""
) -> artifact.LoadedSystem:
  """A saved system, ready to answer.

  Args:
    folder: the `best` folder of a run, or a copy of it.
    base: where the base model is now, if not where it was in the search.
    dtype: of the base on the device; empty: that of the search.

  Raises:
    ValueError: a file is missing or was changed, the base is not there, or it has other
      weights than in the search.
  """
  description, job = artifact.read(folder)
  stored = description["experts"]
  specs = [
    _stored_spec(pathlib.Path(folder), name, entry, base)
    for name, entry in stored.items()
  ]
  changes = dict(description.get("serving", {}))
  if dtype:
    changes["pool.dtype"] = dtype
  config = config_lib.resolve_default(changes)
  kind = config_lib.model_dtype(config.pool.dtype, "dtype")
  c = config.pool
  loaded = load.load_pool(specs, kind, today=c.today, thinking=c.thinking)
  _check_bases(loaded, stored)
  return artifact.LoadedSystem(
    job,
    engine.make_experts(loaded, config.engine, keep=False),
    prompts.Wording(**description["wording"]),
    description["limit"],
    description["chat"],
    description,
  )


def _check_bases(pool: load.Pool, stored) -> None:
  """Raises ValueError if experts stand on another base than they did in the search."""
  for group in pool.groups:
    if group.params is None:
      continue
    # An older system has no digest; in another dtype it says nothing.
    known = {
      spec.name: stored[spec.name]["base_digest"]
      for spec in group.specs
      if stored[spec.name].get("base_digest")
      and stored[spec.name].get("dtype") == str(group.dtype)
    }
    moved = [name for name, was in known.items() if was != group.base_digest()]
    if moved:
      raise ValueError(
        f"{group.specs[0].base} holds other weights than the base"
        f" {stored[moved[0]]['base']!r} of the search, on which {', '.join(moved)} were"
        " found: give the base of that time as `base`."
      )


def _stored_spec(folder, name, entry, base):
  path = str(folder / entry["path"])
  if entry["kind"] == "full":
    return specs.Spec(name=name, base=path)
  revision = None if base else entry.get("base_revision")  # of where it was
  return specs.Spec(
    name=name, base=base or entry["base"], adapter=path, base_revision=revision
  )
