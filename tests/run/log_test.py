"""The files of a run end alike, whatever was killed."""

import json

import numpy as np

from jswarm.core.files import clean, write_json
from jswarm.run.log import Log
from jswarm.systems.evaluate import Evaluation


def _fill(log, iterations):
  for t in iterations:
    log.evaluations(
      t, "role", ["x"], [("graph_0", Evaluation(t, np.array([t]), ["r"]))]
    )
    log.write(t, {"best": t / 10})


def _content(folder):
  return {p.relative_to(folder): p.read_text() for p in folder.rglob("*.jsonl")}


def test_a_resumed_log_equals_an_unbroken_one(tmp_path):
  whole = Log(tmp_path / "a", -1, False)
  _fill(whole, range(4))
  broken = Log(tmp_path / "b", -1, False)
  _fill(broken, range(4))
  with open(tmp_path / "b" / "metrics.jsonl", "a") as file:
    file.write('{"iteration": 4, "be')  # killed inside a write
  resumed = Log(tmp_path / "b", 1, False)
  _fill(resumed, range(2, 4))
  assert _content(tmp_path / "a") == _content(tmp_path / "b")


def test_a_new_run_starts_with_empty_files(tmp_path):
  _fill(Log(tmp_path, -1, False), range(2))
  Log(tmp_path, -1, False)
  assert (tmp_path / "metrics.jsonl").read_text() == ""
  assert not list((tmp_path / "evals").glob("*.jsonl"))


def test_what_is_missing_is_null_in_json(tmp_path):
  write_json(
    tmp_path / "x.json", {"a": [float("nan"), np.float32(1)], "b": np.int64(2)}
  )
  assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.0], "b": 2}
  assert clean(float("inf")) is None


def test_tensorboard_gets_the_finite_numbers(tmp_path):
  log = Log(tmp_path, -1, True)
  log.write(0, {"best": 0.5, "bad": float("nan"), "list": [1]})
  log.close()
  data = b"".join(p.read_bytes() for p in (tmp_path / "tb").iterdir())
  assert b"best" in data and b"bad" not in data


def test_a_tensorboard_that_cannot_be_written_is_one_warning(tmp_path, caplog):
  (tmp_path / "tb").write_text("a file stands where the folder belongs")
  with caplog.at_level("WARNING"):
    log = Log(tmp_path, 0, True)
    _fill(log, range(2))
    log.close()
  assert caplog.text.count("TensorBoard cannot be written") == 1
  assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
