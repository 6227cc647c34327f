"""Functions that never end, for processes of their own; nothing heavy is imported."""

import os
import pathlib
import subprocess
import time

# What a test tells a function is in a file: its process has other variables.


def echo(*arguments):
  return arguments


def process_of(*arguments):
  return os.getpid()


def fails(*arguments):
  raise KeyError("the_cause")


class OddError(Exception):
  def __init__(self, a, b):  # cannot be made of its message alone
    super().__init__(a)


def fails_oddly():
  raise OddError("odd", 1)


def hangs(folder):
  time.sleep(600)


def hangs_with_children(folder):
  """Two children: one in its group, and one that has left it."""
  for name, apart in (("near", False), ("far", True)):
    child = subprocess.Popen(["sleep", "600"], start_new_session=apart)
    (pathlib.Path(folder) / name).write_text(str(child.pid))
  time.sleep(600)


def ends_itself():
  os._exit(3)


def sometimes_hangs(examples, replies):
  """A utility for `fakes.numeric`; its third and seventh call never end."""
  path = pathlib.Path(os.environ["JSWARM_TEST_CALLS"])
  with open(path, "a") as file:
    file.write("x")
  if path.stat().st_size in (3, 7):
    time.sleep(600)
  return [sum(map(float, r.split())) / len(r.split()) for r in replies]


def hangs_always(examples, replies):
  time.sleep(600)
