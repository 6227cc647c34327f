"""Whoever waits is told for what, in lines that a log file keeps."""

import pathlib
import re
import subprocess
import sys
import time

from absl import logging
import pytest

from jswarm.core import waits


@pytest.fixture(name="lines")
def _lines(monkeypatch):
  lines = []
  monkeypatch.setattr(logging, "info", lambda form, *args: lines.append(form % args))
  return lines


def test_what_is_over_at_once_is_not_told(lines):
  with waits.told("loading"):
    pass
  assert not lines


def test_what_takes_long_is_told_while_it_runs_and_again_with_its_time(
  lines, monkeypatch
):
  monkeypatch.setattr(waits, "_PATIENCE", 0.01)
  monkeypatch.setattr(waits, "_AGAIN", 0.05)
  with waits.told("loading"):
    time.sleep(0.3)
    during = list(lines)
  assert during[0] == "loading ..." and "so far" in during[1]
  assert lines[-1].startswith("loading: 0.")


def test_nothing_is_told_where_nobody_wants_it(lines, monkeypatch):
  monkeypatch.setattr(waits, "_PATIENCE", 0.0)
  with waits.told("loading", wanted=False):
    time.sleep(0.05)
  assert not lines


def test_a_body_that_raises_has_no_time(lines, monkeypatch):
  monkeypatch.setattr(waits, "_PATIENCE", 0.0)
  with pytest.raises(OSError), waits.told("loading"):
    raise OSError
  assert not [line for line in lines if line.startswith("loading: ")]


def test_the_size_is_that_of_the_weights_alone(tmp_path):
  (tmp_path / "model.safetensors").write_bytes(bytes(3 * 2**20))
  (tmp_path / "tokenizer.json").write_bytes(bytes(2**20))
  assert waits.size_on_disk(str(tmp_path)) == "3.0 MiB"
  assert waits.size_on_disk(str(tmp_path / "model.safetensors")) == "3.0 MiB"


_CHILD = """
from absl import logging
import numpy as np
from jswarm.core import waits
from jswarm.core.types import Request
from jswarm.engine import engine
from jswarm.pool import load, specs
from jswarm.training import sft
from jswarm.training.data import Rows
from jswarm.model.decoder import make_decoder
from tests import tiny

logging.set_verbosity(logging.INFO)
waits._PATIENCE, sft._TELL = 0.01, 0.0
pool = load.load_pool(
  specs.parse_specs(["builtin:tiny_pool/experts/reader"], "builtin:tiny_pool/base")
)
experts = engine.make_experts(tiny.pool(tiny.lora_group(3)), tiny.settings())
experts.ask([Request(e, "hello", 4, False) for e in range(3)])
rows = Rows([np.arange(9, dtype=np.int32)] * 4, [1] * 4)
settings = sft.Settings(steps=3, batch=2, warmup=0)
sft.pretrain(make_decoder(tiny.CONFIG), rows, None, settings)
"""


@pytest.mark.slow
def test_a_log_file_tells_of_loading_compiling_and_training():
  """Standard error is a pipe: no progress bar, but lines."""
  done = subprocess.run(
    [sys.executable, "-c", _CHILD],
    cwd=pathlib.Path(__file__).parent.parent.parent,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  for wanted in (
    r"loading 1 experts on \S+base \(\d+\.\d MiB\): \d+\.\d s",
    r"placing 3 experts: ",
    r"compiling a prefill of 128 tokens \.\.\.",
    r"compiling a prefill of 128 tokens: \d+\.\d s",
    r"compiling decode for 8 lanes: ",
    r"base: compiling a step of 2 rows of 16 tokens: ",
    r"base: step 1 of 3, loss \d+\.\d+, \d+ s, about \d+ s left",
    r"base: step 3 of 3, ",
  ):
    assert re.search(wanted, done.stderr), (wanted, done.stderr)
