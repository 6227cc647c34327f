"""A step on disk is whole, checked, and never in the way of the next one."""

import errno
import shutil
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.run import checkpoint
from jswarm.run.checkpoint import Checkpoints

STATE = {"x": jnp.arange(6.0), "n": jnp.int32(3)}


@pytest.fixture
def saved(tmp_path):
  """A folder with the steps 1 and 2."""
  made = Checkpoints(tmp_path)
  for step in (1, 2):
    made.save(step, {**STATE, "n": jnp.int32(step)}, {"step": step})
  made.close()
  return tmp_path


def _restored(folder):
  return Checkpoints(folder).restore(STATE)


def _largest(folder):
  return max(
    (p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
  )


def _flip(path):
  raw = bytearray(path.read_bytes())
  raw[len(raw) // 2] ^= 1
  path.write_bytes(raw)


@pytest.mark.parametrize(
  "harm",
  [
    lambda folder: _flip(_largest(folder)),
    lambda folder: _largest(folder).write_bytes(_largest(folder).read_bytes()[:-3]),
    lambda folder: _largest(folder).unlink(),
  ],
)
def test_a_damaged_step_is_seen_and_the_one_before_is_used(saved, harm):
  harm(saved / "2")
  step, state, host = _restored(saved)
  assert (step, host) == (1, {"step": 1})
  np.testing.assert_array_equal(state["x"], STATE["x"])


def test_every_file_of_a_step_is_under_its_checksum(saved):
  for path in sorted(p for p in (saved / "2").rglob("*") if p.is_file()):
    copy = saved.parent / "copy"
    shutil.copytree(saved, copy)
    _flip_any(copy / path.relative_to(saved))
    assert _restored(copy)[0] == 1, path
    shutil.rmtree(copy)


def _flip_any(path):
  raw = path.read_bytes()
  path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:] if raw else b"x")


def test_the_step_that_was_damaged_is_set_aside_and_can_be_saved_again(saved):
  _flip(_largest(saved / "2"))
  again = Checkpoints(saved)
  assert again.restore(STATE)[0] == 1
  again.save(2, {**STATE, "n": jnp.int32(9)}, {"step": 9})
  assert _restored(saved)[2] == {"step": 9}
  assert len(list(saved.glob("damaged-2-*"))) == 1


def test_a_foreign_step_of_a_later_number_does_not_block_saving(saved):
  shutil.copytree(saved / "2", saved / "99")
  _flip(_largest(saved / "99"))
  (saved / "sums" / "99.json").write_text((saved / "sums" / "2.json").read_text())
  again = Checkpoints(saved)
  assert again.restore(STATE)[0] == 2
  again.save(3, STATE, {"step": 3})
  assert _restored(saved)[0] == 3


def test_where_no_step_is_whole_all_are_named(saved):
  for step in ("1", "2"):
    _flip(_largest(saved / step))
  with pytest.raises(ValueError, match="(?s)no checkpoint can be read.*step 2.*step 1"):
    _restored(saved)


def test_what_was_written_and_not_committed_is_no_step_and_does_not_stay(saved):
  torn = saved / "3.orbax-checkpoint-tmp-7"
  shutil.copytree(saved / "2", torn)  # all the data, and no commit
  again = Checkpoints(saved)
  assert again.restore(STATE)[0] == 2
  again.save(3, {**STATE, "n": jnp.int32(3)}, {"step": 3})
  again.close()
  assert _restored(saved)[2] == {"step": 3} and not torn.exists()


def _disk(monkeypatch, *free):
  """A disk on which so many bytes are free, look by look."""
  left = list(free)
  look = lambda path: types.SimpleNamespace(
    free=left.pop(0) if len(left) > 1 else left[0]
  )
  monkeypatch.setattr(checkpoint.shutil, "disk_usage", look)


def test_a_full_disk_is_said_with_the_bytes_and_the_last_step_stays(saved, monkeypatch):
  made = Checkpoints(saved)
  made.restore(STATE)
  _disk(monkeypatch, 100)
  with pytest.raises(OSError, match=r"needs \d+ bytes, 100 are free") as caught:
    made.save(3, STATE, {})
  assert caught.value.errno == errno.ENOSPC
  assert _restored(saved)[0] == 2


def test_a_paused_search_goes_on_when_there_is_room_again(saved, monkeypatch):
  made = Checkpoints(saved, on_full="pause")
  made.restore(STATE)
  _disk(monkeypatch, 0, 0, 0, 1 << 40)
  monkeypatch.setattr(checkpoint.time, "sleep", lambda seconds: None)
  made.save(3, STATE, {})
  monkeypatch.undo()
  assert _restored(saved)[0] == 3


def test_a_save_that_fails_for_want_of_space_leaves_no_part(saved, monkeypatch):
  made = Checkpoints(saved)
  made.restore(STATE)

  def full(step, **_):
    (saved / f"{step}.orbax-checkpoint-tmp-1").mkdir()
    raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

  monkeypatch.setattr(made._manager, "save", full)
  with pytest.raises(OSError, match="no space left"):
    made.save(3, STATE, {})
  assert not list(saved.glob("*tmp*")) and _restored(saved)[0] == 2


def test_an_unknown_rule_for_a_full_disk_is_refused(tmp_path):
  with pytest.raises(ValueError, match="on_full='wait': allowed are stop, pause"):
    Checkpoints(tmp_path, on_full="wait")
