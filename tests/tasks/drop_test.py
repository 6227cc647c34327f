"""drop: what is wrong with records costs these records, and is told."""

import json

import pytest

from jswarm.run import loop, workdir
from jswarm.tasks.base import DataError
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config
from tests import fakes
from tests.loading import load_task


def qa(k, **other):
  return {"id": k, "question": f"question {k}?", "answer": str(k), **other}


BAD = [{"id": 8}, "text", qa(9, answer=None)]


def load(records, kind="exact_match", problems="drop", **other):
  return load_task(kind=kind, records=records, problems=problems, **other)


def test_bad_records_are_left_out_and_named():
  records = {"dev": [qa(1), *BAD, qa(2)], "test": [qa(3), {"input": "?", "output": ""}]}
  task = load(records)
  assert [e.id for e in task.dev] == ["1", "2"] and [e.id for e in task.test] == ["3"]
  dropped = task.spec["dropped"]
  places = [told.split(": ")[0] for told in dropped["records"]]
  assert places == [*(f"records dev[{k}]" for k in (1, 1, 2, 3)), "records test[1]"]
  with pytest.raises(DataError):
    load(records, problems="refuse")


def test_a_record_counts_once_however_much_is_wrong_with_it():
  dropped = load({"dev": [qa(1), *BAD], "test": [qa(3)]}).spec["dropped"]
  assert len(dropped["records"]) == 4 and dropped["count"] == 3


def test_a_question_of_both_splits_stays_in_test():
  records = {"dev": [qa(1), qa(3, id=7), qa(2)], "test": [qa(3), qa(4)]}
  task = load(records)
  assert [e.id for e in task.dev] == ["1", "2"] and len(task.test) == 2
  assert task.spec["dropped"]["records"] == [
    "records dev[1]: asks the same as records test[0] of test"
  ]
  assert len(load(records, allow_overlap=True).dev) == 3


def test_a_record_that_stands_twice_is_used_once():
  task = load({"dev": [qa(1), qa(1), qa(1, id=5)], "test": [qa(2)]})
  # The same under another id is in published files, and stays.
  assert [e.id for e in task.dev] == ["1", "5"]
  assert task.spec["dropped"]["records"] == ["records dev[1]: repeats records dev[0]"]


def test_splits_are_cut_from_the_records_that_are_left(tmp_path):
  path = tmp_path / "t.jsonl"
  rows = [qa(1), {"id": 8}, qa(1, id=6), qa(2), qa(3), qa(4)]
  path.write_text("{broken\n" + "".join(json.dumps(r) + "\n" for r in rows))
  task = load_task(kind="exact_match", path=str(path), problems="drop", dev_size=2)
  assert [e.id for e in task.dev] == ["1", "2"]
  assert [e.id for e in task.test] == ["3", "4"]
  places = [d.split(": ")[0] for d in task.spec["dropped"]["records"]]
  assert places == [f"{path}:1", f"{path}:3", f"{path}:3", f"{path}:4"]


def test_a_file_that_cannot_be_read_or_is_left_empty_is_refused(tmp_path):
  with pytest.raises(DataError, match="cannot be read"):
    load_task(kind="exact_match", path=str(tmp_path / "no.json"), problems="drop")
  with pytest.raises(DataError, match=r"dev: has no records"):
    load({"dev": BAD, "test": [qa(1)]})
  with pytest.raises(DataError, match=r"dev: has 1 records and dev_size is 2"):
    load({"dev": [qa(1), *BAD], "test": [qa(2)]}, dev_size=2)


def test_without_it_nothing_is_said_of_what_was_dropped():
  assert (
    "dropped" not in load({"dev": [qa(1)], "test": [qa(2)]}, problems="refuse").spec
  )


def test_another_word_is_refused():
  with pytest.raises(ValueError, match="problems='skip': allowed are refuse, drop"):
    load({"dev": [qa(1)], "test": [qa(2)]}, problems="skip")


def _plan(records, **fields):
  experts, _ = fakes.numeric()
  given = {"task.utility": "tests.fakes:mean_of_numbers", "task.kind": "custom"}
  small = {"search.graphs": 2, "search.assignments": 2, "search.iterations": 1}
  config = config_lib.override(get_config(), {**given, **small, **fields})
  return search.plan(config, records=records, experts=experts)


def test_a_workdir_is_continued_only_where_the_same_records_are_dropped(tmp_path):
  right = {"dev": [qa(1), qa(2)], "test": [qa(3)]}
  more = {**right, "dev": [*right["dev"], {"id": 8}]}
  drop = {"task.problems": "drop"}
  workdir.claim(tmp_path, _plan(more, **drop).config)
  assert not workdir.check(tmp_path, _plan(more, **drop).config)
  with pytest.raises(ValueError, match="data.dropped"):
    workdir.check(tmp_path, _plan(right, **drop).config)


@pytest.mark.slow
def test_results_name_them(tmp_path):
  records = {"dev": [qa(1), qa(2), {"id": 8}], "test": [qa(3)]}
  loop.run(_plan(records, **{"task.problems": "drop"}), str(tmp_path))
  kept = json.loads((tmp_path / "results.json").read_text())["task"]["dropped"]
  assert kept["count"] == 1
  assert kept["records"][0].startswith("records dev[2]: question is missing")
