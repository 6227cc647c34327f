"""Records -> examples: every record is checked, every problem is named.

Nothing is repaired in silence. Problems are collected, with file and line, what
was found, what is allowed and what to change; `raise_if` then raises them at once.
"""

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import json
import math
import string
from typing import Any, NamedTuple

from absl import logging

from jswarm.tasks.base import DataError, Example
from jswarm.tasks.read import Found, Repeated, lone_surrogate

_MOST_SHOWN = 20
_DEEPEST = 100  # levels of lists and objects in a record
_CHANGE = "add it or drop the record."


class Needs(NamedTuple):
  """What a task asks of its records.

  `options`: choices, and an answer among them. `answer`: a gold answer; several
  are fine without options. `chunks`: at least so many pieces of context, 0: none.
  """

  options: bool
  answer: bool = True
  chunks: int = 0


def raise_if(problems: Sequence[str], name: str) -> None:
  """Raises `DataError` with all problems, the first twenty of them in words."""
  if problems:
    more = len(problems) - _MOST_SHOWN
    lines = [
      f"{len(problems)} problem{'s' * (len(problems) > 1)} in the data of"
      f" task {name!r}:",
      *problems[:_MOST_SHOWN],
      *([f"... and {more} more."] if more > 0 else []),
    ]
    raise DataError("\n  ".join(lines), tuple(problems))


def examples(
  found: Iterable[Found], split: str, needs: Needs, problems: list[str]
) -> tuple[Example, ...]:
  """Examples of the records that are right; what is wrong goes to `problems`."""
  made = (_example(f, f"{split}-{k}", needs, problems) for k, f in enumerate(found))
  return tuple(example for example in made if example)


def check_repeats(split: Sequence[Example], name: str, problems: list[str]) -> None:
  """The same record twice under one id is a problem; other repeats are a warning.

  Published files do repeat ids for different questions, and one (MMLU-Pro) repeats
  a question under another id.
  """
  ids: dict[str, Example] = {}
  contents: dict[Any, Example] = {}
  reused, repeated = [], []
  for example in split:
    first = ids.setdefault(example.id, example)
    same = contents.setdefault(content(example), example)
    if first is not example and content(first) == content(example):
      problems.append(
        f"{example.where}: id {example.id!r} and its content repeat"
        f" {first.where}; allowed is each record once; drop one."
      )
    elif first is not example:
      reused.append((first, example))
    elif same is not example:
      repeated.append((same, example))
  for pairs, what in (
    (reused, "reuse the id of a different record"),
    (repeated, "repeat a question under another id"),
  ):
    if pairs:
      logging.warning(
        "%d records of %s %s, the first at %s and %s.",
        len(pairs),
        name,
        what,
        pairs[0][0].where,
        pairs[0][1].where,
      )


def check_overlap(
  dev: Sequence[Example], test: Sequence[Example], allowed: bool, problems: list[str]
) -> None:
  """A question of dev (with its choices and context) must not be in test."""
  places = {content(example): example.where for example in reversed(dev)}
  shared = [e for e in test if content(e) in places]
  if shared and allowed:
    logging.warning(
      "%d test examples are in dev too, the first at %s and %s.",
      len(shared),
      places[content(shared[0])],
      shared[0].where,
    )
    return
  problems += [
    f"{e.where}: asks the same as {places[content(e)]} of dev; allowed is a question"
    " in one split only; drop one of them, or set allow_overlap."
    for e in shared
  ]


def content(example: Example) -> tuple:
  """What makes two examples the same: question, choices and context, not the id."""
  choices = tuple((k, _folded(v)) for k, v in (example.choices or {}).items())
  return _folded(example.question), choices, example.chunks


def digest(split: Iterable[Example], *, records: bool) -> str:
  """sha256 of what a score depends on; `records`: also of the user's own fields."""
  sha = hashlib.sha256()
  for e in split:
    fields = [e.id, e.question, e.answer, e.choices, e.chunks]
    fields += [dict(e.record)] if records else []
    # Objects without a JSON form count by their type: their repr may be an address.
    sha.update(
      json.dumps(fields, default=lambda o: type(o).__name__, skipkeys=True).encode(
        "utf-8", "surrogatepass"
      )
      + b"\n"
    )
  return sha.hexdigest()


def _folded(text: str) -> str:
  return " ".join(text.casefold().split())


def _example(
  found: Found, default_id: str, needs: Needs, problems: list[str]
) -> Example | None:
  record, where = found
  if not isinstance(record, Mapping):
    problems.append(
      f"{where}: is a {type(record).__name__}; allowed is an object with"
      " fields; correct the record."
    )
    return None
  before = len(problems)
  _whole(record, where, problems)
  _id(record, where, problems)
  question = _question(record, where, problems)
  choices = _choices(record, where, needs, problems)
  answer = _answer(record, where, needs, choices, problems)
  chunks = _chunks(record, where, needs, problems)
  if len(problems) > before:
    return None
  own = record.get("id")
  return Example(
    id=default_id if own is None else str(own),
    question=question,
    answer=answer,
    choices=choices,
    chunks=chunks,
    record=record,
    where=where,
  )


def _whole(record: Mapping, where: str, problems: list[str]) -> None:
  """Names what no field may hold, wherever in the record it stands.

  A loop, not a recursion: records may be nested deeper than Python's stack.
  """
  todo = [(record, "", 0)]
  while todo:
    value, field, depth = todo.pop()
    if depth > _DEEPEST:
      problems.append(
        f"{where}: {field.split('.')[0]} is nested over {_DEEPEST} levels deep; allowed"
        f" is at most {_DEEPEST}; flatten it or drop the record."
      )
      return
    if isinstance(value, str) and (half := lone_surrogate(value)):
      problems.append(f"{where}: {field or 'the record'} {half}; correct the text.")
    if isinstance(value, Repeated):
      keys = ", ".join(map(repr, value.keys_twice))
      problems.append(
        f"{where}: {keys} stands twice with different values; allowed is each key once;"
        " drop one."
      )
    if isinstance(value, Mapping):
      inner = [(f"{field}.{k}".lstrip("."), k, v) for k, v in value.items()]
      for name, key, item in reversed(inner):
        if isinstance(key, str) and (half := lone_surrogate(key)):
          shown = name.encode("utf-8", "backslashreplace").decode()
          problems.append(f"{where}: the key {shown} {half}; correct the key.")
        else:
          todo.append((item, name, depth + 1))
    elif isinstance(value, (list, tuple)):
      items = [(v, f"{field}[{k}]", depth + 1) for k, v in enumerate(value)]
      todo += reversed(items)


def _id(record: Mapping, where: str, problems: list[str]) -> None:
  own = record.get("id")
  if own is not None and not _text(own):
    problems.append(
      f"{where}: id is {_shown(own)}; allowed is text or a number; correct it or drop"
      " the field."
    )


def _first(record: Mapping, *names: str) -> Any:
  return next((record[n] for n in names if record.get(n) is not None), None)


def _shown(value: Any) -> str:
  try:
    text = repr(value)
  except (ValueError, RecursionError):  # a huge integer, or nested beyond the stack
    text = f"a {type(value).__name__}"
  return text if len(text) <= 60 else text[:57] + "..."


def _question(record: Mapping, where: str, problems: list[str]) -> str:
  value = _first(record, "question", "input")
  if isinstance(value, str) and value.strip():
    return value
  found = "missing" if value is None else _shown(value)
  fields = ", ".join(map(str, list(record)[:8])) or "none"
  problems.append(
    f"{where}: question is {found} (fields: {fields}); allowed is text"
    f' under "question" or "input"; {_CHANGE}'
  )
  return ""


def _answer(
  record: Mapping,
  where: str,
  needs: Needs,
  choices: dict[str, str] | None,
  problems: list[str],
) -> str | tuple[str, ...]:
  value = _first(record, "answer", "output")
  if value is None and not needs.answer:
    return ""
  if needs.options:
    return _option(_text(value), value, where, choices, problems)
  many = isinstance(value, (list, tuple)) and len(value) > 0
  texts = tuple(map(_text, value)) if many else (_text(value),)
  if all(texts):
    return texts if many else texts[0]
  if not needs.answer:
    return ""  # of a shape that only the user's own utility understands
  found = "missing" if value is None else _shown(value)
  problems.append(
    f"{where}: answer is {found}; allowed is text, a number, or a list"
    f' of them, under "answer" or "output"; {_CHANGE}'
  )
  return ""


def _text(value: Any) -> str:
  """Text of a string or number; "" for anything else, and for nan and infinity."""
  if isinstance(value, bool) or not isinstance(value, (str, int, float)):
    return ""
  if isinstance(value, float) and not math.isfinite(value):
    return ""
  try:
    text = str(value)
  except ValueError:  # an integer of more digits than Python writes out
    return ""
  return text if text.strip() else ""


def _option(
  text: str, value: Any, where: str, choices: dict[str, str] | None, problems: list[str]
) -> str:
  """The label of the gold option, from its label or its whole text."""
  if choices is None:
    return ""  # the choices are the problem, and named already
  if text.strip() in choices:
    return text.strip()
  same = [k for k, v in choices.items() if _folded(v) == _folded(text)]
  at = list(choices)[value : value + 1] if _is_index(value) else []
  if len(same) == 1 and at and at != same:
    problems.append(
      f"{where}: answer is {value}, the text of choice {same[0]} and the index of"
      f' choice {at[0]}; allowed is a label, or a text as "{value}"; write'
      f' "{same[0]}" or "{at[0]}".'
    )
    return ""
  if len(same) == 1:
    return same[0]
  found = "missing" if value is None else _shown(value)
  problems.append(
    f"{where}: answer is {found}; allowed is one of the choices, by its"
    f" label ({', '.join(choices)}) or its text; correct it."
  )
  return ""


def _is_index(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _choices(
  record: Mapping, where: str, needs: Needs, problems: list[str]
) -> dict[str, str] | None:
  value = record.get("choices")
  if value is None and not needs.options:
    return None
  if isinstance(value, (list, tuple)) and len(value) <= len(string.ascii_uppercase):
    value = dict(zip(string.ascii_uppercase, value))
  if isinstance(value, Mapping):
    choices = {str(k).strip(): _text(v) for k, v in value.items()}
    if len(choices) == len(value) >= 2 and all(choices) and all(choices.values()):
      return choices
  if not needs.answer:
    return None  # of a shape that only the user's own utility understands
  found = "missing" if value is None else _shown(value)
  problems.append(
    f"{where}: choices is {found}; allowed is two or more labels, each"
    ' with text, as {"A": "...", "B": "..."} or a list; correct'
    " it or drop the record."
  )
  return None


def _chunks(
  record: Mapping, where: str, needs: Needs, problems: list[str]
) -> tuple[str, ...] | None:
  value = record.get("context_chunks")
  if value is None and not needs.chunks:
    return None
  fine = (
    isinstance(value, (list, tuple))
    and all(isinstance(c, str) for c in value)
    and len(value) >= max(1, needs.chunks)
  )
  if fine:
    return tuple(value)
  if isinstance(value, (list, tuple)):
    kinds = sorted({type(c).__name__ for c in value})
    found = f"a list of {len(value)} ({', '.join(kinds) or 'nothing'})"
  else:
    found = "missing" if value is None else f"a {type(value).__name__}"
  problems.append(
    f"{where}: context_chunks is {found}; allowed is a list of at least"
    f" {max(1, needs.chunks)} texts, one a node; correct it or drop the"
    " record."
  )
  return None
