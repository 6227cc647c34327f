"""Several processes search as one, and none outlives the others in silence."""

import json
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import pytest

from jswarm.core.types import Request
from jswarm.distributed import processes as processes_lib
from jswarm.distributed import watchdog
from tests import fakes, folders
from tests.fake_run import end

ROOT = pathlib.Path(__file__).parents[2]
SILENCE = 6  # seconds
SHORT = (f"processes.silence={SILENCE}", "search.iterations=3")
slow = pytest.mark.slow


def _port():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def _popen(folder, rank, module, *arguments):
  with open(folder / f"rank{rank}", "w") as log:  # a full pipe would block the process
    return subprocess.Popen(
      [sys.executable, "-m", module, *map(str, arguments)],
      cwd=ROOT,
      stdout=log,
      stderr=subprocess.STDOUT,
    )


@pytest.fixture
def pair(tmp_path):
  """pair(workdir, [arguments of rank 0], [of rank 1], *of both): two fake runs."""
  started = []

  def start(workdir, first, second, *both):
    port, folders = _port(), workdir if isinstance(workdir, list) else [workdir] * 2
    new = [
      _popen(
        tmp_path,
        rank,
        "tests.fake_run",
        folders[rank],
        f"join:{port}:2:{rank}",
        *own,
        *SHORT,
        *both,
      )
      for rank, own in enumerate((first, second))
    ]
    started.extend(new)
    return new

  yield start
  for process in started:
    process.kill()


def _codes(processes, tmp_path, seconds=200):
  """(exit codes, what each printed)."""
  codes = [process.wait(seconds) for process in processes]
  return codes, [(tmp_path / f"rank{rank}").read_text() for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """What one process leaves."""
  workdir = tmp_path_factory.mktemp("alone")
  subprocess.run(
    [sys.executable, "-m", "tests.fake_run", str(workdir), *SHORT],
    cwd=ROOT,
    check=True,
    timeout=200,
  )
  return end(workdir)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_requests_are_shared_evenly_and_each_is_answered_once(count):
  draw = random.Random(0)
  requests = [
    Request(draw.randrange(3), "x" * draw.randrange(1000), 8) for _ in range(101)
  ]
  hands = processes_lib.share(requests, count)
  assert sorted(i for hand in hands for i in hand) == list(range(101))
  loads = [sum(len(requests[i].prompt) for i in hand) for hand in hands]
  assert max(loads) - min(loads) <= 3 * 1000
  for expert in range(3):
    per_rank = [sum(requests[i].expert == expert for i in hand) for hand in hands]
    assert max(per_rank) - min(per_rank) <= 2


def test_requests_go_to_the_ranks_that_hold_their_expert():
  draw = random.Random(1)
  requests = [
    Request(draw.randrange(4), "x" * draw.randrange(1000), 8) for _ in range(101)
  ]
  holders = [(0,), (1, 2), (), (2,)]  # of (): all three
  hands = processes_lib.share(requests, 3, holders)
  assert sorted(i for hand in hands for i in hand) == list(range(101))
  for rank, hand in enumerate(hands):
    assert all(rank in (holders[requests[i].expert] or (0, 1, 2)) for i in hand)
  for expert, among in ((1, (1, 2)), (2, (0, 1, 2))):
    counts = [sum(requests[i].expert == expert for i in hands[rank]) for rank in among]
    assert max(counts) - min(counts) <= 1


def test_one_process_is_left_as_it_is():
  experts, _ = fakes.numeric()
  assert (processes_lib.count(), processes_lib.rank(), processes_lib.is_writer()) == (
    1,
    0,
    True,
  )
  assert processes_lib.spread(experts) is experts
  assert processes_lib.exchange("x", {"a": (1, None)}) == [{"a": [1, None]}]
  assert processes_lib.on_writer("x", max) is max
  with processes_lib.together():
    processes_lib.same("dictionary", {"a": 1})


def test_a_senseless_time_is_refused():
  with pytest.raises(ValueError, match="processes.silence=0: at least 1"):
    watchdog.Settings(silence=0)


@slow
def test_two_processes_end_as_one_does_and_only_the_first_writes(alone, pair, tmp_path):
  workdir = tmp_path / "run"
  codes, (first, second) = _codes(pair(workdir, ["tell"], ["tell"]), tmp_path)
  assert codes == [0, 0], first + second
  assert end(workdir) == alone
  assert "wrote:" in first and "wrote:" not in second
  assert not list(workdir.rglob("*process_1*"))  # what Orbax writes from C++


@slow
def test_a_utility_that_is_never_twice_the_same_does_not_part_them(pair, tmp_path):
  codes, printed = _codes(
    pair(tmp_path / "run", ["noisy"], ["noisy"], "search.iterations=1"), tmp_path
  )
  assert codes == [0, 0], printed


@slow
def test_an_error_on_one_rank_ends_all_with_its_message(pair, tmp_path):
  codes, (first, second) = _codes(pair(tmp_path / "run", [], ["raise:7"]), tmp_path)
  assert 0 not in codes
  assert "ArithmeticError: the device is on fire" in second
  assert "rank 1 failed at iteration" in first and "the device is on fire" in first


@slow
@pytest.mark.parametrize(
  "point, lost", [("ask:9", 1), ("stop:9", 1), ("ask:9", 0), ("stop:9", 0)]
)
def test_a_dead_or_frozen_rank_ends_the_other_and_the_run_can_go_on(
  alone, pair, tmp_path, point, lost
):
  workdir, other = tmp_path / "run", 1 - lost
  started = pair(workdir, *([point] if rank == lost else [] for rank in range(2)))
  began = _time_of_loss(started[lost])
  assert started[other].wait(200) == 75
  assert time.monotonic() - began < 2 * SILENCE
  started[lost].kill()
  printed = (tmp_path / f"rank{other}").read_text()
  assert (
    f"error: rank {lost}" in printed and f"rank {other} is at: iteration" in printed
  )
  assert f"rank {lost} was at: iteration" in printed
  if lost == 1:
    # All again: two processes go on where they were.
    codes, printed = _codes(pair(workdir, [], []), tmp_path)
    assert codes == [0, 0], printed
  else:
    # Or one.
    subprocess.run(
      [sys.executable, "-m", "tests.fake_run", str(workdir), *SHORT],
      cwd=ROOT,
      check=True,
      timeout=200,
    )
  assert end(workdir) == alone


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """Four whole models, and what one process makes of them."""
  root = tmp_path_factory.mktemp("whole")
  for i in range(4):
    folders.write_base(root / "models" / f"model{i}", seed=i)
  made = f"models:{root / 'models'}"
  subprocess.run(
    [sys.executable, "-m", "tests.fake_run", str(root / "alone"), made, *SHORT],
    cwd=ROOT,
    check=True,
    timeout=400,
  )
  return made, root / "alone"


def _read(printed):
  return {line.split()[1] for line in printed.splitlines() if line.startswith("read: ")}


@slow
def test_whole_models_are_held_in_parts_and_end_as_with_one_process(
  models, pair, tmp_path
):
  made, whole = models
  workdir = tmp_path / "run"
  codes, (first, second) = _codes(pair(workdir, [], [], made), tmp_path, 400)
  assert codes == [0, 0], first + second
  assert _read(first) == {"model0", "model1"} and _read(second) == {"model2", "model3"}
  assert end(workdir) == end(whole)
  saved = lambda run: {
    p.relative_to(run): p.read_bytes()
    for p in (run / "best" / "experts").rglob("*.safetensors")
  }
  assert saved(workdir) == saved(whole) and saved(whole)


@slow
@pytest.mark.parametrize("point", ["save:2", "ask:6"])
def test_a_search_of_whole_models_goes_on_in_as_many_processes_as_there_are(
  models, pair, tmp_path, point
):
  made, whole = models
  workdir = tmp_path / "run"
  started = pair(workdir, [point], [], made)
  assert started[0].wait(400) == -signal.SIGKILL and started[1].wait(60) == 75
  if point == "save:2":
    subprocess.run(
      [sys.executable, "-m", "tests.fake_run", str(workdir), made, *SHORT],
      cwd=ROOT,
      check=True,
      timeout=400,
    )
  else:
    codes, printed = _codes(pair(workdir, [], [], made), tmp_path, 400)
    assert codes == [0, 0], printed
  assert end(workdir) == end(whole)


def _time_of_loss(process):
  """When the process was seen dead or stopped."""
  stat = pathlib.Path(f"/proc/{process.pid}/stat")
  while process.poll() is None and stat.read_text().rsplit(")", 1)[1].split()[0] != "T":
    time.sleep(0.05)
  return time.monotonic()


@slow
def test_ranks_of_different_configurations_are_refused(pair, tmp_path):
  codes, printed = _codes(pair(tmp_path / "run", [], ["seed=1"]), tmp_path)
  assert 0 not in codes
  for text in printed:
    assert "rank 1 has another configuration (1 differ)" in text
    assert "seed: 1 on rank 1, 0 on rank 0" in text
  assert not (tmp_path / "run").exists()


@slow
def test_a_rank_that_does_not_see_the_workdir_says_so(pair, tmp_path):
  codes, printed = _codes(
    pair([tmp_path / "run", tmp_path / "elsewhere"], [], []), tmp_path
  )
  assert 0 not in codes
  for text in printed:
    assert "rank 1 does not see" in text and "file system that all processes" in text


@slow
def test_a_process_too_few_does_not_wait_for_ever(tmp_path):
  process = _popen(
    tmp_path, 0, "tests.fake_run", tmp_path, f"join:{_port()}:2:0", "processes.start=3"
  )
  assert process.wait(60) == 75
  assert "not all processes came to 127.0.0.1" in (tmp_path / "rank0").read_text()


@slow
def test_the_launcher_searches_the_tiny_pool_in_two_processes(tmp_path):
  small = (
    "--config=configs/skills.py",
    "--config.task.dev_size=4",
    "--config.task.test_size=6",
    "--config.search.graphs=2",
    "--config.search.assignments=2",
    "--config.search.iterations=1",
    "--config.log.baselines=False",
  )
  join = ("--num_processes=2", f"--coordinator=127.0.0.1:{_port()}")
  search = lambda name, rank, *flags: _popen(
    tmp_path, rank, "experiments.search", f"--workdir={tmp_path / name}", *small, *flags
  )
  started = [search("two", rank, *join, f"--process_id={rank}") for rank in range(2)]
  codes, (first, second) = _codes(started, tmp_path, 400)
  assert codes == [0, 0], first + second
  assert "found system" in first and "found system" not in second
  assert search("one", 2).wait(400) == 0
  one, two = (
    json.loads((tmp_path / name / "results.json").read_text())
    for name in ("one", "two")
  )
  one.pop("timing"), two.pop("timing")
  assert one == two


@slow
def test_sigterm_ends_a_process_although_jax_would_swallow_it(pair, tmp_path):
  started = pair(tmp_path / "run", ["stop:3"], [])
  _time_of_loss(started[0])
  started[1].send_signal(signal.SIGTERM)
  assert started[1].wait(60) == -signal.SIGTERM


def test_the_launch_files_can_be_read():
  for name in ("tpu_pod.sh", "slurm.sbatch"):
    subprocess.run(["bash", "-n", ROOT / "experiments" / name], check=True)
  yaml = pytest.importorskip("yaml")
  (job,) = yaml.safe_load_all((ROOT / "experiments" / "gke_jobset.yaml").read_text())
  assert job["kind"] == "JobSet"
  for name in ("tpu_pod.sh", "slurm.sbatch", "gke_jobset.yaml"):
    text = " ".join((ROOT / "experiments" / name).read_text().replace("#", " ").split())
    assert "Not run by the authors" in text and "--distributed" in text
