"""Long instructions in small contexts: cut, before the question is refused."""

import pytest

from jswarm.baselines import asking
from jswarm.systems.prompts import Question, Terms
from tests import fakes
from tests.baselines.agentverse_test import WORDING

LONG = " ".join(f"w{i}" for i in range(40))


def ask(room, replies=(), instruction=LONG, chunks=None):
  experts, _ = fakes.dictionary(lambda expert, prompt: "", room=room)
  terms = Terms(experts, WORDING, 5, False)
  question = Question("why is it so?", chunks)
  return asking.ask(1, 2, instruction, replies, question, terms)


def test_what_fits_is_asked_as_it_is():
  made = ask(100, ["one", "two"], chunks=("c0", "c1", "c2"))
  assert made.prompt == (
    f"{LONG}\nc1\nresponse 1: one\nresponse 2: two\nquestion: why is it so?"
  )
  assert (made.expert, made.node, made.cut) == (2, 1, False)


@pytest.mark.parametrize("room", [12, 20, 30, 45])
def test_an_instruction_leaves_room_for_what_is_to_be_read(room):
  made = ask(room, ["one " * 30, "two " * 30])
  assert made.cut and len(made.prompt.split()) <= room
  assert made.prompt.endswith("question: why is it so?")
  if room > 20:
    assert "w0" in made.prompt and "response 2: two" in made.prompt


def test_without_replies_an_instruction_may_take_all_that_is_left():
  made = ask(25)
  assert len(made.prompt.split()) > 20


def test_replies_whose_labels_do_not_fit_are_left_out():
  made = ask(8, ["one", "two", "three"])
  assert made.cut and "response 2" not in made.prompt


def test_a_question_that_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="takes 5 tokens"):
    ask(4)
