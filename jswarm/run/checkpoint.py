"""Saves and restores a search, bit for bit: search state <-> disk (Orbax).

A step holds the arrays of `steps.State` and a JSON of what lives on the host: the
replies that are still valid, what was spent, the history. A step is committed as a
whole or not at all; a process killed inside a save leaves the step before it. Beside
the steps stand the checksums of their files: a flipped byte is seen before it is used.

Of several processes rank 0 alone saves, and each what it alone holds; all restore the
same step, so they must see the same file system.
"""

from collections.abc import Mapping
import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import time
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jswarm.core.files import write_json
from jswarm.core.types import PyTree
from jswarm.distributed import processes as processes_lib
from jswarm.run import disk

_SPARE = 1 << 16  # bytes of folders and small files beside the arrays


class Checkpoints:
  """The numbered checkpoints below one folder.

  Args:
    folder: made when missing.
    keep: newest steps to keep; at least 2, so that a damaged one has a fallback.
    on_full: what to do where the disk has no room for a step: "stop", or "pause" until
      it has.
  """

  def __init__(self, folder: str | os.PathLike, keep: int = 2, on_full: str = "stop"):
    disk.check_rule(on_full)
    self._folder, self._keep, self._shared = pathlib.Path(folder), keep, None
    self._on_full = on_full
    if processes_lib.is_writer():
      os.makedirs(folder, exist_ok=True)
    # Each rank works for itself: no barriers of Orbax's own.
    self._manager = self._open(
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=processes_lib.rank(), active_processes={processes_lib.rank()}
      )
    )

  def _open(self, **processes):
    options = ocp.CheckpointManagerOptions(
      max_to_keep=max(2, self._keep),
      create=False,
      enable_async_checkpointing=False,
      **processes,
    )
    return ocp.CheckpointManager(
      os.path.abspath(self._folder),
      options=options,
      item_handlers={
        "state": ocp.StandardCheckpointHandler(**processes),
        "host": ocp.JsonCheckpointHandler(**processes),
      },
    )

  def save(self, step: int, state: PyTree, host: Mapping[str, Any]) -> None:
    """Writes one step; returns when it is committed. All ranks call it.

    Raises:
      OSError: the disk is full (with the bytes that are needed and free), or the step
        could not be written; the steps before it are whole.
    """
    manager = self._manager
    if not all(map(processes_lib.holds, jax.tree.leaves(state))):
      # Spread over the processes: they write together, and wait for each other.
      manager = self._shared = self._shared or self._open()
    elif not processes_lib.is_writer():
      return
    arrays = jax.tree.map(
      lambda x: np.asarray(x) if processes_lib.holds(x) else x, state
    )
    # Together they cannot wait: who has room would not know of who has none.
    rule = "stop" if manager is self._shared else self._on_full
    self._make_room(step, arrays, host)
    disk.patiently(
      f"checkpoint {step}",
      lambda: self._write(manager, step, arrays, host),
      self._folder,
      rule,
      _size(arrays, host),
    )
    if processes_lib.is_writer():
      sums = lambda: self._write_sums(step)
      disk.patiently("its checksums", sums, self._folder, rule)

  def _write(self, manager, step, arrays, host):
    """One try; what it has left where it failed is removed."""
    try:
      with _quiet_threads():
        saved = manager.save(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), host=ocp.args.JsonSave(dict(host))
          ),
          force=True,
        )
    except Exception:
      self._drop_partial(step)
      raise
    if not saved:
      raise OSError(
        errno.EIO,
        f"checkpoint {step} was not written; remove what stands there",
        str(self._folder / str(step)),
      )

  def _make_room(self, step, arrays, host):
    """Returns when the disk has room for the step, or raises."""
    if not processes_lib.is_writer():
      return
    needed = _size(arrays, host)
    while shutil.disk_usage(self._folder).free < needed:
      if self._on_full == "stop":
        raise disk.no_room(f"checkpoint {step}", self._folder, needed)
      disk.wait(f"checkpoint {step}", self._folder, needed)

  def _drop_partial(self, step):
    """Removes what a save that was not committed has left; "*": any save."""
    for path in self._folder.glob(f"{step}.orbax-checkpoint-tmp*"):
      shutil.rmtree(path, ignore_errors=True)

  def _write_sums(self, step):
    folder = self._folder / "sums"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.json"):
      if not (self._folder / path.stem).exists():
        path.unlink()
    write_json(folder / f"{step}.json", _sums(self._folder / str(step)))

  def _check_sums(self, step):
    """Raises ValueError if a file of the step is not as it was written."""
    path = self._folder / "sums" / f"{step}.json"
    if not path.is_file():
      return  # killed between the two, or of an older version
    wanted = json.loads(path.read_text())
    found = _sums(self._folder / str(step))
    changed = sorted(n for n in wanted if found.get(n) != wanted[n])
    if changed:
      raise ValueError(
        f"{changed[0]} is missing or was changed since it was written"
        f" ({len(changed)} of {len(wanted)} files)"
      )

  def _set_aside(self, newer_than):
    """Steps that cannot be read must not stand where new ones will be written."""
    for step in self._manager.all_steps():
      if step > newer_than:
        aside = self._folder / f"damaged-{step}-{time.time_ns()}"
        (self._folder / str(step)).rename(aside)
        logging.warning("Checkpoint %d was set aside as %s.", step, aside)
    self._manager.reload()

  def restore(self, template: PyTree) -> tuple[int, PyTree, dict[str, Any]] | None:
    """The newest step that rank 0 can read: (step, state, host); None if there is none.

    Args:
      template: a pytree of arrays or `jax.ShapeDtypeStruct`s, whose sharding says
        where a leaf goes (none: wherever it is used). Orbax casts to a template's
        dtype without a word, so dtypes and shapes are checked here.

    Raises:
      ValueError: checkpoints exist and none can be read; names each and why. Or
        rank 0 could read one and this rank cannot.
    """
    found = self._newest(template) if processes_lib.is_writer() else None
    step = processes_lib.exchange("the checkpoint to resume", found and found[0])[0]
    if step is not None and not processes_lib.is_writer():
      found = (step, *self._same(step, template))
    processes_lib.barrier("restored")  # rank 0 must not delete what another still reads
    return found

  def close(self) -> None:
    self._manager.close()
    if self._shared:
      self._shared.close()

  def _same(self, step, template):
    """What rank 0 has read, read here."""
    try:
      return self._read(step, template)
    except Exception as error:
      raise ValueError(
        f"rank {processes_lib.rank()} cannot read step {step} in"
        f" {self._manager.directory}, which rank 0 has read: the workdir must"
        f" be on a file system that all processes share"
        f" ({type(error).__name__}: {str(error)[:300]})"
      ) from error

  def _newest(self, template):
    self._drop_partial("*")  # of an earlier life: who restores has the folder alone
    failures = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        self._check_sums(step)
        found = (step, *self._read(step, template))
        self._set_aside(step)
        return found
      except Exception as error:  # any damage: fall back to the step before
        failures.append(f"  step {step}: {type(error).__name__}: {str(error)[:300]}")
        logging.warning(
          "Checkpoint %d cannot be read, trying the one before:\n%s", step, failures[-1]
        )
    if failures:
      raise ValueError(
        "no checkpoint can be read; use a new workdir, or remove"
        f" {self._manager.directory} to start over:\n" + "\n".join(failures)
      )
    return None

  def _read(self, step, template):
    shapes = jax.tree.map(
      lambda x: (
        jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype)
        if not isinstance(x, jax.ShapeDtypeStruct)
        else x
      ),
      template,
    )
    saved = self._manager.item_metadata(step).state
    _check(saved, shapes, step)
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    placed = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=s.sharding or first),
      shapes,
    )
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(placed), host=ocp.args.JsonRestore()
      ),
    )
    # Through the host: an array that was put on a device cannot meet one on others.
    free = lambda s, x: x if s.sharding else jnp.asarray(np.asarray(x))
    return jax.tree.map(free, shapes, restored.state), restored.host


@contextlib.contextmanager
def _quiet_threads():
  """Threads of Orbax that find no room log no traceback: it is raised here too."""

  def has_room(record):
    error = record.exc_info[1] if record.exc_info else None
    return not (error and disk.number_of(error))

  logger = logging.get_absl_logger()
  logger.addFilter(has_room)
  try:
    yield
  finally:
    logger.removeFilter(has_room)


def _size(arrays, host):
  """Bytes that a step takes on disk, at most."""
  leaves = sum(x.nbytes for x in jax.tree.leaves(arrays))
  return leaves + len(json.dumps(dict(host)).encode()) + _SPARE


def _sums(folder):
  """{file below the folder: sha256}."""
  sums = {}
  for path in sorted(p for p in folder.rglob("*") if p.is_file()):
    with open(path, "rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
    sums[path.relative_to(folder).as_posix()] = digest
  return sums


def _check(saved, shapes, step):
  """Raises if the step on disk has other leaves than the search expects."""
  found = {
    _path(p): (tuple(x.shape), np.dtype(x.dtype))
    for p, x in jax.tree_util.tree_leaves_with_path(saved)
  }
  wanted = {
    _path(p): (tuple(x.shape), np.dtype(x.dtype))
    for p, x in jax.tree_util.tree_leaves_with_path(shapes)
  }
  if found != wanted:
    names = sorted(
      n for n in found.keys() | wanted.keys() if found.get(n) != wanted.get(n)
    )
    raise ValueError(
      f"step {step} holds {names[0]} as {found.get(names[0])}, the"
      f" search needs {wanted.get(names[0])} ({len(names)} differ)"
    )


def _path(path):
  """Key path without its spelling: Orbax gives dicts for dataclasses and tuples."""
  return "/".join(
    str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path
  )
