"""A saved system -> one that answers, and what has changed since it was found."""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any

from absl import logging

from jswarm.engine import engine
from jswarm.pool import load, specs
from jswarm.run import changes, code
from jswarm.systems import artifact, portable, prompts
from jswarm.tasks.base import Task
from jswarm.wiring import config as config_lib
from jswarm.wiring.config import Resolved


def load_system(
  folder: str | os.PathLike, *, base: str = "", dtype: str = ""
) -> artifact.LoadedSystem:
  """A saved system, ready to answer.

  It is asked in its own words, whatever the configuration of today. What reads answers
  is no part of it: if that has changed, its scores of then are not those of now, and a
  warning says so. `check` compares it with a task that it is to be scored on.

  Args:
    folder: the `best` folder of a run, or a copy of it.
    base: where the base model is now, if not where it was in the search.
    dtype: of the base on the device; empty: that of the search.

  Raises:
    ValueError: a file is missing or was changed, the base is not there, or it has other
      weights than in the search.
  """
  description, job = artifact.read(folder)
  _warn_of_readers(folder, description)
  config, loaded = _pool(folder, description, base, dtype)
  return artifact.LoadedSystem(
    job,
    engine.make_experts(loaded, config.engine, keep=False),
    prompts.Wording(**description["wording"]),
    description["limit"],
    description["chat"],
    description,
  )


def load_pool(folder: str | os.PathLike, *, base: str = "") -> load.Pool:
  """The experts of a saved system as they were found, in float32, on no device's lanes.

  `base` and errors are those of `load_system`.
  """
  description, _ = artifact.read(folder)
  return _pool(folder, description, base, "float32")[1]


def _pool(folder, description, base, dtype):
  """(configuration of its serving, pool) of a saved system; its bases are checked."""
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
  return config, loaded


def check(
  folder: str | os.PathLike,
  description: Mapping[str, Any],
  config: Resolved,
  task: Task,
  scored: Mapping[str, Any],
) -> list[changes.Change]:
  """What differs between how a system was found and how it is to be scored; what an
  older version did not record is not compared.

  Args:
    folder, description: the saved system. config, task: it is to be scored by.
    scored: the `code.` fields of that, see `search.defining`.

  Raises:
    ValueError: with the difference, unless `accept_changes` names all of it.
  """
  wording = lambda fields: {f"messages.{k}": v for k, v in fields.items()}
  was = {**wording(description["wording"]), **description.get("scoring", {})}
  now = {
    **wording(dataclasses.asdict(config.wording)),
    **code.scoring(task, scored),
  }
  changed = [
    changes.Change(field, before, now.get(field))
    for field, before in was.items()
    if before != now.get(field)
  ]
  open_ = [c for c in changed if not changes.is_accepted(c.field, config.accepted)]
  if open_:
    lines = "\n".join(c.told() for c in open_)
    names = ",".join(c.field for c in open_)
    raise ValueError(
      f"{folder} was found in another way than it is to be scored, so that its scores"
      f" say nothing of each other:\n{lines}\nGive the configuration of its search. To"
      f" go on knowingly: --config.accept_changes={names}"
    )
  if changed:
    names = ", ".join(c.field for c in changed)
    logging.warning("%s is scored with changes that were accepted: %s.", folder, names)
  return changed


def _warn_of_readers(folder, description):
  was = description.get("scoring", {}).get("code.readers")
  if was and was != code.readers():
    logging.warning(
      "%s was found with another version of what reads answers out of replies: its"
      " scores of then may not be those of now.",
      folder,
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
  known = portable.places(folder).get(entry["base"], entry["base"])
  named = "/" not in known and not pathlib.Path(known).exists()  # a folder's last part
  if named and not base:
    raise ValueError(
      f"{folder}: its expert {name!r} stands on the base {known!r}, which was a folder"
      " of the machine of the search and is not here: say where it is with `base`."
    )
  return specs.Spec(name=name, base=base or known, adapter=path, base_revision=revision)
