"""What a caller says about a task, as records that are checked once.

  Source (where the data come from), Wishes, Judging -> settle -> Settled

A wish that is left open is the published task's, then its kind's.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

from jswarm.core import lookup
from jswarm.tasks import again, custom
from jswarm.tasks.kinds import KINDS, PARSERS, RATINGS, Kind
from jswarm.tasks.published import TASKS, Published

PROBLEMS = ("refuse", "drop")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where the data come from: path, records, or dev_path with or without test_path.

  Attributes:
    path: JSON {"dev": [...], "test": [...]} as published; a JSON list or JSONL with
      a "split" field in each record, or `dev_size` first records for dev and the
      next for test; or a folder of published files, from which the task's is taken.
    records: the same as Python objects; any iterable of mappings.
    dev_path, test_path: one JSON list or JSONL a split.

  A record has `question` (or `input`), `answer` (or `output`), and optionally `id`,
  `choices`, `context_chunks`; other fields are kept for custom utilities.

  Raises:
    ValueError: the data come from nowhere, or from several places.
  """

  path: str | os.PathLike | None = None
  records: Any = None
  dev_path: str | os.PathLike | None = None
  test_path: str | os.PathLike | None = None

  def __post_init__(self):
    given = [
      field
      for field in ("path", "records", "dev_path")
      if getattr(self, field) is not None
    ]
    if len(given) != 1 or (self.test_path is not None and given != ["dev_path"]):
      found = given + ["test_path"] * (self.test_path is not None)
      raise ValueError(
        f"the data come from {' and '.join(found) or 'nowhere'}; allowed"
        " is one of: path; records; dev_path with test_path."
      )

  def places(self, name: str | None) -> dict[str, Any]:
    """{"records": ...}, {"path": file} or {"dev": file, "test": file}.

    Args:
      name: of the task, whose file is taken where the path is a folder.
    """
    if self.records is not None:
      return {"records": self.records}
    if self.path is not None:
      folder = Path(self.path)
      inside = name and folder.is_dir()
      return {"path": str(folder / f"{name}.json") if inside else os.fspath(self.path)}
    places = {"dev": os.fspath(self.dev_path or "")}
    if self.test_path is not None:
      places["test"] = os.fspath(self.test_path)
    return places


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishes:
  """How a task is asked and cut; each one that is set beats the task's table.

  Attributes:
    kind: one of `KINDS`.
    parser: "strict", or "as_published" for the public code's lenient readers.
    limit: most new tokens of a reply.
    chat: wrap prompts in the chat template.
    dev_size, test_size: use only the first so many; None: all. A `test_size` of 0
      needs no test data.
    icl_prompt: solved examples before the question, as in some published files.
    min_chunks: context chunks that every example of a long-context task needs: one
      a node.
    allow_overlap: dev and test may share questions; it is a warning then.
    problems: what comes of records that are wrong, or in both splits: "refuse" all
      data, or "drop" these and say so, see `drop`.
    held_out: share of dev, spread over it, that the search does not see and the found
      system is scored on: what choosing on the rest has not seen. 0: none.
    shuffle: shuffle the records by `seed` before they are split or cut.
    seed: of the shuffle.
  """

  kind: str | None = None
  parser: str = "strict"
  limit: int | None = None
  chat: bool | None = None
  dev_size: int | None = None
  test_size: int | None = None
  icl_prompt: str | None = None
  min_chunks: int = 1
  allow_overlap: bool = False
  problems: str = "refuse"
  held_out: float = 0.0
  shuffle: bool = False
  seed: int = 0

  def __post_init__(self):
    _check_least(self, {"dev_size": 1, "test_size": 0, "min_chunks": 1})
    lookup.check("problems", self.problems, PROBLEMS)
    if not 0 <= self.held_out < 1:
      raise ValueError(f"held_out is {self.held_out}; allowed is 0 or more, below 1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judging:
  """Who says what a reply is worth, if it is not the kind alone.

  Attributes:
    utility: function (examples, replies) -> scores, or "pkg.module:function".
    patience: with a utility that raises `again.TryAgain`.
    judge_prompt: own wording with {reply}, {answer}, {question}.
    judge_limit: most new tokens of a verdict.
    ratings: of a judge: "points", 1 to 10, or the "share" of ten, as in the paper.
  """

  utility: custom.CustomFn | str | None = None
  patience: again.Patience = again.PATIENCE
  judge_prompt: str | None = None
  judge_limit: int | None = None
  ratings: str = "points"

  def __post_init__(self):
    _check_least(self, {"judge_limit": 1})
    lookup.check("ratings", self.ratings, RATINGS)
    if self.judge_prompt is not None and "{reply}" not in self.judge_prompt:
      raise ValueError(
        f"judge_prompt {self.judge_prompt!r} lacks {{reply}}; write it where the"
        " reply is to stand ({answer} and {question} likewise)."
      )


class Settled(NamedTuple):
  """Wishes, the published table and the kind's defaults, made one."""

  name: str
  kind_name: str
  kind: Kind
  parser: str
  limit: int
  chat: bool
  known: Published | None


def settle(name: str | None, wishes: Wishes, judging: Judging) -> Settled:
  """What the wishes leave open is decided.

  Raises:
    ValueError: unknown name, kind or parser; wishes that contradict each other.
  """
  known = TASKS.get(name or "")
  kind_name = _kind_name(name, wishes.kind, judging.utility, known)
  kind = KINDS[kind_name]
  _check_parser(wishes.parser, kind_name)
  limit = wishes.limit if wishes.limit is not None else (known or kind).limit
  if limit < 1:
    raise ValueError(f"limit is {limit}; allowed is 1 or more new tokens.")
  chat = wishes.chat if wishes.chat is not None else (known or kind).chat
  return Settled(name or "custom", kind_name, kind, wishes.parser, limit, chat, known)


def _kind_name(name, kind, utility, known) -> str:
  if name and not known and kind is None and utility is None:
    raise ValueError(
      lookup.unknown("task", name, TASKS) + " A task of your own needs kind or utility."
    )
  found = kind or ("custom" if utility else known.kind if known else None)
  if found is None:
    raise ValueError(
      f"kind is not set; allowed are {', '.join(KINDS)}; or give the"
      f" name of a published task: {', '.join(TASKS)}."
    )
  if found not in KINDS:
    raise ValueError(lookup.unknown("kind", found, KINDS))
  if (found == "custom") != (utility is not None):
    raise ValueError(
      f"kind is {found!r} and utility is {utility!r}; allowed is a"
      " utility with kind 'custom', and only there."
    )
  return found


def _check_parser(parser, kind_name):
  if parser not in PARSERS:
    raise ValueError(lookup.unknown("parser", parser, PARSERS))
  allowed = KINDS[kind_name].parsers
  if parser not in allowed:
    has = ", ".join(k for k, v in KINDS.items() if parser in v.parsers)
    raise ValueError(
      f"kind {kind_name!r} has no parser {parser!r}; allowed is"
      f" {', '.join(allowed)}; {parser} exists for {has}."
    )


def _check_least(record, least):
  for field, smallest in least.items():
    value = getattr(record, field)
    if value is not None and value < smallest:
      raise ValueError(f"{field} is {value}; allowed is {smallest} or more.")
