"""What a reply votes for, task by task."""

import pytest

from jswarm.systems.prompts import Question
from jswarm.tasks import votes
from tests.loading import load_task

CHOICES = {"A": "Rome", "B": "Oslo"}


def _reader(kind, answers, choices=None, **fields):
  rows = [
    {
      "question": f"question {i}",
      "answer": a,
      **({"choices": choices} if choices else {}),
    }
    for i, a in enumerate(answers)
  ]
  task = load_task("mine", records={"dev": rows}, kind=kind, test_size=0, **fields)
  read = votes.reader(task, task.dev)
  question = Question(task.prompt(task.dev[0]))
  return lambda reply, asked=question: read(asked, reply)


def test_where_there_are_options_a_reply_votes_for_the_one_it_picks():
  read = _reader("multiple_choice", ["A", "B"], CHOICES)
  assert read("The answer is B.") == read("(B)") == read("Oslo") == "B"
  assert read("I do not know") is None


def test_the_parser_of_the_task_reads():
  read = _reader("multiple_choice", ["A", "B"], CHOICES, parser="as_published")
  assert read("Oh A") == "A"  # an A among the first signs


def test_a_self_check_votes_for_true_or_false():
  read = _reader("abstain", ["A", "B"], CHOICES)
  check = Question("Is this proposed answer correct?")
  assert read("True.", check) is True and read("That is false.", check) is False
  assert read("The answer is A.") == "A"


def test_numbers_vote_by_value():
  read = _reader("exact_match", ["1,000", "7"])
  assert read("So the answer is 12.") == read("12.0") == read("$12") == 12
  assert read("no number here") is None


@pytest.mark.parametrize(
  "reply, other",
  [("The answer is Paris.", "paris"), ("Yes, because it is.", "yes"),
   ("It is long. The answer is: no", "No, it cannot.")],
)  # fmt: skip
def test_words_vote_by_the_answer_that_they_state(reply, other):
  read = _reader("exact_match", ["Paris", "yes"])
  assert read(reply) == read(other)
  assert read("Rome") != read(other)


def test_one_gold_that_is_no_number_makes_words_of_all():
  assert _reader("exact_match", ["12", "Rome"])("12 men") == "12 men"


def test_free_text_is_no_vote():
  assert _reader("token_f1", ["a long story"])("a story") is None
