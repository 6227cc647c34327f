"""What a reply votes for, where several replies to one question are merged."""

from collections.abc import Callable, Hashable, Mapping, Sequence
import functools
from typing import Any

from jswarm.tasks import numbers, parse
from jswarm.tasks.base import Example, Task
from jswarm.tasks.kinds import PICK
from jswarm.tasks.normalize import plain_form

ReadFn = Callable[[Any, str], Hashable | None]
"""(question with its `prompt`, reply) -> what the reply votes for; None: nothing."""


def reader(task: Task, examples: Sequence[Example]) -> ReadFn:
  """How replies to the questions of a task vote; no gold answer of a question is used.

  Where there are options, for the one that is picked; in an exact match for the number
  that is given, if all answers on dev are numbers, else for the words of the answer; of
  a self-check for true or false. Free text votes for nothing.

  Args:
    task: of the questions; its parser reads.
    examples: all that will be asked, of dev and of test.
  """
  choices = {task.prompt(e): e.choices for e in examples if e.choices}
  if choices:
    published = task.spec["parser"] == "as_published"
    says_true = parse.says_true_as_published if published else parse.says_true
    pick = PICK[task.spec["parser"]]
    return functools.partial(_option, pick, says_true, choices)
  if task.kind != "exact_match":
    return nothing
  golds = [g for e in task.dev for g in _golds(e)]
  numeric = [numbers.number(plain_form(gold)) is not None for gold in golds]
  return value if numeric and all(numeric) else words


def nothing(question: Any, reply: str) -> None:
  """Free text is no vote."""
  del question, reply


def value(question: Any, reply: str) -> Hashable | None:
  """The number that the reply gives."""
  del question
  told = parse.last_number(parse.spoken(reply))
  return None if told is None else told.value


def words(question: Any, reply: str) -> str | None:
  """The answer that the reply states, whatever its case and punctuation."""
  del question
  return parse.answer(reply) or None


def _golds(example: Example) -> tuple[str, ...]:
  gold = example.answer
  return (gold,) if isinstance(gold, str) else gold


def _option(
  pick: Callable[[str, Mapping[str, str]], str | None],
  says_true: Callable[[str], bool],
  choices: Mapping[str, Mapping[str, str]],
  question: Any,
  reply: str,
) -> Hashable | None:
  """The option that is picked; of any other question, which is a self-check, whether
  the reply says that it is true."""
  if question.prompt in choices:
    return pick(reply, choices[question.prompt])
  return bool(says_true(reply))
