"""What a caller says about a task is checked before any data are read."""

import dataclasses

import pytest

from jswarm.tasks.kinds import KINDS
from jswarm.tasks.published import TASKS
from jswarm.tasks.wishes import Judging, Source, Wishes, settle


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: Wishes(dev_size=0), "dev_size is 0; allowed is 1 or more"),
    (lambda: Wishes(test_size=-1), "test_size is -1; allowed is 0 or more"),
    (lambda: Wishes(min_chunks=0), "min_chunks is 0; allowed is 1 or more"),
    (lambda: Judging(judge_limit=0), "judge_limit is 0; allowed is 1 or more"),
    (lambda: Judging(judge_prompt="rate it"), "lacks {reply}; write it where"),
    (lambda: Source(), "the data come from nowhere; allowed is one of"),
    (lambda: Source(path="a", dev_path="b"), "come from path and dev_path; allowed"),
    (lambda: Source(records=[], test_path="b"), "come from records and test_path"),
  ],
)
def test_a_record_that_cannot_be_is_refused_where_it_is_made(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_folder_holds_a_file_a_task_and_a_file_is_itself(tmp_path):
  file = tmp_path / "mine.json"
  assert Source(path=tmp_path).places("mmlu") == {"path": str(tmp_path / "mmlu.json")}
  assert Source(path=tmp_path).places(None) == {"path": str(tmp_path)}
  assert Source(path=file).places("mmlu") == {"path": str(file)}


def test_a_split_without_a_file_has_no_place():
  assert Source(dev_path="a").places("mmlu") == {"dev": "a"}
  assert Source(dev_path="a", test_path="b").places(None) == {"dev": "a", "test": "b"}
  assert Source(records=[]).places("mmlu") == {"records": []}


def test_what_is_left_open_is_the_tables_then_the_kinds():
  known = TASKS["gsm8k"]
  of_table = settle("gsm8k", Wishes(), Judging())
  assert (of_table.kind_name, of_table.limit, of_table.chat) == (
    known.kind,
    known.limit,
    known.chat,
  )
  of_kind = settle(None, Wishes(kind="judge"), Judging())
  assert (of_kind.name, of_kind.limit) == ("custom", KINDS["judge"].limit)
  wished = settle("gsm8k", Wishes(limit=7, chat=not known.chat), Judging())
  assert (wished.limit, wished.chat) == (7, not known.chat)


def test_records_do_not_change():
  with pytest.raises(dataclasses.FrozenInstanceError):
    Wishes().seed = 1
