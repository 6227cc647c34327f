"""A whole run in a process of its own, which can harm itself at a chosen point.

  python -m tests.fake_run WORKDIR [POINT:N ...] [OPTION ...] [field=value ...]

At its N-th `ask` (points ask, stop, raise, term), inside its N-th save (save) or behind
its N-th test of a contender (test) it is killed, frozen, raises, or is told to end.
Options: join:PORT:COUNT:RANK, one of several processes; tell, writes in the workdir are
told on stderr; cli, errors and SIGTERM end it as they end a launcher; fsize:BYTES, no
file may be larger; pause:SECONDS, looks at a full disk are so far apart; breaks:N, the
utility fails from its N-th call on; noisy, a utility that is never twice the same;
models:FOLDER, the pool is the whole models in there, and what is read of them is told
on stderr.
"""

import ast
import dataclasses
import itertools
import json
import os
import pathlib
import random
import resource
import signal
import sys

import jax
from jax.experimental import multihost_utils
import numpy as np

from jswarm import cli
from jswarm.distributed import processes
from jswarm.formats import hf_model
from jswarm.run import disk, loop
from jswarm.run.checkpoint import Checkpoints
from jswarm.run.workdir import Files
from jswarm.tasks import custom
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config
from tests import fakes, folders

POINTS = ("ask:", "stop:", "raise:", "term:", "save:", "test:")
HARMS = {"stop": signal.SIGSTOP, "term": signal.SIGTERM}
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
SMALL = {
  "task.kind": "custom",
  "search.graphs": 3,
  "search.assignments": 4,
  "search.iterations": 5,
  "log.progress": False,
  "log.tensorboard": False,
  "messages.response": "response {k}: {reply}",
  "engine.compile_cache": False,
}


def plan(changes=(), utility=fakes.mean_of_numbers, experts=None, **fields):
  config = config_lib.override(get_config(), {**SMALL, **dict(changes)})
  return search.plan(
    config,
    records=fakes.records(),
    utility=utility,
    experts=experts or fakes.numeric()[0],
    **fields,
  )


class _Bomb(dict):
  """A JSON object that kills the process while it is being written."""

  def items(self):
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(made, point):
  """The plan, set to be harmed at this point."""
  where, count = point.split(":")
  seen = [0]

  def count_down():
    seen[0] += 1
    return seen[0] == int(count)

  if where == "save":
    save = Checkpoints.save
    Checkpoints.save = lambda self, step, state, host: save(
      self, step, state, {**host, "bomb": _Bomb(a=1)} if count_down() else host
    )
    return made
  if where == "test":
    keep = Files.keep_tests
    Files.keep_tests = lambda self, done: (
      keep(self, done),
      count_down() and os.kill(os.getpid(), signal.SIGKILL),
    )
    return made
  inner = made.experts.ask

  def ask(requests):
    if count_down():
      if where == "raise":
        raise ArithmeticError("the device is on fire")
      os.kill(os.getpid(), HARMS.get(where, signal.SIGKILL))
    return inner(requests)

  return dataclasses.replace(made, experts=made.experts._replace(ask=ask))


def end(workdir):
  """Everything a run leaves: results, history, scores, and the whole state."""
  results = json.loads((workdir / "results.json").read_text())
  results.pop("timing")
  state = np.load(workdir / "state.npz")
  files = {
    str(p.relative_to(workdir)): p.read_bytes()
    for p in [workdir / "metrics.jsonl", *(workdir / "evals").iterdir()]
  }
  return results, {k: state[k].tobytes() for k in state.files}, files


def noisy(examples, replies):
  return [
    x + random.SystemRandom().random() for x in fakes.mean_of_numbers(examples, replies)
  ]


def _breaking(first):
  """The utility of the fakes, until it breaks."""
  calls = itertools.count(1)

  def utility(examples, replies):
    if next(calls) >= first:
      raise KeyError("the_cause")
    return fakes.mean_of_numbers(examples, replies)

  return utility


def _tell(workdir):
  """Python's writes in the workdir from now on, on stderr."""

  def hook(event, args):
    opened = event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    if (opened or event in WRITES) and str(args[0]).startswith(workdir):
      os.write(2, f"wrote: {event} {args[0]}\n".encode())

  sys.addaudithook(hook)


def _join(port, count, rank, changes):
  config = config_lib.override(get_config(), changes)
  processes.initialize(
    f"127.0.0.1:{port}", int(count), int(rank), config_lib.processes(config)
  )


def _of_models(folder, changes):
  """A plan whose experts are whole models; tells which of them are read."""
  reader = hf_model.leaf_reader

  def told(path, *arguments):
    read = reader(path, *arguments)
    return lambda leaf: (
      os.write(2, f"read: {pathlib.Path(path).name}\n".encode()),
      read(leaf),
    )[1]

  hf_model.leaf_reader = told
  models = tuple(sorted(map(str, pathlib.Path(folder).iterdir())))
  config = config_lib.override(
    get_config(),
    {**folders.SMALL, "task.kind": "custom", "pool.experts": models, **dict(changes)},
  )
  return search.plan(
    config, records=folders.records(), utility=folders.said_something_new
  )


def _gathered(leaf):
  """The whole of a leaf, which processes may hold in parts."""
  if processes.holds(leaf):
    return np.asarray(leaf)
  return multihost_utils.process_allgather(leaf, tiled=True)


def _value(text):
  """A number, a tuple, None ...; what is none of them is a word."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def main(workdir, *arguments):
  points = [a for a in arguments if a.startswith(POINTS)]
  fields = [a.split("=", 1) for a in arguments if "=" in a]
  changes = {k: _value(v) for k, v in fields}
  for joined in (a for a in arguments if a.startswith("join:")):
    _join(*joined.split(":")[1:], changes)
  if "tell" in arguments:
    _tell(workdir)
  for limit in (a for a in arguments if a.startswith("fsize:")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit[6:]),) * 2)
  for pause in (a for a in arguments if a.startswith("pause:")):
    disk.PAUSE = float(pause[6:])
  models = [a.removeprefix("models:") for a in arguments if a.startswith("models:")]
  made = (
    _of_models(*models, changes)
    if models
    else plan(changes, **({"utility": noisy} if "noisy" in arguments else {}))
  )
  for first in (a for a in arguments if a.startswith("breaks:")):
    score = custom.custom_utility(_breaking(int(first[7:])))
    made = dataclasses.replace(made, task=dataclasses.replace(made.task, score=score))
  for point in points:
    made = _arm(made, point)
  result = loop.run(made, workdir)
  leaves = list(map(_gathered, jax.tree.leaves(result.state)))
  if processes.is_writer():
    np.savez(os.path.join(workdir, "state.npz"), *leaves)


if __name__ == "__main__":
  if "cli" in sys.argv:
    cli.end_on_signal()
    cli._guard(lambda argv: main(*argv), sys.argv[1:])
  else:
    main(*sys.argv[1:])
