"""What a task is: data + prompt(example) + score(examples, replies).

Everything the search knows of a task is the record `Task`. The functions in it
are plain or `functools.partial` of plain ones, so a task can be pickled.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np


class DataError(ValueError):
  """The data cannot be used. `problems` names every place, not only the first."""

  exit_code = 65  # EX_DATAERR of sysexits: a launcher may exit with it

  def __init__(self, message: str, problems: tuple[str, ...] = ()):
    super().__init__(message)
    self.problems = problems


class UtilityError(RuntimeError):
  """A utility function failed, or gave something that is not a list of scores."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
  """One question with its gold answer.

  Attributes:
    id: the record's own id, or `<split>-<index>`.
    question: what is asked.
    answer: gold; the label of the right option where there are options; a tuple
      where several answers are right; "" if a custom utility needs none.
    choices: label -> text, or None.
    chunks: pieces of context, one a node, or None.
    record: the user's own record, untouched.
    where: "file:line", or "file dev[3]" where records share a line.
  """

  id: str
  question: str
  answer: str | tuple[str, ...]
  choices: dict[str, str] | None
  chunks: tuple[str, ...] | None
  record: Mapping[str, Any]
  where: str


ScoreFn = Callable[[Sequence[Example], Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowUp:
  """A second question about each reply, put to the same system.

  Attributes:
    prompt: `prompt(example, reply)`.
    limit: most new tokens of the second reply.
    score: `score(examples, replies, checks)` -> float64 [X].
  """

  prompt: Callable[[Example, str], str]
  limit: int
  score: Callable[[Sequence[Example], Sequence[str], Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
  """How another model rates a reply.

  Attributes:
    prompt: `prompt(example, reply)`, what the judge reads.
    limit: most new tokens of the verdict.
    parse: verdict -> rating in 1..10, NaN where it names none.
  """

  prompt: Callable[[Example, str], str]
  limit: int
  parse: Callable[[str], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A utility function with its data.

  Attributes:
    name: of a published task, or the user's own.
    kind: one of `kinds.KINDS`.
    limit: most new tokens of a reply.
    chat: wrap prompts in the chat template.
    dev: the examples that the search sees.
    test: the examples for the one final score; may be empty.
    held: examples of dev that the search does not see; usually none.
    prompt: example -> what the system is asked.
    score: `score(examples, replies)` -> float64 [X]; NaN is missing, never a made
      up 0 or 1. A reply of None is missing. With `followup` it is the accuracy of
      the first replies alone; with `judge` the replies are the judge's verdicts.
    range: least and greatest score of an example.
    bounds: the same, if every example is scored by itself, whatever else is scored
      with it, and is never missing; else None.
    followup: second question (self-check of AbstainQA), or None.
    judge: how replies are rated by another model, or None.
    needs_context: examples carry `chunks` which the nodes are to read.
    spec: JSON-able description; equal specs score equally.
  """

  name: str
  kind: str
  limit: int
  chat: bool
  dev: tuple[Example, ...]
  test: tuple[Example, ...]
  prompt: Callable[[Example], str]
  score: ScoreFn
  range: tuple[float, float]
  followup: FollowUp | None
  judge: Judge | None
  needs_context: bool
  spec: dict[str, Any]
  bounds: tuple[float, float] | None = None
  held: tuple[Example, ...] = ()
