"""The folder of a run: who may use it, and what is written there.

Of several processes rank 0 alone locks and writes; all must see the folder, because
all restore from its checkpoints.
"""

from collections.abc import Mapping, Sequence
import fcntl
import json
import os
import pathlib
import shutil
import time
from typing import Any

from absl import logging

from jswarm.core.files import clean, write_json, write_jsonl
from jswarm.distributed import processes
from jswarm.run import changes, code, disk
from jswarm.run.checkpoint import Checkpoints
from jswarm.run.log import Log, write_evaluations
from jswarm.systems import artifact

# Fields that decide what a system says: a saved one is served as it was found.
SERVING = (
  "seed",
  "pool.dtype",
  "pool.today",
  "pool.thinking",
  "generation.temperature",
  "generation.top_p",
  "engine.int8",
  "engine.max_prompt_tokens",
)
RANDOM = "random.json"  # in evals: dev utilities of random graphs, in order
TRACES = "traces.jsonl"  # in evals: what each node said on test
LEDGER = "ledger"  # the calls since the last checkpoint, beside the checkpoints
TESTS = "test.json"  # contenders that were tested, beside the checkpoints
SEEN = 10.0  # seconds until what rank 0 wrote must be there for all


def enter(
  folder: pathlib.Path, config: Mapping[str, Any], accepted: Sequence[str] = ()
):
  """Makes the workdir this run's; rank 0's lock on it.

  `accepted`: changes of the configuration that are known of, see `changes`.

  Raises:
    ValueError: see `lock` and `claim`; or this process does not see the workdir.
  """
  held = None
  if processes.is_writer():
    held = lock(folder)
    claim(folder, config, accepted)
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


def claim(
  folder: pathlib.Path, config: Mapping[str, Any], accepted: Sequence[str] = ()
) -> None:
  """Makes the workdir this configuration's, or raises with the difference."""
  changed = check(folder, config, accepted=accepted)
  folder.mkdir(parents=True, exist_ok=True)
  if changed:
    changes.record(folder, changed)
    # Calls after the checkpoint would be taken for those of the new configuration.
    if any(c.field.startswith(changes.REPLIES) for c in changed):
      shutil.rmtree(folder / "checkpoints" / LEDGER, ignore_errors=True)
    names = ", ".join(c.field for c in changed)
    logging.warning("%s goes on with changes that were accepted: %s.", folder, names)
  write = lambda: write_json(folder / "config.json", config)
  disk.patiently("the configuration", write, folder, "stop")


def check(
  folder: pathlib.Path,
  config: Mapping[str, Any],
  but: Sequence[str] = (),
  accepted: Sequence[str] = (),
) -> list[changes.Change]:
  """What differs and is accepted; raises ValueError, with the difference, for a workdir
  of another configuration.

  `but`: fields that are not known yet; so a wrong workdir costs no loading of models.
  """
  path = folder / "config.json"
  if not path.exists():
    return []
  saved = json.loads(path.read_text())
  if lacking := changes.unrecorded(saved, config):
    logging.warning(
      "%s was made by a version that did not record %s: it cannot be known whether it"
      " is still the same.",
      folder,
      ", ".join(lacking),
    )
  changed = changes.differences(saved, config, but)
  changes.refuse(folder, changed, accepted)
  return changed


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


def _samples(result, traced):
  """Of each traced question: what was asked, the answer, the gold one and its score."""
  tested = result.tested["system"]
  return [
    {
      **{field: row[field] for field in ("index", "id", "question", "gold")},
      "reply": tested.replies[row["index"]],
      "score": float(tested.scores[row["index"]]),
    }
    for row in traced
  ]


class Files:
  """Checkpoints and logs of a workdir; ranks other than 0 only read checkpoints."""

  def __init__(self, folder, plan):
    self.folder, self._plan = folder, plan
    self.checkpoints = Checkpoints(folder / "checkpoints", plan.keep, plan.on_full)
    self.log = None

  def open(self, after):
    if processes.is_writer():
      plan = self._plan
      self.log = Log(self.folder, after, plan.tensorboard, plan.on_full)

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

  def random_graphs(self, utilities):
    """Dev utilities of as many random graphs as the search has scored systems."""
    if self.log:
      path, rule = self.folder / "evals" / RANDOM, self._plan.on_full
      write = lambda: write_json(path, {"utilities": utilities})
      disk.patiently("random graphs", write, self.folder, rule)

  def read_tests(self, iteration):
    """What `keep_tests` kept of this iteration's final test, for rank 0; or None."""
    path = self.folder / "checkpoints" / TESTS
    if not processes.is_writer() or not path.is_file():
      return None
    kept = json.loads(path.read_text())
    return kept if kept["iteration"] == iteration else None

  def keep_tests(self, done):
    if processes.is_writer():
      path = self.folder / "checkpoints" / TESTS
      rule = self._plan.on_full
      disk.patiently("a test", lambda: write_json(path, done), self.folder, rule)

  def finish(self, plan, result, traced=()):
    """Writes what was found; `traced`: rows of `systems.traces`."""
    self.checkpoints.close()
    # Several processes write the system together, and cannot wait for one of them.
    rule = plan.on_full if processes.count() == 1 else "stop"
    write = lambda: self._finish(plan, result, traced)
    disk.patiently("the results", write, self.folder, rule)

  def _finish(self, plan, result, traced):
    if self.log:
      write_jsonl(self.folder / "evals" / TRACES, traced)
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
      scoring=code.scoring(plan.task, plan.config),
      found=artifact.Found(plan.config, result.results, _samples(result, traced)),
    )
    if self.log:
      write_json(self.folder / "results.json", result.results)
      self.log.close()
