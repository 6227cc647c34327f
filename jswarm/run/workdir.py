"""The folder of a run: who may use it, and what is written there.

Of several processes rank 0 alone locks and writes; all must see the folder, because
all restore from its checkpoints.
"""

from collections.abc import Mapping, Sequence
import fcntl
import json
import os
import pathlib
import time
from typing import Any

from jswarm.core.files import clean, write_json
from jswarm.distributed import processes
from jswarm.run.checkpoint import Checkpoints
from jswarm.run.log import Log, write_evaluations
from jswarm.systems import artifact

# Fields that do not define the search: a resumed run may change them.
FREE = (
  "search.iterations",
  "budget.",
  "log.",
  "checkpoint.",
  "engine.compile_cache",
  "engine.memo",
  "processes.",
)
# Fields that decide what a system says: a saved one is served as it was found.
SERVING = (
  "seed",
  "pool.dtype",
  "pool.today",
  "generation.temperature",
  "generation.top_p",
  "engine.int8",
  "engine.max_prompt_tokens",
)
TESTS = "test.json"  # contenders that were tested, beside the checkpoints
SEEN = 10.0  # seconds until what rank 0 wrote must be there for all


def enter(folder: pathlib.Path, config: Mapping[str, Any]):
  """Makes the workdir this run's; rank 0's lock on it.

  Raises:
    ValueError: see `lock` and `claim`; or this process does not see the workdir.
  """
  held = None
  if processes.is_writer():
    held = lock(folder)
    claim(folder, config)
  processes.barrier("the workdir")
  deadline = time.monotonic() + SEEN
  while not _sees(folder / "config.json", config):
    if time.monotonic() > deadline:
      raise ValueError(
        f"rank {processes.rank()} does not see {folder / 'config.json'} as"
        " rank 0 has written it: --workdir must be on a file system that"
        " all processes share."
      )
    time.sleep(0.2)
  return held


def _sees(path, config):
  return path.exists() and json.loads(path.read_text()) == json.loads(
    json.dumps(clean(config))
  )


def claim(folder: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Makes the workdir this configuration's, or raises with the difference."""
  check(folder, config)
  folder.mkdir(parents=True, exist_ok=True)
  write_json(folder / "config.json", config)


def check(
  folder: pathlib.Path, config: Mapping[str, Any], but: Sequence[str] = ()
) -> None:
  """Raises ValueError, with the difference, for a workdir of another configuration.

  `but`: fields that are not known yet; so a wrong workdir costs no loading of models.
  """
  path = folder / "config.json"
  if path.exists():
    saved = json.loads(path.read_text())
    now = json.loads(json.dumps(clean(dict(config))))
    changed = [
      k
      for k in sorted(saved.keys() | now.keys())
      if saved.get(k) != now.get(k) and not k.startswith((*FREE, *but))
    ]
    if changed:
      lines = [f"  {k}: {saved.get(k)!r} there, {now.get(k)!r} now" for k in changed]
      raise ValueError(
        f"{folder} holds a run of another configuration; use a new"
        " --workdir, or the same configuration to continue it:\n" + "\n".join(lines)
      )


def lock(folder: pathlib.Path):
  """Holds the workdir until the process ends, however it ends.

  Raises:
    ValueError: another process runs there; two would overwrite each other.
  """
  folder.mkdir(parents=True, exist_ok=True)
  file = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.seek(0)
    raise ValueError(
      f"{folder} is in use by process {file.read() or '?'}: wait for it,"
      " end it, or use another --workdir."
    ) from error
  file.truncate(0)
  file.write(str(os.getpid()))
  file.flush()
  return file


class Files:
  """Checkpoints and logs of a workdir; ranks other than 0 only read checkpoints."""

  def __init__(self, folder, plan):
    self.folder, self._plan = folder, plan
    self.checkpoints = Checkpoints(folder / "checkpoints", plan.keep, plan.on_full)
    self.log = None

  def open(self, after):
    if processes.is_writer():
      self.log = Log(self.folder, after, self._plan.tensorboard)

  def record(self, iteration, infos, history):
    if not self.log:
      return
    ids = [example.id for example in self._plan.task.dev]
    for info in infos:
      self.log.evaluations(iteration, info.step, ids, info.evaluations)
    self.log.write(iteration, history[-1])

  def singles(self, named):
    if self.log:
      ids = [example.id for example in self._plan.task.dev]
      self.log.evaluations(0, "single", ids, named)

  def read_tests(self, iteration):
    """What `keep_tests` kept of this iteration's final test, for rank 0; or None."""
    path = self.folder / "checkpoints" / TESTS
    if not processes.is_writer() or not path.is_file():
      return None
    kept = json.loads(path.read_text())
    return kept if kept["iteration"] == iteration else None

  def keep_tests(self, done):
    if processes.is_writer():
      write_json(self.folder / "checkpoints" / TESTS, done)

  def finish(self, plan, result):
    self.checkpoints.close()
    if self.log:
      write_evaluations(
        self.folder / "evals" / "test.jsonl",
        [example.id for example in plan.task.test],
        list(result.tested.items()),
      )
    artifact.save(
      self.folder / "best",
      result.system,
      plan.experts,
      plan.wording,
      limit=plan.task.limit,
      chat=plan.task.chat,
      serving={k: plan.config[k] for k in SERVING if k in plan.config},
      context={
        "task": plan.task.name,
        "dev": result.results["dev"],
        "test": result.results["test"],
      },
    )
    if self.log:
      write_json(self.folder / "results.json", result.results)
      self.log.close()
