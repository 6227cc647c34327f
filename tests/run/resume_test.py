"""A run that is killed and resumed ends as an unbroken one, bit for bit."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from jswarm import cli
from tests.fake_run import end

ROOT = pathlib.Path(__file__).parents[2]


def _run(workdir, *arguments):
  return subprocess.run(
    [sys.executable, "-m", "tests.fake_run", str(workdir), *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  done = _run(workdir)
  assert done.returncode == 0, done.stderr
  return end(workdir)


def test_the_same_command_twice_gives_the_same_results(unbroken, tmp_path):
  assert _run(tmp_path).returncode == 0
  assert end(tmp_path) == unbroken


# Inside the first save, inside a later one, and inside evaluations: of the experts
# alone, of a role-step, of a weight-step.
@pytest.mark.parametrize(
  "points",
  [
    pytest.param(["save:1"], marks=pytest.mark.slow),
    ["save:3"],
    pytest.param(["ask:1"], marks=pytest.mark.slow),
    pytest.param(["ask:17"], marks=pytest.mark.slow),
    [f"ask:{random.Random(0).randrange(5, 20)}", "ask:6", "save:1"],
  ],
)
def test_a_killed_run_resumes_to_the_same_bits(unbroken, tmp_path, points):
  for point in points:
    killed = _run(tmp_path, point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "results.json").exists()
  done = _run(tmp_path)
  assert done.returncode == 0, done.stderr
  assert end(tmp_path) == unbroken


def test_a_run_killed_in_its_final_test_keeps_what_it_has_tested(unbroken, tmp_path):
  assert _run(tmp_path, "test:2").returncode == -signal.SIGKILL
  kept = json.loads((tmp_path / "checkpoints" / "test.json").read_text())
  assert list(kept["tested"]) == ["system", "initial"]
  assert _run(tmp_path, "test:1").returncode == -signal.SIGKILL  # the third
  assert _run(tmp_path, "ask:1").returncode == 0  # nothing is left to ask
  assert end(tmp_path) == unbroken


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(unbroken, tmp_path):
  assert _run(tmp_path, "save:5").returncode == -signal.SIGKILL
  newest = max((tmp_path / "checkpoints").glob("[0-9]"), key=lambda p: p.name)
  for path in newest.rglob("*"):
    if path.is_file() and path.stat().st_size > 64:
      path.write_bytes(path.read_bytes()[:32])
  done = _run(tmp_path)
  assert done.returncode == 0, done.stderr
  assert "trying the one before" in done.stderr
  assert end(tmp_path) == unbroken


def test_a_finished_run_continues_when_it_is_given_more_iterations(unbroken, tmp_path):
  assert _run(tmp_path, "search.iterations=2").returncode == 0
  assert json.loads((tmp_path / "results.json").read_text())["iterations"] == 2
  assert _run(tmp_path).returncode == 0
  assert end(tmp_path) == unbroken


def test_a_workdir_of_another_configuration_is_refused_with_the_difference(tmp_path):
  assert _run(tmp_path, "search.iterations=0").returncode == 0
  before = (tmp_path / "config.json").read_text()
  other = _run(tmp_path, "search.graphs=4", "role.inertia=0.5")
  assert other.returncode != 0
  assert "search.graphs: 3 there, 4 now" in other.stderr
  assert "role.inertia: 0.2 there, 0.5 now" in other.stderr
  assert (tmp_path / "config.json").read_text() == before


@pytest.mark.slow
def test_a_signal_to_end_loses_no_call_and_asks_to_be_given_again(unbroken, tmp_path):
  ended = _run(tmp_path, "cli", "term:9")
  assert ended.returncode == cli.EXIT_AGAIN, ended.stderr
  assert "termination signal" in ended.stderr and "Traceback" not in ended.stderr
  assert "preempt" not in ended.stderr
  assert not (tmp_path / "results.json").exists()
  done = _run(tmp_path, "cli")
  assert done.returncode == 0, done.stderr
  assert end(tmp_path) == unbroken


@pytest.mark.slow
def test_a_signal_ends_within_ten_seconds_also_where_nothing_answers():
  code = (
    "import os, signal, threading, time\nfrom jswarm import cli\n"
    "cli.end_on_signal()\n"
    "def main(argv):\n"
    "  try:\n"
    "    print('ready', flush=True)\n"
    "    time.sleep(60)\n"
    "  finally:\n"  # a device call that does not end holds up whoever cleans up
    "    while True: time.sleep(60)\n"
    "cli._guard(main, [])\n"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
  )
  assert process.stdout.readline() == "ready\n"
  began = time.monotonic()
  process.send_signal(signal.SIGTERM)
  assert process.wait(30) == cli.EXIT_AGAIN and time.monotonic() - began < 10
  process.stdout.close()


@pytest.mark.slow
def test_a_budget_is_spent_once_over_three_kills(tmp_path):
  more = ("budget.calls=120", "search.iterations=50", "role.patience=99")
  whole = tmp_path / "whole"
  assert _run(whole, *more).returncode == 0
  for point in ("ask:4", "ask:5", "save:1"):
    killed = _run(tmp_path / "run", point, *more)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
  assert _run(tmp_path / "run", *more).returncode == 0
  results, *rest = end(tmp_path / "run")
  assert [results, *rest] == list(end(whole))
  assert results["finish_reason"] == "budget:calls"


@pytest.mark.slow
def test_a_utility_that_breaks_keeps_what_was_found_before(unbroken, tmp_path):
  broken = _run(tmp_path, "cli", "breaks:30")
  assert broken.returncode == cli.EXIT_DATA
  assert "failed 5 times in a row" in broken.stderr and "the_cause" in broken.stderr
  rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert rows and list((tmp_path / "checkpoints").glob("[0-9]*"))
  done = _run(tmp_path)
  assert done.returncode == 0, done.stderr
  # Failures of the first life are part of the state that it left.
  assert end(tmp_path)[0]["iterations"] == unbroken[0]["iterations"]


@pytest.mark.slow
def test_a_tensorboard_folder_that_cannot_be_written_ends_no_run(unbroken, tmp_path):
  (tmp_path / "tb").write_text("a file stands where the folder belongs")
  done = _run(tmp_path, "log.tensorboard=True")
  assert done.returncode == 0, done.stderr
  assert "TensorBoard cannot be written" in done.stderr
  assert end(tmp_path) == unbroken


def test_a_second_process_in_the_workdir_is_refused(tmp_path):
  from jswarm.run import workdir

  held = workdir.lock(tmp_path)
  other = _run(tmp_path)
  assert other.returncode != 0 and "is in use by process" in other.stderr
  held.close()


@pytest.mark.slow
@pytest.mark.parametrize(
  "fields",
  [
    ["search.credit=replace", "role.method=evolution", "weight.method=evolution"],
    ["search.mode=paper", "search.dropout_r=0.3", "search.dropout_w=0.3"],
    [
      "role.method=pso",
      "search.imprint=True",
      "graph.anneal=3",
      "graph.noise=particle",
    ],
  ],
)
def test_every_way_to_search_resumes_to_the_same_bits(tmp_path, fields):
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  assert _run(whole, *fields).returncode == 0
  killed = _run(broken, "ask:17", *fields)
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  done = _run(broken, *fields)
  assert done.returncode == 0, done.stderr
  assert end(broken) == end(whole)
