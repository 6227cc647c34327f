"""What a run tells of itself as it goes, for who watches; no resume reads it.

manifest.json: versions and devices.  timing.jsonl: a row an iteration, when and how
long it asked.  progress.json: the best system so far.  None is a reason to stop.
"""

from collections.abc import Callable
import importlib.metadata
import json
import platform
import time
from typing import Any

from absl import logging
import jax

from jswarm.core.files import write_json
from jswarm.distributed import processes
from jswarm.run.session import Session
from jswarm.systems import artifact

MANIFEST, TIMING, PROGRESS = "manifest.json", "timing.jsonl", "progress.json"
PACKAGES = (
  "jswarm",
  "jax",
  "jaxlib",
  "flax",
  "numpy",
  "transformers",
  "tokenizers",
  "safetensors",
)


def begin(session: Session) -> None:
  """A life of the run begins: with what it is made, and where."""
  devices = jax.local_devices()
  made = {
    "versions": {"python": platform.python_version(), **_versions()},
    "platform": platform.platform(),
    "devices": f"{len(devices)} {devices[0].device_kind}",
    "processes": processes.count(),
  }
  _try(session, lambda folder: write_json(folder / MANIFEST, made))
  _time(session, "begin")


def tell(session: Session) -> None:
  """An iteration is over."""
  state, names = session.reached, session.plan.experts.names
  _time(session, "iteration")
  told = {
    "iteration": int(state.iteration),
    "iterations": session.plan.settings.iterations,
    "task": session.plan.task.name,
    "system": artifact.describe(state.best, names),
    "experts": list(names),
    "singles_dev": session.singles,
    "spend": dict(session.plan.meter.spent),
  }
  _try(session, lambda folder: write_json(folder / PROGRESS, told))


def end(session: Session) -> None:
  """The final test is over."""
  _time(session, "test")


def _time(session, phase):
  """A row of timing.jsonl: seconds since 1970, and seconds of asking so far."""
  row: dict[str, Any] = {
    "phase": phase,
    "iteration": int(session.state.iteration) if session.state else -1,
    "at": round(time.time(), 3),
    "asking": round(session.plan.meter.seconds, 3),
  }

  def write(folder):
    with open(folder / TIMING, "a", encoding="utf-8") as file:
      file.write(json.dumps(row) + "\n")

  _try(session, write)


def _try(session: Session, write: Callable) -> None:
  if not session.files or not processes.is_writer():
    return
  try:
    write(session.files.folder)
  except OSError as error:
    logging.warning("the run goes on, but cannot tell of itself: %s", error)


def _versions():
  found = {}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
