"""Everything that can be known of a search before weights are loaded, all at once.

  fields -> task -> experts, bases, adapters -> prompts -> workdir, disk -> Report

Nothing is checked here that a search would not check: these are its own checks, asked
to collect what they find (see `core.problems`).
"""

import os
import pathlib
import shutil
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jswarm.core.problems import attempt
from jswarm.distributed.devices import Replicas, local_devices, tensor_config
from jswarm.engine import footprint, texts
from jswarm.pool import load, specs
from jswarm.run import workdir as workdir_lib
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.tasks import custom
from jswarm.wiring import config as config_lib
from jswarm.wiring import memory, search, skipping
from jswarm.wiring.config import Resolved


class Report(NamedTuple):
  """What was found.

  Attributes:
    problems: each names its file, line or field, what is allowed and what to change.
    summary: lines on what is right; empty if anything is wrong.
  """

  problems: list[str]
  summary: list[str]


def check(config: ConfigDict, workdir: str | None = None) -> Report:
  """All problems of a search, in seconds: no weights are loaded, nothing is written.

  `workdir`: also whether it can be used, resumed, and has room for its checkpoints.
  """
  problems = config_lib.problems_of(config)
  if problems:
    # The rest is looked at as far as the fields allow it.
    config = _mended(config)
  # Who may be left out is, so that the rest is looked at as it will be searched.
  settled = attempt(problems, skipping.settle, config)
  settled = settled or skipping.Settled(config, {}, None)
  resolved = config_lib.resolve(settled.config)
  task = attempt(problems, search.task, resolved)
  if not task:
    attempt(problems, _check_functions, resolved)
  replicas = attempt(problems, _replicas, resolved)
  chosen = _experts(resolved, problems)
  whole = len(chosen) == len(resolved.pool.experts)
  pool = resolved.pool
  checked = load.check_pool(
    chosen, pool.allow_pickle, pool.today, pool.thinking, problems
  )
  whole &= all(spec.source in checked.bases for spec in chosen)
  for base in {id(base): base for base in checked.bases.values()}.values():
    if resolved.engine.tensor > 1:
      attempt(problems, tensor_config, base.config, resolved.engine.tensor)
  if task:
    _check_judge(resolved, task, chosen, problems)
  if task and chosen and whole:
    words = texts.unloaded(chosen, checked, resolved.engine)
    Evaluator(task, Memo(words), resolved.wording).check_room(problems)
  if workdir:
    attempt(problems, _check_folder, pathlib.Path(workdir))
    if task:
      flat = search.defining(resolved, task, skipped=settled.skipped)
      attempt(problems, search.check_workdir, workdir, flat, resolved)
  adapters = all(s.name in checked.adapters for s in chosen if s.adapter)
  if workdir and task and whole and chosen and adapters:
    attempt(problems, _check_disk, resolved, task, chosen, checked, workdir)
  if problems or not task or not replicas:
    return Report(problems, [])
  without = [f"without {name}: {why}" for name, why in settled.skipped.items()]
  return Report([], _summary(resolved, task, chosen, checked, replicas) + without)


def _mended(config: ConfigDict) -> ConfigDict:
  """The configuration without the fields that are wrong, to go on with."""
  good: dict[str, Any] = {}
  for field, value in config_lib.changed(config).items():
    if attempt([], config_lib.resolve_default, {**good, field: value}):
      good[field] = value
  return config_lib.override(config_lib.get_config(), good)


def _check_functions(config: Resolved) -> None:
  """The user's own functions, which a task with other faults does not come to."""
  if config.task.utility:
    custom.imported(config.task.utility)


def _replicas(config: Resolved) -> Replicas:
  return Replicas(local_devices(config.engine.devices), config.engine.tensor)


def _experts(config: Resolved, problems) -> list[specs.Spec]:
  """Specs of the experts whose entries are right."""
  chosen, parse = [], specs.parse_specs
  if not config.pool.experts:
    attempt(problems, parse, (), config.pool.base)
  for entry in config.pool.experts:
    chosen += attempt(problems, parse, [entry], config.pool.base) or []
  if len(chosen) > 1:  # all of them: are their names different?
    attempt(problems, parse, config.pool.experts, config.pool.base)
  return list({spec.name: spec for spec in chosen}.values())


def _check_judge(config, task, chosen, problems) -> None:
  """A judge that is a model of its own is checked like a base."""
  rater = attempt(problems, search.rater, config, task) if chosen else None
  if isinstance(rater, specs.Spec):
    c = config.pool
    load.check_pool([rater], c.allow_pickle, c.today, c.thinking, problems)


def _check_folder(folder: pathlib.Path) -> None:
  """Raises ValueError for a workdir that cannot be written, or is in use."""
  there = folder
  while not there.exists() and there != there.parent:
    there = there.parent
  if not there.is_dir():
    raise ValueError(f"--workdir={folder}: {there} is a file; name a folder.")
  if not os.access(there, os.W_OK | os.X_OK):
    raise ValueError(
      f"--workdir={folder}: {there} cannot be written by this user; name another"
      " folder, or change its permissions."
    )
  if (folder / ".lock").exists():
    workdir_lib.lock(folder).close()


def _check_disk(config, task, chosen, checked, workdir) -> None:
  """Raises ValueError where checkpoints and the found system have no room."""
  folder = pathlib.Path(workdir)
  while not folder.exists():
    folder = folder.parent
  each = memory.checkpoint(config, task, chosen, checked)
  kept = max(2, config.keep) + 1  # the next is written before the oldest goes
  held = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) * (
    folder == pathlib.Path(workdir)
  )
  needed = kept * each + memory.saved_experts(config, chosen, checked) - held
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise ValueError(
      f"--workdir={workdir}: {kept} checkpoints of {each} bytes and the found system"
      f" need {needed} bytes, {free} are free: make room, choose another disk, or lower"
      " checkpoint.keep."
    )


def _summary(config, task, chosen, checked, replicas) -> list[str]:
  """What is right, for who wants to see that the right thing was looked at."""
  need = memory.need(config, task, chosen, checked, replicas)
  lines = [
    f"task {task.name}: kind {task.kind}, {len(task.dev)} dev and {len(task.test)} test"
    f" examples, replies of at most {task.limit} tokens",
    f"pool: {len(chosen)} experts, {', '.join(spec.name for spec in chosen)}",
  ]
  if "dropped" in task.spec:
    dropped = task.spec["dropped"]
    told = [f"    {fault}" for fault in dropped["records"]]
    lines[1:1] = [f"  records left out: {dropped['count']}", *told]
  for kind, entries in load.divide(chosen, checked):
    names = [chosen[i].name for mine, _ in entries for i in mine]
    what = "adapters on" if kind == "lora" else "whole models like"
    moves = "" if len(names) > 1 else "; alone in its group, it does not move"
    lines.append(f"  {len(names)} {what} {entries[0][1].folder}{moves}")
  each = memory.checkpoint(config, task, chosen, checked)
  lines += [
    f"memory: {footprint.told(need)}",
    f"a checkpoint: {each / 2**20:.1f} MiB, {max(2, config.keep)} are kept",
  ]
  return lines
