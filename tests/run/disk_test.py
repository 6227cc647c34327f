"""A full disk tears nothing, says how much it lacks, and a pause ends with the room."""

import contextlib
import errno
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jswarm.run import disk
from jswarm.run.ledger import Ledger
from jswarm.run.log import Log
from tests.fake_run import end

ROOT = pathlib.Path(__file__).parents[2]


def _full_once(monkeypatch, number=errno.ENOSPC, fails=1):
  """The next so many `fsync` fail; waits are noted and take no time."""
  true, waits, left = os.fsync, [], [fails]

  def fsync(fd):
    if left[0]:
      left[0] -= 1
      raise OSError(number, os.strerror(number))
    true(fd)

  monkeypatch.setattr(disk.os, "fsync", fsync)
  monkeypatch.setattr(disk.time, "sleep", waits.append)
  return waits


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_lines_that_do_not_fit_leave_the_file_as_it_was(tmp_path, monkeypatch, number):
  path = tmp_path / "x.jsonl"
  disk.append(path, "one\n", "stop", "a line")
  _full_once(monkeypatch, number)
  with pytest.raises(OSError, match=r"no space left for a line: it needs 4 bytes, \d+"):
    disk.append(path, "two\n", "stop", "a line")
  assert path.read_text() == "one\n"
  disk.append(path, "three\n", "stop", "a line")
  assert path.read_text() == "one\nthree\n"


def test_a_pause_ends_when_there_is_room_and_writes_once(tmp_path, monkeypatch):
  waits = _full_once(monkeypatch, fails=3)
  disk.append(tmp_path / "x", "ünï\n", "pause", "a line")
  assert (tmp_path / "x").read_text("utf-8") == "ünï\n" and waits == [disk.PAUSE] * 3


def test_another_error_is_not_waited_for(tmp_path, monkeypatch):
  _full_once(monkeypatch, errno.EACCES)
  with pytest.raises(PermissionError):
    disk.append(tmp_path / "x", "a", "pause", "a line")


def test_libraries_of_c_say_it_in_words():
  full = RuntimeError("I/O error: No space left on device (os error 28)")
  assert disk.number_of(full) == errno.ENOSPC
  assert disk.number_of(ValueError("pool.space='x': allowed are")) == 0


def test_the_ledger_and_the_log_wait_too(tmp_path, monkeypatch):
  from jswarm.core.types import Reply

  ledger, log = Ledger(tmp_path / "ledger", "pause"), Log(tmp_path, -1, False, "pause")
  ledger.open(0)
  waits = _full_once(monkeypatch, fails=1)
  ledger.put({"a": Reply("x", 1, 1)}, 1.0)
  _full_once(monkeypatch, fails=2)
  log.write(0, {"best": 1.0})
  assert waits == [disk.PAUSE]
  again = Ledger(tmp_path / "ledger")
  again.open(0)
  assert list(again.known) == ["a"]
  rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(row)["best"] for row in rows] == [1.0]


def test_an_unknown_rule_is_refused():
  with pytest.raises(ValueError, match="on_full='wait': allowed are stop, pause"):
    disk.check_rule("wait")


# On a real disk of a few hundred KiB, in a name space of mounts of its own.


def _can_mount():
  probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
  with contextlib.suppress(OSError):
    return subprocess.run(probe, capture_output=True).returncode == 0
  return False


small_disk = pytest.mark.skipif(not _can_mount(), reason="no mounts of one's own here")


def _run(workdir, *arguments, size=None, room=None):
  """A fake run under the launcher's rules; on a disk of `size` bytes if given, which
  has `room` as soon as the run waits for some. There its files are kept beside it."""
  command = [sys.executable, "-m", "tests.fake_run", str(workdir), "cli", *arguments]
  if size is not None:
    workdir.mkdir(exist_ok=True)
    kept, told = (workdir.with_name(workdir.name + e) for e in (".kept", ".told"))
    more = (
      f"(until grep -q 'waits: it needs' {told}; do sleep 0.2; done;"
      f" sleep 2; mount -o remount,size={room} {workdir}) &"
    )
    script = (
      f"mount -t tmpfs -o size={size} tmpfs {workdir} || exit 99\n"
      f"test -d {kept} && cp -a {kept}/. {workdir}/\n"
      f": > {told}; {more if room else ''}\n"
      f'"$@" 2> {told}\ncode=$?\ncat {told} >&2\n'
      f"rm -rf {kept}; cp -a {workdir} {kept}; exit $code"
    )
    command = ["unshare", "-rm", "bash", "-c", script, "bash", *command]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("unbroken")
  assert _run(workdir).returncode == 0
  size = sum(p.stat().st_size for p in workdir.rglob("*") if p.is_file())
  return end(workdir), size


@pytest.mark.slow
@small_disk
@pytest.mark.parametrize("share", [0.15, 0.35, 0.6, 0.8, 0.95])
def test_a_disk_that_fills_ends_the_run_with_74_and_loses_nothing(
  unbroken, tmp_path, share
):
  whole, size = unbroken
  workdir = tmp_path / "run"
  full = _run(workdir, size=int(size * share))
  assert full.returncode == 74, full.stderr
  assert "no space left" in full.stderr and "bytes" in full.stderr
  assert "Traceback" not in full.stderr
  kept = tmp_path / "run.kept"
  for path in kept.rglob("*.json"):
    json.loads(path.read_text())  # what has its name is whole
  assert not (kept / "results.json").exists()
  done = _run(workdir, size=64 << 20)
  assert done.returncode == 0, done.stderr
  assert end(kept) == whole


@pytest.mark.slow
@small_disk
def test_a_paused_run_goes_on_by_itself_when_there_is_room(unbroken, tmp_path):
  whole, size = unbroken
  rule = ("checkpoint.on_full='pause'", "pause:1")
  done = _run(tmp_path / "run", *rule, size=int(size * 0.5), room=64 << 20)
  assert done.returncode == 0, done.stderr
  assert "waits: it needs" in done.stderr
  assert end(tmp_path / "run.kept") == whole


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3_000, 12_000])
def test_a_limit_of_a_files_size_ends_the_run_with_74(unbroken, tmp_path, limit):
  whole, _ = unbroken
  full = _run(tmp_path / "run", f"fsize:{limit}")
  assert full.returncode == 74, full.stderr
  assert "limit of a file's size" in full.stderr and "Traceback" not in full.stderr
  assert _run(tmp_path / "run").returncode == 0
  assert end(tmp_path / "run") == whole
