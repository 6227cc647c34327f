"""Generators of the package reasoning-gym as tasks: "gym:letter_counting" -> Task.

  name -> parse -> Part (generator, options, weight)
  Part, seed -> the generator's stream -> questions of train, dev and test
  records, replies -> the generator's own scorer -> scores

A question belongs to one split by its own text, whatever the seed and the counts, so
none is in two of them. Several generators are joined by "+", with weights and options
of the generators where wanted: "gym:2*chain_sum(max_terms=3)+spell_backward".
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import hashlib
import importlib
import math
import re
from typing import Any, NamedTuple

from absl import logging

from jswarm.core import lookup
from jswarm.tasks import custom, prompts, reproducible
from jswarm.tasks.base import Task
from jswarm.tasks.load import load_task
from jswarm.tasks.normalize import without_thoughts
from jswarm.tasks.wishes import Judging, Source, Wishes

PREFIX = "gym:"
SCORE = "jswarm.tasks.gym:score"
SPLITS = ("train", "dev", "test")
_SYNTAX = (
  "allowed are generators joined by +, with a weight before and options behind where"
  ' wanted, such as "gym:2*chain_sum(max_terms=3)+spell_backward"'
)
_CHUNK = 512  # questions of one dataset of the package: some make all of them at once
_SEEDS = 2**31  # numpy, which some generators use, takes seeds up to 2**32
_PATIENCE = 300  # draws in a row that give nothing new end a stream,
_PER_WISH = 5  # and that many more for each question that is wanted
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_RESERVED = ("seed", "size")


class Part(NamedTuple):
  """One generator of a task.

  Attributes:
    name: of the generator. options: {field: value} of its configuration.
    weight: its share of the questions, relative to the others'.
  """

  name: str
  options: dict[str, Any]
  weight: float = 1.0

  @property
  def call(self) -> str:
    """As it stands in the name of a task, without the weight."""
    if not self.options:
      return self.name
    return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.options.items())})"


def is_gym(name: str | None) -> bool:
  """Does the name of a task name generators?"""
  return bool(name) and str(name).startswith(PREFIX)


def parse(name: str) -> tuple[Part, ...]:
  """The parts of "gym:a+2*b(option=3)"; what they name is not looked up yet.

  Raises:
    ValueError: it is not written so; shows how.
  """
  text = name.removeprefix(PREFIX).strip()
  try:
    parts = tuple(_parts(ast.parse(text, mode="eval").body))
  except (SyntaxError, ValueError) as error:
    raise ValueError(f"task.name={name!r} cannot be read; {_SYNTAX}.") from error
  for part in parts:
    if not (math.isfinite(part.weight) and part.weight > 0):
      raise ValueError(
        f"task.name={name!r}: the weight of {part.call} is {part.weight}; allowed is"
        " more than 0."
      )
  return parts


def load(
  name: str, wishes: Wishes, seed: int, utility: custom.CustomFn | str = SCORE
) -> Task:
  """The task of a name like "gym:letter_counting".

  Args:
    name: see `parse`. wishes: how it is asked; dev_size and test_size must be set,
      because a generator has no end.
    seed: others give other questions of the same split.
    utility: what scores, if not the package's own scorer.

  Raises:
    ValueError: the package is missing, the name or an option is unknown, or there
      are not so many different questions.
  """
  if wishes.kind is not None:
    raise ValueError(
      f"task.kind={wishes.kind!r}: {name} has a scorer of its own; leave kind open."
    )
  if wishes.dev_size is None or wishes.test_size is None:
    raise ValueError(
      f"{name} has as many questions as one wants: set task.dev_size and"
      " task.test_size to 1 or more."
    )
  made = draw(name, {"dev": wishes.dev_size, "test": wishes.test_size}, seed)
  task = load_task(
    name,
    Source(records=made),
    dataclasses.replace(wishes, kind="custom"),
    Judging(utility=utility),
  )
  if utility != SCORE and custom.name_of(utility) != SCORE:
    return task
  # The package scores each reply by itself, and no worse than 0 and no better than 1.
  spec = {**task.spec, "gym": _package().__version__}
  return dataclasses.replace(task, range=(0.0, 1.0), bounds=(0.0, 1.0), spec=spec)


def draw(
  name: str, counts: Mapping[str, int], seed: int
) -> dict[str, list[dict[str, Any]]]:
  """{split: records} of a task; every first part of a split has its weights, too.

  A record has `id`, `question`, `answer` ("" where the generator has no reference),
  and for the scorer `generator` and `metadata`.
  """
  for part in parse(name):
    _dataset(part, seed=0)  # what is wrong with a name is told before a process starts
  # Some generators draw from sets of words.
  return reproducible.call(_drawn, name, dict(counts), seed)


def _drawn(name, counts, seed):
  parts = parse(name)
  needed = {s: _turns([p.weight for p in parts], n) for s, n in counts.items()}
  seen: set[str] = set()
  streams = []
  for k, part in enumerate(parts):
    wanted = {split: turns.count(k) for split, turns in needed.items()}
    streams.append(_questions(part, wanted, seed, seen))
  made: dict[str, list[dict[str, Any]]] = {}
  for split, turns in needed.items():
    left = [iter(stream[split]) for stream in streams]
    made[split] = [
      {"id": f"{split}-{seed}-{k}", **next(left[turn])} for k, turn in enumerate(turns)
    ]
  return made


def records(
  split: str, count: int, seed: int, name: str, template: str = "{prompt}"
) -> list[dict[str, Any]]:
  """Tuning records {"prompt", "completion", ...} for `training.pool`, with `SCORE`.

  Args:
    split: "train" or "dev"; dev here is the dev of the task. count: of records.
    seed: of the draw. name: as of the task, with or without "gym:".
    template: how a question is put, such as `messages.question` of a search.
  """
  lookup.check("split", split, SPLITS)
  made = draw(name, {split: count}, seed)[split]
  for record in made:
    if not record["answer"]:
      raise ValueError(
        f"{record['generator']} has no reference answers, so there is nothing to tune"
        " on; leave it out."
      )
  asked = lambda r: prompts.fill(template, prompt=r["question"])
  return [{"prompt": asked(r), "completion": r["answer"], **r} for r in made]


def score(examples: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
  """What the package's own scorer says of each reply, 0 to 1.

  It is given what stands between the last <answer> tags, or the whole reply where
  there are none, thoughts aside.
  """
  return [_score(example, said(reply)) for example, reply in zip(examples, replies)]


def said(reply: str) -> str:
  """The part of a reply that the scorer is given."""
  text = without_thoughts(reply)
  tagged = _TAGGED.findall(text)
  return (tagged[-1] if tagged else text).strip()


def belongs(question: str) -> str:
  """The split of a question, by its words alone."""
  words = " ".join(question.casefold().split())
  return SPLITS[hashlib.sha256(words.encode()).digest()[0] % len(SPLITS)]


def _score(example, answer):
  # What was used to make the question counts as the package made it.
  entry = {**example, "answer": example["answer"] or None}
  try:
    return float(_scorer(example["generator"]).score_answer(answer, entry))
  except Exception as error:  # of the package: it stumbles over what it cannot read
    logging.debug("%s cannot read %r: %r", example["generator"], answer, error)
    return 0.0


@functools.cache
def _scorer(call):
  (part,) = parse(call)
  return _dataset(part, 0)


def _parts(node) -> Iterator[Part]:
  """Parts of an expression; raises ValueError for any other than sums of calls."""
  match node:
    case ast.BinOp(left=left, op=ast.Add(), right=right):
      yield from _parts(left)
      yield from _parts(right)
    case ast.BinOp(left=ast.Constant(value=int() | float() as weight), op=ast.Mult()):
      for part in _parts(node.right):
        yield part._replace(weight=float(weight))
    case ast.Name(id=name):
      yield Part(name, {})
    case ast.Call(func=ast.Name(id=name), args=[], keywords=fields) if all(
      field.arg for field in fields
    ):
      yield Part(name, {str(f.arg): ast.literal_eval(f.value) for f in fields})
    case _:
      raise ValueError(ast.dump(node))


def _turns(weights: Sequence[float], count: int) -> list[int]:
  """Whose question each is: always his who lags behind his share the most."""
  total, given, turns = sum(weights), [0] * len(weights), []
  for k in range(count):
    lag = [w / total * (k + 1) - g for w, g in zip(weights, given)]
    turn = max(range(len(lag)), key=lag.__getitem__)
    given[turn] += 1
    turns.append(turn)
  return turns


def _questions(part, wanted, seed, seen):
  """{split: its first questions of a generator's stream}; `seen` grows by them."""
  found = {split: [] for split in wanted}
  lacking, patience = sum(wanted.values()), _PATIENCE + _PER_WISH * sum(wanted.values())
  idle = 0
  for entry in _stream(part, seed) if lacking else ():
    split = belongs(entry["question"])
    words = " ".join(entry["question"].casefold().split())
    idle += 1
    if split in wanted and len(found[split]) < wanted[split] and words not in seen:
      seen.add(words)
      found[split].append(
        {
          "question": entry["question"],
          "answer": entry["answer"] or "",
          "generator": part.call,
          "metadata": entry["metadata"],
        }
      )
      lacking, idle = lacking - 1, 0
    if not lacking:
      break
    if idle > patience:
      short = {s: f"{len(found[s])} of {n}" for s, n in wanted.items()}
      raise ValueError(
        f"{part.call} gives no more different questions after {short}: lower"
        " task.dev_size and task.test_size, or give it options with more of them."
      )
  return found


def _stream(part, seed) -> Iterator[dict[str, Any]]:
  """Questions without end; the same seed gives the same ones in every process."""
  text = f"{part.call}-{seed}"
  at = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % _SEEDS
  while True:
    dataset = _dataset(part, at)
    for k in range(_CHUNK):
      yield dataset[k]
    at = (at + _CHUNK) % _SEEDS


def _dataset(part, seed):
  """A dataset of the package.

  Raises:
    ValueError: no generator of this name, no such option, or a value that it refuses.
  """
  known = _known()
  if part.name not in known:
    raise ValueError(
      f"unknown generator {part.name!r} of reasoning-gym;"
      f" {lookup.near(part.name, known) or 'none has a name like it.'} All"
      f" {len(known)} are keys of reasoning_gym.factory.DATASETS."
    )
  fields = [f.name for f in dataclasses.fields(known[part.name][1])]
  allowed = sorted(set(fields) - set(_RESERVED))
  for option in part.options:
    if option not in allowed:
      raise ValueError(lookup.unknown(f"option of {part.name}", option, allowed))
  try:
    make = _package().create_dataset
    return make(part.name, **part.options, seed=seed, size=_CHUNK)
  except (AssertionError, TypeError, ValueError) as error:
    told = str(error).partition("\n")[0] or type(error).__name__
    raise ValueError(f"{part.call}: {told}; change its options.") from error


def _known():
  """{generator: (class, configuration)}; a composite of others is no generator."""
  found = dict(_package().factory.DATASETS)
  found.pop("composite", None)
  return found


def _package():
  """reasoning_gym, which is imported by whoever uses it alone."""
  try:
    return importlib.import_module("reasoning_gym")
  except ImportError as error:
    raise ValueError(
      "tasks of the name gym:... need the package reasoning-gym: pip install"
      f" 'jswarm[gym]' ({error})."
    ) from error
