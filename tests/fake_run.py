"""A whole run in a process of its own, which can kill itself at a chosen point.

  python -m tests.fake_run WORKDIR [ask:N | save:N] [field=value ...]
"""

import ast
import os
import signal
import sys

import jax
import numpy as np

from jswarm import build, run
from jswarm.checkpoint import Checkpoints
from jswarm.default_config import get_config
from tests import fakes

SMALL = {
    "task.kind": "custom", "search.graphs": 3, "search.assignments": 4,
    "search.iterations": 5, "log.progress": False, "log.tensorboard": False,
    "messages.response": "response {k}: {reply}", "engine.compile_cache": False}


def plan(changes=(), utility=fakes.mean_of_numbers, experts=None, **fields):
  config = build.override(get_config(), {**SMALL, **dict(changes)})
  return build.plan(config, records=fakes.records(), utility=utility,
                    experts=experts or fakes.numeric()[0], **fields)


class _Bomb(dict):
  """A JSON object that kills the process while it is being written."""

  def items(self):
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(made, point):
  """The plan, set to be killed at its N-th `ask`, or inside its N-th save."""
  where, count = point.split(":")
  seen = [0]

  def count_down():
    seen[0] += 1
    return seen[0] == int(count)

  if where == "save":
    save = Checkpoints.save
    Checkpoints.save = lambda self, step, state, host: save(
        self, step, state, {**host, "bomb": _Bomb(a=1)} if count_down() else host)
    return made
  inner = made.experts.ask

  def ask(requests):
    if count_down():
      os.kill(os.getpid(), signal.SIGKILL)
    return inner(requests)

  import dataclasses
  return dataclasses.replace(made, experts=made.experts._replace(ask=ask))


def main(workdir, *arguments):
  points = [a for a in arguments if a.startswith(("ask:", "save:"))]
  changes = [a.split("=", 1) for a in arguments if a not in points]
  made = plan({k: ast.literal_eval(v) for k, v in changes})
  for point in points:
    made = _arm(made, point)
  result = run.run(made, workdir)
  leaves = jax.tree.leaves(result.state)
  np.savez(os.path.join(workdir, "state.npz"), *map(np.asarray, leaves))


if __name__ == "__main__":
  main(*sys.argv[1:])
