"""Replies and what a careful person reads in them, row by row: tables/*.jsonl.

A row is [gold or choices, reply, what is right, who said it]: "form" for the ways to
write an answer that we thought of, else the model that said it. Real replies are whole,
as the limit cut them, and were judged by hand.
"""

import collections
import json
import math
import pathlib

import pytest

from jswarm.tasks import options, parse

TABLES = pathlib.Path(__file__).parent / "tables"
CHOICES = json.loads((TABLES / "choices.json").read_text("utf-8"))
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
