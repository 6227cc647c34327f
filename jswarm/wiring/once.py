"""One search with some of its fields changed, in a folder of its own, once.

  config, fields -> finished there? -> its results as they are
                 -> else search.plan -> run.loop, from where it was stopped

What contests, sweeps and analyses are made of.
"""

from collections.abc import Callable, Mapping
import json
import os
import pathlib
import traceback
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from jswarm.analysis import runs
from jswarm.core import files
from jswarm.run import loop, session
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, skipping


def searched(
  config: ConfigDict,
  fields: Mapping[str, Any],
  folder: str | os.PathLike,
  **given: Any,
) -> session.Result:
  """Runs or continues the search with these fields; `given`: of `search.plan`."""
  changed = config_lib.override(config, fields)
  workdir = os.fspath(folder)
  return loop.run(search.plan(changed, workdir=workdir, **given), workdir)


def finished(
  config: ConfigDict, fields: Mapping[str, Any], folder: str | os.PathLike
) -> runs.Run:
  """The finished run with these fields: one that is there, or that is made now.

  One that is there costs no model, only a look at its data.

  Raises:
    ValueError: the folder is of another search, with the difference.
  """
  found = runs.read(folder)
  if found:
    _check(config_lib.override(config, fields), folder)
    return found
  searched(config, fields, folder)
  found = runs.read(folder)
  if found is None:  # of several processes one writes
    raise ValueError(f"{folder} holds no results.json: run analyses in one process.")
  return found


def guarded(
  head: Mapping[str, Any], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
  """The row that is made; one that fails is its head with the reason, and is logged."""
  try:
    return make()
  except Exception as error:
    named = ", ".join(f"{k} {v}" for k, v in head.items())
    logging.warning("%s failed:\n%s", named, traceback.format_exc())
    return {**head, "failed": f"{type(error).__name__}: {error}"}


def claim(
  folder: pathlib.Path, config: ConfigDict, flag: str, **facts: Any
) -> dict[str, Any]:
  """Makes the folder this configuration's, whatever the seed; its fields.

  Args:
    flag: that names the folder, for the message. facts: what else it is of.

  Raises:
    ValueError: it is of another one, with the difference.
  """
  flat = {k: v for k, v in config_lib.flatten(config).items() if k != "seed"} | facts
  path = folder / "config.json"
  folder.mkdir(parents=True, exist_ok=True)
  if not path.exists():
    files.write_json(path, flat)
    return flat
  before = json.loads(path.read_text("utf-8"))
  changed = [k for k in sorted({*before, *flat}) if before.get(k) != flat.get(k)]
  if changed:
    lines = [f"  {k}: there {before.get(k)!r}, now {flat.get(k)!r}" for k in changed]
    raise ValueError(
      f"{folder} holds what another configuration has made:\n"
      + "\n".join(lines)
      + f"\nName another {flag}, or the same configuration."
    )
  return flat


def _check(config, folder):
  """Raises ValueError if the folder is of another search; loads no model."""
  settled = skipping.settle(config)
  resolved = config_lib.resolve(settled.config)
  task = search.task(resolved)
  flat = search.defining(resolved, task, skipped=settled.skipped)
  search.check_workdir(os.fspath(folder), flat, resolved)
