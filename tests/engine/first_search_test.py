"""From an empty compile cache a small search compiles few programs."""

import pathlib
import subprocess
import sys

import pytest

_MOST = 40

_CHILD = """
import logging, sys
import jax, jax.monitoring
from configs import quickstart
from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import search

compiled, names = [], []
jax.monitoring.register_event_duration_secs_listener(
  lambda name, seconds, **_: compiled.append(seconds)
  if name == "/jax/core/compile/backend_compile_duration" else None
)


class Names(logging.Handler):
  def emit(self, record):
    text = record.getMessage()
    if text.startswith("Finished XLA compilation of "):
      names.append(text.removeprefix("Finished XLA compilation of "))


jax.config.update("jax_log_compiles", True)
logging.getLogger("jax").addHandler(Names())
config = config_lib.override(quickstart.get_config(), {
  "task.dev_size": 6,
  "task.test_size": 10,
  "search.graphs": 2,
  "search.assignments": 2,
  "search.iterations": 1,
  "log.progress": False,
})
loop.run(search.plan(config), None)
print(len(compiled))
print(*names, sep="\\n")
"""


@pytest.mark.slow
def test_a_first_small_search_compiles_few_programs():
  done = subprocess.run(
    [sys.executable, "-c", _CHILD],
    cwd=pathlib.Path(__file__).parent.parent.parent,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  count, names = done.stdout.split("\n", 1)
  assert 0 < int(count) <= _MOST, f"{count} programs:\n{names}"
