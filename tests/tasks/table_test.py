"""Replies and what a careful person reads in them, row by row: tables/*.jsonl.

A row is [gold or choices, reply, what is right, who said it]: "form" for the ways to
write an answer that we thought of, else the model that said it. Real replies are whole,
as the limit cut them, and were judged by hand.
"""

import collections
import json
import math
import pathlib
import re

import pytest

from jswarm.tasks import options, parse

TABLES = pathlib.Path(__file__).parent / "tables"
CHOICES = json.loads((TABLES / "choices.json").read_text("utf-8"))
NUMBER = re.compile(r"[-+$€£]?[\d.,/%\s]+")  # a gold that is one
MODELS = ("SmolLM2-135M-Instruct", "Gemma-3-270m", "Qwen2.5-Coder-0.5B-Instruct")


def rows(name):
  text = (TABLES / f"{name}.jsonl").read_text("utf-8")
  return [json.loads(line) for line in text.splitlines()]


def wrong(name, read):
  """Rows that a reader does not read as a careful person would."""
  return [row for row in rows(name) if not read(*row[:-1])]


def test_answers_in_free_text():
  assert not wrong(
    "exact", lambda gold, reply, right: parse.exact(gold, reply) is right
  )


def test_labels_of_options():
  read = lambda name, reply, label: options.choose(reply, CHOICES[name]) == label
  assert not wrong("choose", read)


def test_overlap_of_tokens():
  near = lambda gold, reply, value: math.isclose(
    parse.f1(gold, reply), value, abs_tol=1e-6
  )
  assert not wrong("f1", near)


def test_ratings_of_a_judge():
  def read(verdict, number):
    found = parse.rating(verdict)
    return math.isnan(found) if number is None else found == number

  assert not wrong("rating", read)


def test_self_checks():
  assert not wrong("says_true", lambda check, true: parse.says_true(check) is true)


@pytest.mark.parametrize("name", ["exact", "choose", "f1", "rating", "says_true"])
def test_a_table_has_many_rows_and_real_ones_of_every_model(name):
  table = rows(name)
  assert len(table) == len({json.dumps(row[:-2]) for row in table}) >= 150
  said_by = collections.Counter(row[-1] for row in table)
  assert set(said_by) == {"form", *MODELS}
  assert len({json.dumps(row[-2]) for row in table}) > 1  # a constant reader fails


def test_what_no_reader_knows_is_still_not_known():
  """docs/scoring.md lists these replies as read wrongly, and no table has them."""
  assert not parse.exact("yes", "17 is a prime number.")
  assert not parse.exact("東京", "东京")
  assert options.choose("A) Rome B) Paris. Answer: B", CHOICES["city"]) == "B"
  assert options.choose("My aunt was born in Oslo.", CHOICES["city"]) == "C"


def test_the_counts_of_the_document_are_those_of_the_tables():
  text = " ".join((TABLES.parents[2] / "docs" / "scoring.md").read_text().split())
  count = {name: len(rows(name)) for name in ("exact", "choose", "f1", "rating")}
  count["says_true"] = len(rows("says_true"))
  numbers = [row for row in rows("exact") if NUMBER.fullmatch(row[0])]
  compared = len(numbers) + count["choose"]
  whole = sum(count.values())
  none = {n: sum(r[-2] is None for r in rows(n)) for n in ("choose", "rating")}
  wrong = sum(row[-2] is False for row in rows("exact"))
  for told in (
    f"numbers of `exact` ({len(numbers)})",
    f"labels of `choose` ({count['choose']})",
    f"all of these {compared} rows",
    f"{whole - compared} of the {whole} of the five tables",
    f"the {count['exact'] - len(numbers)} whose gold is a word",
    f"all {count['f1']} of `f1`, {count['rating']} of `rating`",
    f"{count['says_true']} of `says_true`",
    f"{none['choose']} of the {count['choose']} of `choose`",
    f"{none['rating']} of the {count['rating']} of `rating`",
    f"{wrong} of the {count['exact']} of `exact`",
  ):
    assert told in text, told
