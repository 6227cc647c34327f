"""A utility that hangs is killed in time, and all that it has started."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import pytest

from jswarm.run import loop
from jswarm.systems import killable
from jswarm.systems.evaluate import UtilityBroken
from jswarm.tasks import custom
from tests import hanging
from tests.fake_run import plan


def _alive(pid):
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
  except OSError:
    return False
  return state != "Z"


def _gone(pid):
  deadline = time.monotonic() + 10
  while _alive(pid) and time.monotonic() < deadline:
    time.sleep(0.05)
  return not _alive(pid)


def test_a_function_answers_from_one_process_that_is_not_this_one():
  made = killable.Killable(hanging.process_of, 60.0)
  first = made()
  assert first != os.getpid() and made(1, "ünï") == first
  made.close()
  assert _gone(first)


def test_a_function_may_be_given_by_name_and_is_recorded_under_it():
  made = killable.Killable("tests.hanging:echo", 60.0)
  assert made([1], {"a": None}) == ([1], {"a": None})
  assert custom.name_of(made) == "tests.hanging:echo"
  again = pickle.loads(pickle.dumps(made))
  assert again(2) == (2,)
  made.close(), again.close()


def test_what_it_raises_is_raised_here_with_its_traceback():
  made = killable.Killable(hanging.fails, 60.0)
  with pytest.raises(KeyError, match="the_cause") as caught:
    made()
  assert "in fails" in str(caught.value.__cause__)
  made.close()
  odd = killable.Killable(hanging.fails_oddly, 60.0)
  with pytest.raises(RuntimeError, match="OddError: odd"):
    odd()
  odd.close()


def test_a_call_beyond_its_limit_is_killed_and_its_children_too(tmp_path):
  made = killable.Killable(hanging.hangs_with_children, 2.0, "task.utility_seconds")
  made._start()
  first, began = made._process.pid, time.monotonic()
  with pytest.raises(killable.TimeLimit, match=r"2 s \(task.utility_seconds\)"):
    made(str(tmp_path))
  assert time.monotonic() - began < 2.0 * 1.1 + 1  # and a loaded machine
  for name in ("near", "far"):
    assert _gone(int((tmp_path / name).read_text())), name
  assert _gone(first)


def test_a_process_that_ends_by_itself_is_replaced():
  made = killable.Killable(hanging.ends_itself, 60.0)
  for _ in range(2):
    with pytest.raises(RuntimeError, match="ended by itself, with code 3"):
      made()


@pytest.mark.parametrize("fn", [lambda: 1, pytest.param((lambda x: lambda: x)(1))])
def test_what_has_no_name_in_another_process_is_refused_with_the_remedy(fn):
  with pytest.raises(ValueError, match="define it in a module.*or set limit=0"):
    killable.Killable(fn, 1.0, "limit")
  with pytest.raises(ValueError, match="limit=0.0: allowed is more than 0"):
    killable.Killable(hanging.echo, 0.0, "limit")


def test_no_process_is_left_behind_by_one_that_was_killed(tmp_path):
  code = (
    "import sys, time\nfrom jswarm.systems import killable\n"
    "from tests import hanging as t\n"
    "made = killable.Killable(t.hangs, 600.0); made._start()\n"
    "print(made._process.pid, flush=True); made('')\n"
  )
  parent = subprocess.Popen(
    [sys.executable, "-c", code],
    stdout=subprocess.PIPE,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  child = int(parent.stdout.readline())
  assert _alive(child)
  parent.send_signal(signal.SIGKILL)
  parent.wait()
  parent.stdout.close()
  assert _gone(child)


@pytest.mark.slow
def test_evaluations_that_hang_fail_alone_and_the_search_ends(monkeypatch, tmp_path):
  monkeypatch.setenv("JSWARM_TEST_CALLS", str(tmp_path / "calls"))
  made = plan(
    {"task.utility_seconds": 2.0, "search.iterations": 1},
    utility=hanging.sometimes_hangs,
  )
  result = loop.run(made, None)
  assert result.results["failures"] == 2
  assert result.results["finish_reason"] == "max_iterations"
  assert result.results["test"]["system"]["n"] == 6


@pytest.mark.slow
def test_a_utility_that_always_hangs_ends_the_search_with_the_limit():
  made = plan({"task.utility_seconds": 0.5}, utility=hanging.hangs_always)
  with pytest.raises(UtilityBroken, match="5 times in a row(.|\n)*utility_seconds"):
    loop.run(made, None)
