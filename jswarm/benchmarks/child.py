"""Functions in a process of their own: for another start, or other devices.

python -m jswarm.benchmarks.child MODULE:FUNCTION ARGUMENTS.json RESULT.json
"""

from collections.abc import Mapping
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from jswarm.core import files

_ROOT = pathlib.Path(__file__).parent.parent.parent


def call(
  target: str, arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Any]:
  """What "package.module:function" gives for these arguments; JSON both ways.

  Raises:
    RuntimeError: the process failed; with the end of what it said.
  """
  with tempfile.TemporaryDirectory() as folder:
    given, out = os.path.join(folder, "in.json"), os.path.join(folder, "out.json")
    files.write_json(given, dict(arguments))
    done = subprocess.run(
      [sys.executable, "-m", "jswarm.benchmarks.child", target, given, out],
      env={**os.environ, **environment, "PYTHONPATH": _path()},
      check=False,
      capture_output=True,
      text=True,
    )
    if done.returncode:
      raise RuntimeError(
        f"{target} failed with {done.returncode}: {done.stderr[-2000:]}"
      )
    with open(out, encoding="utf-8") as file:
      return json.load(file)


def _path():
  return os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def main(argv: list[str]) -> None:
  target, given, out = argv[1:]
  module, _, name = target.partition(":")
  with open(given, encoding="utf-8") as file:
    arguments = json.load(file)
  files.write_json(out, getattr(importlib.import_module(module), name)(**arguments))


if __name__ == "__main__":
  main(sys.argv)
