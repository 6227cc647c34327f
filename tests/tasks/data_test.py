"""Data are read from every form, and every problem is named with its place."""

import json
import os
import pathlib

import pytest

from jswarm.tasks import data
from jswarm.tasks.base import DataError, Example
from tests.loading import load_task


def qa(k, **other):
  return {"id": k, "question": f"question {k}?", "answer": str(k), **other}


def choice(k, answer="A", **other):
  return {
    "id": k,
    "question": f"question {k}?",
    "answer": answer,
    "choices": {"A": f"yes {k}", "B": f"no {k}"},
    **other,
  }


def write(path, value, **how):
  path.write_text(value if isinstance(value, str) else json.dumps(value, **how))
  return str(path)


def lines(*records):
  return "".join(json.dumps(r) + "\n" for r in records)


def load(source, kind="exact_match", **other):
  where = "path" if isinstance(source, (str, os.PathLike)) else "records"
  return load_task(kind=kind, **{where: source}, **other)


def problems(*args, **other):
  with pytest.raises(DataError) as caught:
    load(*args, **other)
  assert caught.value.exit_code == 65
  for problem in caught.value.problems:
    assert "allowed" in problem, problem
  return caught.value.problems


def one(*args, **other):
  found = problems(*args, **other)
  assert len(found) == 1, found
  return found[0]


def test_the_published_form_is_read_with_the_line_of_every_record(tmp_path):
  path = write(
    tmp_path / "t.json",
    {"note": [1, {"dev": 2}], "dev": [qa(1), qa(2)], "test": [qa(3)]},
    indent=2,
  )
  task = load(path)
  text = pathlib.Path(path).read_text().split("\n")
  for example in task.dev + task.test:
    line = int(example.where.removeprefix(path + ":"))
    assert text[line - 1].strip() == "{"
    assert str(example.id) in text[line]
  assert [e.question for e in task.dev] == ["question 1?", "question 2?"]


def test_records_that_share_a_line_are_named_by_their_index(tmp_path):
  path = write(tmp_path / "t.json", {"dev": [qa(1), qa(2)], "test": [qa(3), qa(4)]})
  task = load(path)
  assert [e.where for e in task.dev] == [f"{path} dev[0]", f"{path} dev[1]"]


def test_the_dialect_input_and_output_is_read():
  records = {
    "dev": [{"input": "2 + 2?", "output": 4}],
    "test": [{"input": "3?", "output": "3"}],
  }
  task = load(records)
  assert (task.dev[0].question, task.dev[0].answer) == ("2 + 2?", "4")
  assert task.dev[0].id == "dev-0" and task.dev[0].where == "records dev[0]"
  assert task.dev[0].record is records["dev"][0]


def test_two_jsonl_files_make_two_splits_and_blank_lines_are_skipped(tmp_path):
  dev = write(tmp_path / "dev.jsonl", lines(qa(1)) + "\n" + lines(qa(2)))
  test = write(tmp_path / "test.jsonl", "\ufeff" + lines(qa(3)))
  task = load_task(kind="exact_match", dev_path=dev, test_path=test)
  assert [e.where for e in task.dev] == [f"{dev}:1", f"{dev}:3"]
  assert [e.answer for e in task.test] == ["3"]


def test_one_file_is_split_by_size_dev_first_then_test(tmp_path):
  for name, text in (
    ("a.jsonl", lines(*map(qa, range(5)))),
    ("b.json", [qa(k) for k in range(5)]),
  ):
    task = load(write(tmp_path / name, text), dev_size=2)
    assert [e.answer for e in task.dev] == ["0", "1"]
    assert [e.answer for e in task.test] == ["2", "3", "4"]
    task = load(str(tmp_path / name), dev_size=2, test_size=1)
    assert [e.answer for e in task.test] == ["2"]


def test_records_with_a_split_field_go_where_it_says():
  records = [qa(0, split="test"), qa(1, split="dev"), qa(2, split="validation")]
  task = load(iter(records))
  assert [e.answer for e in task.dev] == ["1", "2"]
  assert [e.answer for e in task.test] == ["0"]
  found = problems(records + [qa(4, split="train"), qa(5)])
  assert found[0].startswith("records[3]: split is 'train'")
  assert found[1].startswith("records[4]: split is None")


def test_unsplit_records_need_a_size():
  assert "set one of them" in problems([qa(1), qa(2)])[0]


def test_sizes_take_the_first_and_never_more_than_there_are():
  records = {"dev": [qa(1), qa(2)], "test": [qa(3), qa(4)]}
  task = load(records, dev_size=1, test_size=1)
  assert [e.answer for e in task.dev + task.test] == ["1", "3"]
  assert "dev: has 2 records and dev_size is 3" in one(records, dev_size=3)
  with pytest.raises(ValueError, match="dev_size is 0; allowed is 1 or more"):
    load(records, dev_size=0)


def test_no_test_data_are_needed_where_test_size_is_zero():
  assert load({"dev": [qa(1)]}, test_size=0).test == ()
  assert "test: has no records" in one({"dev": [qa(1)]})
  assert "dev: has no records" in one({"dev": [], "test": [qa(1)]})


def test_records_that_are_not_used_are_checked_all_the_same():
  bad = {"id": 9, "question": "q \ud800", "answer": "1"}
  for sizes in ({"test_size": 0}, {"dev_size": 1, "test_size": 1}, {"test_size": 1}):
    found = one({"dev": [qa(1)], "test": [qa(3), bad]}, **sizes)
    assert "test[1]" in found and "half a surrogate pair" in found
  assert "asks the same as" in one({"dev": [qa(1)], "test": [qa(1)]}, test_size=0)


def test_a_shuffle_depends_on_the_seed_alone():
  records = [qa(k) for k in range(30)]
  first, again, other = (
    load(records, dev_size=10, shuffle=True, seed=s).dev for s in (1, 1, 2)
  )
  assert [e.id for e in first] == [e.id for e in again] != [e.id for e in other]


def test_all_problems_are_named_at_once_with_their_lines(tmp_path):
  path = write(
    tmp_path / "dev.jsonl",
    lines(
      {"answer": "1"},
      {"question": " ", "answer": "1"},
      {"question": "q"},
      {"question": "r", "answer": True},
      [1],
      {"question": "s", "answer": float("nan")},
      {"question": "t", "answer": []},
      {"question": "u", "answer": ["x", ""]},
    )
    + "{\n",
  )
  found = problems(path, dev_size=1)
  assert len(found) == 1 and f"{path}:9: is not JSON" in found[0]  # form comes first
  write(tmp_path / "dev.jsonl", pathlib.Path(path).read_text()[:-2])
  found = problems(path, dev_size=1)
  for line, words in enumerate(
    (
      "question is missing (fields: answer)",
      "question is ' '",
      "answer is missing",
      "answer is True",
      "is a list",
      "answer is nan",
      "answer is []",
      "answer is ['x', '']",
    ),
    1,
  ):
    assert found[line - 1].startswith(f"{path}:{line}: {words}"), found[line - 1]


def test_at_most_twenty_problems_are_shown_but_all_are_kept():
  with pytest.raises(DataError, match=r"30 problems(.|\n)*and 10 more") as caught:
    load([{"question": str(k)} for k in range(30)], dev_size=10)
  assert len(caught.value.problems) == 30


def test_choices_must_be_labels_with_text():
  bad = (
    None,
    {},
    {"A": "one"},
    {"A": "x", "B": " "},
    {"A": "x", "": "y"},
    "AB",
    {"text": ["x"], "label": ["A"]},
  )
  records = {
    "dev": [choice(0)],
    "test": [choice(k, choices=c) for k, c in enumerate(bad, 1)],
  }
  found = problems(records, "multiple_choice")
  assert len(found) == len(bad)
  for k, problem in enumerate(found):
    assert problem.startswith(f"records test[{k}]: choices is "), problem


def test_the_gold_option_is_named_by_label_or_by_text():
  records = {
    "dev": [choice(0, "B"), choice(1, "No 1"), choice(2, " A ")],
    "test": [choice(3, choices=["x", "y"], answer="y")],
  }
  task = load(records, "multiple_choice")
  assert [e.answer for e in task.dev + task.test] == ["B", "B", "A", "B"]
  assert task.test[0].choices == {"A": "x", "B": "y"}


def test_an_answer_outside_the_choices_is_a_problem(tmp_path):
  path = write(tmp_path / "x.jsonl", lines(choice(0), choice(1, "C"), choice(2, None)))
  found = problems(path, "multiple_choice", dev_size=1)
  assert found[0].startswith(
    f"{path}:2: answer is 'C'; allowed is one of the choices, by its label (A, B)"
  )
  assert found[1].startswith(f"{path}:3: answer is missing")


def test_bad_utf8_is_named_with_its_line(tmp_path):
  for name, kind in (("a.jsonl", "jsonl"), ("a.json", "json")):
    path = tmp_path / name
    path.write_bytes(b'{}\n{"question": "\xff"}\n')
    assert one(str(path)).startswith(f"{path}:2: byte 0xff is not UTF-8"), kind


def test_malformed_json_is_named_with_its_line(tmp_path):
  path = write(tmp_path / "a.json", '{"dev": [\n{"question": 1,}\n]}')
  assert one(path).startswith(f"{path}:2: is not JSON")
  path = write(tmp_path / "b.json", lines(qa(1), qa(2)))
  assert "name the file .jsonl" in one(path)
  path = write(tmp_path / "c.json", "[" * 100_000)
  assert "is not JSON" in one(path)


def test_a_file_of_another_shape_is_refused_with_what_it_holds(tmp_path):
  assert "keys 'train', 'x'" in one(write(tmp_path / "a.json", {"train": [], "x": 1}))
  assert "holds a int" in one(write(tmp_path / "b.json", "3"))
  assert "dev: is a dict" in problems(write(tmp_path / "c.json", {"dev": {"a": 1}}))[0]
  assert "icl_prompt: is a int" in one({"dev": [], "icl_prompt": 3})
  assert "cannot be read" in one(str(tmp_path / "none.json"))
  assert "is a int" in one(3)


def test_chunks_must_be_enough_texts():
  records = {
    "dev": [qa(0, context_chunks=["a", "", "c"])],
    "test": [
      qa(1, context_chunks=["a", 2, "c"]),
      qa(2, context_chunks=["a"]),
      qa(3),
      qa(4, context_chunks="abc"),
      qa(5, context_chunks=[]),
    ],
  }
  found = problems(records, min_chunks=3)
  words = (
    "a list of 3 (int, str)",
    "a list of 1 (str)",
    "missing",
    "a str",
    "a list of 0 (nothing)",
  )
  for k, word in enumerate(words):
    assert found[k].startswith(
      f"records test[{k}]: context_chunks is {word}; allowed"
      " is a list of at least 3 texts"
    ), found[k]
  task = load({"dev": records["dev"], "test": [qa(1, context_chunks=["x"])]})
  assert task.needs_context and task.dev[0].chunks == ("a", "", "c")


def test_the_same_record_twice_is_a_problem_and_a_reused_id_only_a_warning(caplog):
  other = {**qa(1), "question": "another?"}
  found = one({"dev": [qa(1), qa(1)], "test": [qa(2)]})
  assert "records dev[1]: id '1' and its content repeat records dev[0]" in found
  with caplog.at_level("WARNING"):
    load({"dev": [qa(1), other], "test": [qa(2), {**qa(2), "id": 9}]})
  assert "1 records of dev reuse the id" in caplog.text
  assert "1 records of test repeat a question under another id" in caplog.text


def test_an_id_may_be_in_both_splits_but_a_question_may_not(caplog):
  load({"dev": [qa(1)], "test": [{**qa(2), "id": 1}]})
  records = {
    "dev": [qa(1), qa(2)],
    "test": [qa(3), {**qa(2), "id": 7, "question": "Question  2?"}],
  }
  assert one(records).startswith("records test[1]: asks the same as records dev[1]")
  with caplog.at_level("WARNING"):
    assert len(load(records, allow_overlap=True).test) == 2
  assert "1 test examples are in dev too" in caplog.text


def test_the_same_words_with_other_choices_or_context_are_another_question():
  load(
    {"dev": [choice(1)], "test": [choice(1, choices={"A": "u", "B": "v"})]},
    "multiple_choice",
  )
  load({"dev": [qa(1, context_chunks=["a"])], "test": [qa(1, context_chunks=["b"])]})


def test_a_custom_utility_needs_only_questions():
  task = load(
    [
      {"question": "q", "choices": 3, "answer": {"any": "shape"}},
      {"question": "r", "answer": ["a", "b"]},
    ],
    kind="custom",
    dev_size=1,
    utility=lambda examples, replies: [0.0] * len(replies),
  )
  assert task.dev[0].answer == "" and task.dev[0].choices is None
  assert task.test[0].answer == ("a", "b")


def test_the_digest_follows_what_is_scored():
  def sha(**change):
    base = dict(
      id="1", question="q", answer="a", choices=None, chunks=None, record={}, where="x"
    )
    return data.digest([Example(**{**base, **change})], records=False)

  assert sha() == sha(where="y") == sha(record={"more": object()})
  assert len({sha(), sha(answer="b"), sha(question="p"), sha(answer=("a", "b"))}) == 4
