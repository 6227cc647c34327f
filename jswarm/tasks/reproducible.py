"""A function in a Python whose hashes of text are the same in every process.

Python salts the hash of text anew in each process, and with it the order of a set of
words: code of others that draws from one gives something else each time, whatever its
seed. In a process that is started with PYTHONHASHSEED=0 it does not.
"""

from collections.abc import Callable
import os
import pickle
import subprocess
import sys
from typing import Any

_CODE = "from jswarm.tasks import reproducible; reproducible.work()"


def call(fn: Callable, *arguments: Any) -> Any:
  """fn(*arguments), in a process of its own unless this one has no salt.

  Args:
    fn: of a module, as are the types of arguments and value: both are pickled.

  Raises:
    Exception: what `fn` raises. RuntimeError: the process ended by itself.
  """
  if not sys.flags.hash_randomization:
    return fn(*arguments)
  search = os.pathsep.join(filter(None, sys.path))
  done = subprocess.run(
    [sys.executable, "-c", _CODE],
    input=pickle.dumps((fn, arguments)),
    capture_output=True,
    check=False,
    env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": search},
  )
  if done.returncode:
    told = done.stderr.decode("utf-8", "replace").strip()[-800:]
    raise RuntimeError(
      f"the process of {fn.__module__}.{fn.__qualname__} ended with"
      f" {done.returncode}: {told}"
    )
  worked, value = pickle.loads(done.stdout)
  if worked:
    return value
  raise value


def work() -> None:
  """The other end: reads what `call` wrote, writes (did it work, value or error)."""
  # What the function prints, or a library that it imports, must not stand in between.
  out = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)
  fn, arguments = pickle.load(sys.stdin.buffer)
  try:
    told = (True, fn(*arguments))
  except ValueError as error:
    told = (False, error)
  with out:
    pickle.dump(told, out)
