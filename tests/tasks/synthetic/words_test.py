"""Synthetic questions: solvable, deterministic, split by construction."""

import collections
import itertools

import pytest

from jswarm.tasks.synthetic import stories
from jswarm.tasks.synthetic import words as words_lib

ALL = {name: 1.0 for name in words_lib.SKILLS}


def test_every_skill_gives_the_right_word():
  right = {
    "add": ("7 5", "2"),
    "count": ("b a b b", "2"),
    "gap": ("3 8", "5"),
    "max": ("3 8 5", "8"),
    "mid": ("9 1 4", "4"),
    "next": ("i 3", "b"),
    "odd": ("c d c", "d"),
    "pick": ("2 h e a", "e"),
  }
  assert right.keys() == words_lib.SKILLS.keys()
  for name, (words, answer) in right.items():
    assert words_lib.SKILLS[name].solve(words.split()) == answer, name


def test_an_answer_has_the_solution_of_each_part_at_its_place():
  for record in words_lib.questions("dev", 50, 3):
    parts = [part.split() for part in record["question"].split(" ; ")]
    assert [name for name, *_ in parts] == record["parts"]
    assert len(set(record["parts"])) == words_lib.PARTS
    solved = [words_lib.SKILLS[name].solve(words) for name, *words in parts]
    assert record["answer"] == " ".join(solved)


def test_the_same_seed_gives_the_same_records_and_another_seed_others():
  first = words_lib.questions("test", 40, 0)
  assert first == words_lib.questions("test", 40, 0)
  others = {r["question"] for r in words_lib.questions("test", 40, 1)}
  assert len({r["question"] for r in first} - others) > 30
  assert first[0]["question"] == "max 1 0 1 ; next j 2 ; count a c a c ; mid 0 8 7"


def test_a_question_is_in_one_split_whatever_the_order_of_its_parts():
  def parts(split, seed):
    return {
      tuple(sorted(r["question"].split(" ; ")))
      for r in words_lib.questions(split, 400, seed)
    }

  for one, other in itertools.combinations(words_lib.SPLITS, 2):
    assert not (parts(one, 0) | parts(one, 1)) & parts(other, 0)
  tuned = words_lib.records(ALL, "train", 400, 0)
  assert not {tuple(sorted(r["question"].split(" ; "))) for r in tuned} & (
    parts("test", 0) | parts("dev", 0)
  )


def test_skills_are_asked_equally_often():
  asked = collections.Counter(
    part for r in words_lib.questions("test", 500, 0) for part in r["parts"]
  )
  assert min(asked.values()) > 200 and max(asked.values()) < 300


def test_guessing_is_not_enough():
  records = words_lib.questions("test", 400, 0)
  for name in words_lib.SKILLS:
    words = collections.Counter(
      word
      for r in records
      for part, word in zip(r["parts"], r["answer"].split())
      if part == name
    )
    assert max(words.values()) / sum(words.values()) < 0.5, name


def test_a_reply_scores_its_share_of_right_words_in_place():
  example = {"answer": "3 5 b f"}
  replies = ["3 5 b f", "3 5 b", "5 3 b f", "", "3 5 b f extra"]
  assert words_lib.score([example] * 5, replies) == [1.0, 0.75, 0.5, 0.0, 1.0]


def test_tuning_records_follow_the_mixture():
  records = words_lib.records({"add": 3.0, "odd": 1.0}, "train", 400, 0, talk=0.25)
  parts = collections.Counter(
    part.split()[0] for r in records for part in r["question"].split(" ; ")
  )
  assert parts.keys() == {"add", "odd"}
  assert 0.7 < parts["add"] / sum(parts.values()) < 0.8
  talked = [r for r in records if r["prompt"].startswith("R1: ")]
  assert 0.2 < len(talked) / len(records) < 0.3
  for r in records:
    assert r["completion"] == r["answer"]
    assert r["prompt"].endswith(words_lib.QUESTION.format(prompt=r["question"]))


def test_simulated_responses_are_right_on_what_they_know():
  records = words_lib.questions("train", 300, 0)

  def mean(crowd):
    rng = words_lib.random.Random(0)
    said = [words_lib.response(rng, r, crowd) for r in records]
    return sum(words_lib.score(records, said)) / len(records)

  assert mean((0, 0)) < 0.3 < mean((2, 4)) < 0.65 < 0.93 < mean((8, 8))


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match=r"unknown skills \['sub'\].*add, count"):
    words_lib.records({"sub": 1.0}, "train", 1, 0)
  with pytest.raises(ValueError, match="unknown split 'tset'.*train, dev, test"):
    words_lib.questions("tset", 1, 0)
  with pytest.raises(ValueError, match="parts=9"):
    words_lib.questions("dev", 1, 0, parts=9)
  with pytest.raises(ValueError, match="different questions found"):
    words_lib.questions("dev", 1000, 0, parts=1, skills=["add"])


def test_the_tokenizer_writes_one_token_a_word_and_reads_it_back(tmp_path):
  from jswarm.formats import tokenizer

  words_lib.tokenizer().save_pretrained(tmp_path)
  loaded = tokenizer.load_tokenizer(str(tmp_path))
  records = words_lib.records(ALL, "train", 100, 0, talk=1.0)
  for r in records:
    ids = tokenizer.encode(loaded, [r["prompt"], r["completion"]])
    assert [len(row) for row in ids] == [
      len(r["prompt"].split()),
      len(r["completion"].split()),
    ]
    assert tokenizer.decode(loaded, ids) == [
      r["prompt"].replace("\n", " "),
      r["completion"],
    ]
    assert loaded.unk_token_id not in ids[0]
  assert len(loaded) == len(words_lib.vocabulary()) == len(set(words_lib.vocabulary()))


def test_english_replies_of_a_good_expert_are_right_and_careless_ones_wrong():
  names = stories.ENGLISH_SKILLS
  records = stories.records({n: 1.0 for n in names}, "train", 400, 0)
  assert {r["skill"] for r in records} == set(names)
  right = stories.score(records, [r["completion"] for r in records])
  assert right == [1.0] * 400
  rng = words_lib.random.Random(1)
  for name, draw in names.items():
    drawn = [draw(rng) for _ in range(200)]
    examples = [{"answer": d.answer} for d in drawn]
    assert sum(stories.score(examples, [d.wrong for d in drawn])) == 0, name


def test_english_splits_share_no_question():
  found = [
    {r["question"] for r in stories.questions(split, 300, 0)}
    for split in words_lib.SPLITS
  ]
  assert all(not a & b for a, b in itertools.combinations(found, 2))
