"""Replies on disk: kept for all processes, never wrong, never in the way."""

import pathlib
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from jswarm.core.types import Reply
from jswarm.engine.reply_store import Store, key

ROOT = pathlib.Path(__file__).parents[2]
WHOLE = dict(
  weights_digest="w",
  tokens=[1, 2, 300],
  limit=5,
  decoding="greedy",
  tokenizer_digest="t",
)


def _keys(count, prefix=""):
  return [key(f"{prefix}{i}", [i], 5, "greedy", "t") for i in range(count)]


def _replies(count):
  return [Reply(f"reply {i}", i, 2) for i in range(count)]


def test_what_was_put_is_there_for_another_store_and_the_rest_is_not(tmp_path):
  keys = _keys(1203)  # more than one query
  first = Store(tmp_path / "new" / "replies.sqlite")
  first.put(keys[:1200], _replies(1200))
  assert first.get(keys) == _replies(1200) + [None] * 3
  first.close()
  assert (
    Store(tmp_path / "new" / "replies.sqlite").get(keys[::-1])[3:]
    == (_replies(1200)[::-1])
  )


@pytest.mark.parametrize("text", ["", 'ünï\ud800\x00\n"', "x" * 100_000])
def test_any_text_comes_back_as_it_was(tmp_path, text):
  store = Store(tmp_path / "s")
  store.put([key(**WHOLE)], [Reply(text, 7, 9)])
  (found,) = store.get([key(**WHOLE)])
  assert found == Reply(text, 7, 9) and isinstance(found, Reply)


def test_a_failure_is_never_stored(tmp_path):
  store = Store(tmp_path / "s")
  store.put(_keys(2), [None, Reply("good", 1, 1)])
  assert store.get(_keys(2)) == [None, Reply("good", 1, 1)]


@pytest.mark.parametrize(
  "field, value",
  [
    ("weights_digest", "v"),
    ("tokens", [1, 2, 301]),
    ("tokens", [1, 2]),
    ("tokens", [1, 2, 300, 0]),
    ("limit", 6),
    ("decoding", "t=0.7"),
    ("tokenizer_digest", "u"),
    ("weights_digest", 'w", 5'),
  ],
)
def test_whatever_a_reply_depends_on_is_in_its_key(tmp_path, field, value):
  store = Store(tmp_path / "s")
  store.put([key(**WHOLE)], [Reply("a", 1, 1)])
  assert store.get([key(**{**WHOLE, field: value})]) == [None]


def test_the_key_is_of_the_token_ids_whatever_holds_them():
  held = [WHOLE["tokens"], tuple(WHOLE["tokens"]), np.array(WHOLE["tokens"], np.int32)]
  assert len({key(**{**WHOLE, "tokens": tokens}) for tokens in held}) == 1
  assert len(key(**WHOLE)) == 32


@pytest.mark.parametrize(
  "change",
  [
    "value = replace(value, 'reply 1', 'reply 7')",
    "value = x'ff00'",
    "value = 3",
    "value = CAST(x'ff' AS TEXT)",
    "sum = x'00'",
  ],
)
def test_a_damaged_entry_is_a_miss_and_can_be_put_again(tmp_path, change):
  store = Store(tmp_path / "s")
  store.put(_keys(3), _replies(3))
  with sqlite3.connect(tmp_path / "s") as other:
    other.execute(f"UPDATE replies SET {change} WHERE key = ?", [_keys(3)[1]])
  assert store.get(_keys(3)) == [_replies(3)[0], None, _replies(3)[2]]
  store.put(_keys(3), _replies(3))
  assert store.get(_keys(3)) == _replies(3)


def test_an_entry_under_another_key_is_a_miss(tmp_path):
  store = Store(tmp_path / "s")
  store.put(_keys(1), _replies(1))
  with sqlite3.connect(tmp_path / "s") as other:
    other.execute("UPDATE replies SET key = ?", [_keys(2)[1]])
  assert store.get(_keys(2)) == [None, None]


WRITER = """
import sys
from jswarm.engine.reply_store import Store
from tests.engine.reply_store_test import _keys, _replies
store = Store(sys.argv[1])
for i, (name, reply) in enumerate(zip(_keys(300, sys.argv[2]), _replies(300))):
  store.put([name, *_keys(1)], [reply, _replies(1)[0]])
  assert store.get([name]) == [reply], i
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
  writers = [
    subprocess.Popen(
      [sys.executable, "-c", WRITER, tmp_path / "s", name],
      cwd=ROOT,
      stderr=subprocess.PIPE,
      text=True,
    )
    for name in ("a", "b", "c")
  ]
  for writer in writers:
    _, said = writer.communicate(timeout=300)
    assert writer.returncode == 0 and "no longer" not in said, said
  store = Store(tmp_path / "s")
  for name in ("a", "b", "c"):
    assert store.get(_keys(300, name)) == _replies(300)


@pytest.mark.parametrize(
  "content", [b"no database at all" * 100, b"SQLite format 3\0" * 99]
)
def test_a_file_that_is_no_store_is_named_with_what_to_do(tmp_path, content):
  (tmp_path / "s").write_bytes(content)
  with pytest.raises(ValueError, match=r"/s cannot be used as a store(.|\n)*delete it"):
    Store(tmp_path / "s")
  assert (tmp_path / "s").read_bytes() == content


def test_a_folder_and_a_database_of_another_program_are_no_stores(tmp_path):
  with sqlite3.connect(tmp_path / "other") as other:
    other.execute("CREATE TABLE replies (id INTEGER)")
  for path in (tmp_path, tmp_path / "other"):
    with pytest.raises(ValueError, match="cannot be used as a store"):
      Store(path)


def test_a_store_that_is_damaged_while_it_is_open_is_named_by_get_alone(tmp_path):
  store = Store(tmp_path / "s", timeout=0.1)
  store.put(_keys(2000), _replies(2000))
  store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
  store._db.execute("PRAGMA cache_size=0")
  size = (tmp_path / "s").stat().st_size
  with open(tmp_path / "s", "r+b") as file:
    file.seek(4096)
    file.write(b"\xaa" * (size - 4096))
  store.put(_keys(10, "new"), _replies(10))
  with pytest.raises(ValueError, match="delete it"):
    store.get(_keys(2000))


def _warnings(caplog):
  return [
    r.getMessage() for r in caplog.records if "no longer stored" in r.getMessage()
  ]


def test_a_full_disk_ends_the_storing_with_one_warning(tmp_path, caplog):
  store = Store(tmp_path / "s")
  store.put(_keys(2), _replies(2))
  store._db.execute("PRAGMA max_page_count=8")
  big = [Reply("x" * 200_000, 1, 1)]
  for i in range(3):
    store.put([key(f"big{i}", [1], 1, "", "")], big)
  assert store.get(_keys(2)) == _replies(2)
  assert len(_warnings(caplog)) == 1 and "full" in _warnings(caplog)[0]


def test_a_lock_that_is_held_too_long_ends_the_storing_with_one_warning(
  tmp_path, caplog
):
  store = Store(tmp_path / "s", timeout=0.1)
  store.put(_keys(2), _replies(2))
  other = sqlite3.connect(tmp_path / "s", isolation_level=None)
  other.execute("BEGIN IMMEDIATE")
  for _ in range(3):
    store.put(_keys(3), _replies(3))
  assert store.get(_keys(3)) == _replies(2) + [None]
  assert len(_warnings(caplog)) == 1 and "locked" in _warnings(caplog)[0]


def test_a_file_that_is_locked_from_the_start_is_done_without(tmp_path, caplog):
  other = sqlite3.connect(tmp_path / "s", isolation_level=None)
  other.execute("BEGIN EXCLUSIVE")
  other.execute("CREATE TABLE t (a)")
  store = Store(tmp_path / "s", timeout=0.1)
  store.put(_keys(1), _replies(1))
  assert store.get(_keys(1)) == [None]
  assert len(_warnings(caplog)) == 1
