"""The benchmarks at toy sizes: complete rows, equal work, ratios with wide margins."""

import dataclasses
import functools
import itertools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from jswarm.benchmarks import (
  experts,
  generate,
  harness,
  published,
  report,
  roofline,
  workload,
)
from jswarm.benchmarks.harness import Contender, Options, Record, Timing
from jswarm.benchmarks.suites import SUITES, chosen
from jswarm.benchmarks.workload import TOY
from jswarm.engine import adapter_forms
from jswarm.swarm import motion

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
OPTIONS = Options(repeats=1, small=True, dtypes=("float32",), dev=2)


def _assert_complete(records, suite):
  assert records
  for record in records:
    assert record.suite == suite and record.case
    assert record.ours_ms or record.extra
    if record.theirs and record.ours_ms:
      assert record.theirs_ms or record.note, record  # measured, or why not
  json.dumps([report._plain(r) for r in records])
  table = report.table(records)
  assert table.count("\n|") == len(records) + 2


def test_contenders_take_turns_after_a_warm_up():
  done, ticks = [], itertools.count()
  run = lambda name: lambda: done.append(name) or {"tokens": 2}
  timings = harness.interleave(
    [
      Contender("a", run("a"), ours=True),
      Contender("b", run("b")),
      Contender("c", None, missing="not installed"),
    ],
    OPTIONS,
    "turns",
    clock=lambda: float(next(ticks)),
  )
  assert done == ["a", "b"] + ["a", "b"] * OPTIONS.repeats
  assert timings["a"].seconds == (1.0,) * OPTIONS.repeats
  assert timings["b"].work == {"tokens": 2}
  assert timings["c"].missing and not timings["c"].seconds


def test_a_long_warm_up_is_the_only_round():
  done, ticks = [], itertools.count()
  run = lambda name: lambda: done.append(name) or {"tokens": 2}
  timings = harness.interleave(
    [Contender("a", run("a"), ours=True), Contender("b", run("b"))],
    dataclasses.replace(OPTIONS, repeats=3, seconds=1.0),
    "long",
    clock=lambda: float(next(ticks)),
  )
  assert done == ["a", "b"]
  assert timings["b"].seconds == (1.0,)


def test_a_ratio_is_the_time_of_the_peer_over_ours_for_the_same_amount():
  ours = Timing("ours", (1.0, 2.0, 4.0), {"calls": 10})
  theirs = Timing("theirs", (3.0, 4.0, 4.0), {"calls": 5})
  row = harness.compare("s", "c", ours, theirs, unit="call", count="calls")
  assert row.ratio == pytest.approx(4.0) and row.paired.median == pytest.approx(4.0)
  assert row.ours_ms.median == pytest.approx(200) and row.rounds == 3


def test_unequal_work_is_an_error_and_a_missing_peer_a_row():
  ours = Timing("ours", (1.0,), {"new_tokens": 10})
  settings = dict(unit="token", count="new_tokens", same=("new_tokens",))
  with pytest.raises(ValueError, match="different work"):
    harness.compare("s", "c", ours, ours._replace(work={"new_tokens": 9}), **settings)

  def build():
    raise ImportError("No module named 'peer'")

  missing = harness.optional("peer", build)
  row = harness.compare(
    "s", "c", ours, Timing("peer", (), {}, missing.missing), **settings
  )
  assert row.ratio is None and "No module named 'peer'" in row.note


def test_an_unknown_suite_lists_the_known_ones():
  assert chosen(["all"]) == list(SUITES)
  assert chosen(["decode", "pso"]) == ["pso", "decode"]
  with pytest.raises(ValueError, match="generate, experts, search"):
    chosen(["speed"])


def test_operations_of_a_model_are_counted_by_hand():
  weights = roofline.linear_weights(TOY)
  assert weights == 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
  head, pairs = 32 * 259, 4 * 2 * 4 * 8
  first, rest = roofline.prefill(TOY, 4, 3, 2), roofline.decode(TOY, 4, 3, 2, 3)
  assert first.operations == 3 * (2 * 2 * weights + 2 * head + 3 * pairs)
  assert rest.operations == 3 * (2 * 2 * (weights + head) + (3 + 4) * pairs)
  cached = 2 * 2 * 2 * 8 * 4
  assert first.bytes == 4 * (weights + head) + 3 * 2 * cached
  assert rest.bytes == 2 * 4 * (weights + head) + 3 * (3 + 4) * cached


def test_the_loop_decodes_as_published():
  rng = np.random.default_rng(0)
  for case in json.loads((GOLDEN / "decode.json").read_text())[:200]:
    found = published.decode(np.array(case["adjacency"]), 0.0, rng)
    np.testing.assert_array_equal(found, np.array(case["edges"], bool))


def test_files_move_a_particle_as_the_formula_does(tmp_path):
  rng = np.random.default_rng(0)
  draw = lambda: {"a": rng.standard_normal((2, 3), np.float32)}
  tensors = {name: draw() for name in ("now", "velocity", "best")}
  shared = {name: draw() for name in ("swarm_best", "swarm_worst")}
  (tmp_path / "0").mkdir()
  for folder, files in ((tmp_path / "0", tensors), (tmp_path, shared)):
    for name, value in files.items():
      safetensors.numpy.save_file(value, folder / f"{name}.safetensors")
  weights, step = np.array([0.2, 0.3, 0.4, 0.1], np.float32), 0.7
  velocity, position = motion.move_particle(
    tensors["now"],
    tensors["velocity"],
    tensors["best"],
    shared["swarm_best"],
    shared["swarm_worst"],
    weights,
    step,
  )
  published.move(str(tmp_path), "0", weights.tolist(), step)
  for name, wanted in (("velocity", velocity), ("now", position)):
    found = safetensors.numpy.load_file(tmp_path / "0" / f"{name}.safetensors")
    np.testing.assert_allclose(found["a"], wanted["a"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_decoding_many_graphs_beats_the_loop():
  records = SUITES["decode"](OPTIONS)
  _assert_complete(records, "decode")
  [row] = [r for r in records if r.case == "1000 graphs, greedy"]
  assert row.ratio > 20 and row.extra["equal graphs"] == 1


@pytest.mark.slow
def test_a_move_in_place_beats_merges_of_files():
  records = SUITES["pso"](OPTIONS)
  _assert_complete(records, "pso")
  assert records[1].theirs.startswith("published") and records[1].ratio > 2


@pytest.mark.slow
def test_one_model_says_the_same_as_transformers():
  pytest.importorskip("torch")
  records = SUITES["generate"](OPTIONS)
  _assert_complete(records, "generate")
  whole = [r for r in records if r.case.endswith("whole")]
  assert [r.extra["equal replies"] for r in whole] == [1]
  assert whole[0].ratio > 0.5  # 1.5 to tens on a toy, by machine


@pytest.mark.slow
def test_random_weights_of_a_shape_need_no_folder_and_no_peer(monkeypatch):
  monkeypatch.setattr(workload, "SHAPES", {"toy": TOY})
  options = dataclasses.replace(OPTIONS, small=False, model="random:toy", batches=(2,))
  monkeypatch.setattr(
    generate.roofline,
    "measure",
    functools.partial(
      lambda measure, dtypes, small: measure(dtypes, True), generate.roofline.measure
    ),
  )
  records = SUITES["generate"](options)
  whole = records[-1]
  assert whole.ours_ms and "not exported" in whole.note
  assert records[1].extra["roofline"] > 0
  with pytest.raises(ValueError, match="random:nope: random are toy"):
    workload.load("random:nope", "float32", False)


@pytest.mark.slow
def test_experts_in_every_form_beside_three_peers(monkeypatch):
  pytest.importorskip("peft")
  monkeypatch.setattr(experts, "SHAPES", {"rank 2, q v": (2, ("q", "v"))})
  records = SUITES["experts"](OPTIONS)
  _assert_complete(records, "experts")
  assert len(records) == 3 * len(adapter_forms.FORMS)


@pytest.mark.slow
def test_forms_can_be_chosen_and_peers_left_out(monkeypatch):
  monkeypatch.setattr(experts, "SHAPES", {"rank 2, q v": (2, ("q", "v"))})
  records = SUITES["experts"](
    dataclasses.replace(OPTIONS, forms=("merged",), peers=False)
  )
  _assert_complete(records, "experts")
  assert [r.theirs for r in records] == ["base alone", experts.ONE]


@pytest.mark.slow
def test_speculation_beside_a_token_a_step():
  (row,) = SUITES["speculate"](OPTIONS)
  _assert_complete([row], "speculate")
  assert row.extra["equal replies"] == 1
  assert row.extra["steps"] <= row.extra["steps without"]


@pytest.mark.slow
def test_a_search_beside_the_published_order():
  pytest.importorskip("torch")
  records = SUITES["search"](OPTIONS)
  _assert_complete(records, "search")
  engine, transformers = (r.ratio for r in records)
  assert engine > 1 and transformers > 1  # 2, and 2.5 to a hundred, by machine
  counts = records[0].extra
  assert 0 < counts["calls made"] < counts["nominal calls"] == 2 * 2 * 3 * OPTIONS.dev


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scaling", "compile"])
def test_suites_that_start_processes(name):
  _assert_complete(SUITES[name](OPTIONS), name)


@pytest.mark.slow
def test_the_launcher_writes_json_and_a_table(tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.benchmark",
      "--suite=decode",
      "--small",
      "--repeats=1",
      f"--out={tmp_path}",
      f"--profile={tmp_path}/traces",
    ],
    check=False,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "benchmark.json").read_text())
  assert found["machine"]["packages"]["jax"] == jax.__version__
  assert len(found["records"]) == 2
  assert "## decode" in (tmp_path / "benchmark.md").read_text()
  assert list((tmp_path / "traces").rglob("*perfetto*"))


def test_a_record_without_a_peer_is_a_row():
  _assert_complete([Record(suite="s", case="c", ours="jswarm", extra={"n": 1.5})], "s")
