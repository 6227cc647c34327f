"""The accelerator check: its sections in small, and what becomes of one that fails."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jswarm.benchmarks import accelerator, checks, parity, reference
from jswarm.benchmarks.checks import Check, Section

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("parity", "forms", "speed", "search", "lowering")
QWEN3 = {"qwen3": parity.FAMILIES["qwen3"]}


def _good():
  yield Check("one", True, {"error": 0.5}, "a note")


def _broken():
  yield Check("before", True)
  raise ArithmeticError("the device is on fire")


def _wrong():
  yield Check("two", False)


def _endless():
  while True:
    time.sleep(0.01)


def _run(tmp_path, *sections):
  out = tmp_path / "new" / "out.json"
  passed = accelerator.run(str(out), sections, True)
  return passed, json.loads(out.read_text())


def test_a_section_that_raises_is_recorded_and_the_next_one_runs(tmp_path):
  passed, found = _run(tmp_path, Section("bad", 9, _broken), Section("good", 9, _good))
  assert not passed and not found["passed"]
  bad, good = found["sections"]["bad"], found["sections"]["good"]
  assert not bad["passed"] and "the device is on fire" in bad["error"]
  assert [check["name"] for check in bad["checks"]] == ["before"]
  assert good["passed"] and good["checks"] == [
    {"name": "one", "passed": True, "figures": {"error": 0.5}, "note": "a note"}
  ]
  assert found["machine"]["packages"]["jax"] == jax.__version__


def test_one_failed_check_fails_its_section_and_the_whole(tmp_path):
  passed, found = _run(tmp_path, Section("a", 9, _wrong), Section("b", 9, _good))
  assert not passed and not found["passed"]
  assert [s["passed"] for s in found["sections"].values()] == [False, True]


def test_a_section_without_a_check_has_not_passed(tmp_path):
  assert not _run(tmp_path, Section("empty", 9, lambda: iter(())))[0]


def test_a_section_beyond_its_budget_is_ended(tmp_path):
  sections = Section("slow", 0.2, _endless), Section("good", 9, _good)
  passed, found = _run(tmp_path, *sections)
  assert not passed and "budget" in found["sections"]["slow"]["error"]
  assert found["sections"]["good"]["passed"]


def test_all_passed_only_once_the_last_section_has(tmp_path):
  kept = []
  checks.run(
    [Section("a", 9, _good), Section("b", 9, _good)], lambda f: kept.append(len(f))
  )
  assert kept == [1, 1, 2, 2], "after every check and at the end of each section"
  assert _run(tmp_path, Section("a", 9, _good), Section("b", 9, _good))[0]


def test_budgets_of_all_sections_are_eight_minutes():
  sections = accelerator.sections(False)
  assert tuple(section.name for section in sections) == NAMES
  assert sum(section.seconds for section in sections) <= 8 * 60


def test_the_exit_code_is_1_if_anything_failed(tmp_path):
  code = f"""
import runpy, sys
from jswarm.benchmarks import accelerator
from jswarm.benchmarks.checks import Section
def bad():
  raise ArithmeticError("on fire")
  yield
accelerator.sections = lambda small, model: (Section("bad", 9, bad),)
sys.argv = ["accelerator_check", "--small", "--out={tmp_path / "out.json"}"]
runpy.run_module("experiments.accelerator_check", run_name="__main__")
"""
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 1, done.stderr
  found = json.loads((tmp_path / "out.json").read_text())
  assert "on fire" in found["sections"]["bad"]["error"]


def test_numpy_and_the_device_say_the_same(monkeypatch):
  monkeypatch.setattr(parity, "_missing", lambda: "not in a fast test")
  found = {check.name: check for check in parity.run(QWEN3)}
  assert all(check.passed for check in found.values())
  assert found["qwen3, float32"].figures["error"] < 1e-5
  assert 0 < found["qwen3, bfloat16"].figures["error"] < 0.06


def test_a_model_of_other_facts_is_found_out(monkeypatch):
  wrong = dataclasses.replace(QWEN3["qwen3"], rope_theta=1000.0)
  monkeypatch.setattr(
    parity.reference,
    "logits",
    lambda config, params, tokens, real=reference.logits: real(wrong, params, tokens),
  )
  monkeypatch.setattr(parity, "_missing", lambda: "no torch today")
  *found, skipped = parity.run(QWEN3)
  assert not any(check.passed for check in found)
  assert skipped.passed and "no torch today" in skipped.note


def test_a_logit_that_is_no_number_does_not_pass():
  reply = parity._Reply(np.array([1, 2]), 1, np.full((1, 5), np.nan))
  assert not parity._close("x", 0.1, [reply], [np.ones((1, 5))]).passed


@pytest.mark.slow
def test_every_section_passes_in_small(tmp_path):
  out = tmp_path / "out.json"
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.accelerator_check",
      "--small",
      f"--out={out}",
    ],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(out.read_text())
  assert found["passed"] and found["small"]
  assert tuple(found["sections"]) == NAMES
  for name, section in found["sections"].items():
    assert section["passed"] and section["checks"], name
  families = {c["name"] for c in found["sections"]["parity"]["checks"]}
  assert {f"{f}, {d}" for f in parity.FAMILIES for d in parity.TOLERANCE} <= families
