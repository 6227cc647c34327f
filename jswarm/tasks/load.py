"""`load_task`: a name, a file or Python records, and settings -> `Task`."""

from collections.abc import Mapping, Sequence
import difflib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
import numpy as np

from jswarm.tasks import custom, data, read
from jswarm.tasks.base import Example, Task
from jswarm.tasks.kinds import KINDS, PARSERS, Kind, follow_up, judge
from jswarm.tasks.published import TASKS, Published


class _Settings(NamedTuple):
  """Arguments, the task's table and the kind's defaults, settled."""

  name: str
  kind_name: str
  kind: Kind
  parser: str
  limit: int
  chat: bool
  known: Published | None


def load_task(
  name: str | None = None,
  *,
  path: str | os.PathLike | None = None,
  records: Any = None,
  dev_path: str | os.PathLike | None = None,
  test_path: str | os.PathLike | None = None,
  kind: str | None = None,
  parser: str = "strict",
  limit: int | None = None,
  chat: bool | None = None,
  dev_size: int | None = None,
  test_size: int | None = None,
  utility: custom.CustomFn | str | None = None,
  icl_prompt: str | None = None,
  judge_prompt: str | None = None,
  judge_limit: int | None = None,
  min_chunks: int = 1,
  allow_overlap: bool = False,
  shuffle: bool = False,
  seed: int = 0,
) -> Task:
  """Loads and checks a task. Exactly one source: path, records, or dev_path and
  test_path.

  Args:
    name: one of `TASKS` brings its settings; any other name needs `kind` or
      `utility`. Every other argument beats the table.
    path: JSON {"dev": [...], "test": [...]} as published; a JSON list or JSONL with
      a "split" field in each record, or `dev_size` first records for dev and the
      next for test; or a folder of published files, from which `name` is taken.
    records: the same as Python objects; any iterable of mappings.
    dev_path, test_path: one JSON list or JSONL a split.
    kind: one of `KINDS`.
    parser: "strict", or "as_published" for the public code's lenient readers.
    limit: most new tokens of a reply.
    chat: wrap prompts in the chat template.
    dev_size, test_size: use only the first so many; None: all. A `test_size` of 0
      needs no test data.
    utility: function (examples, replies) -> scores, or "pkg.module:function".
    icl_prompt: solved examples before the question, as in some published files.
    judge_prompt: own wording with {reply}, {answer}, {question}.
    judge_limit: most new tokens of a verdict.
    min_chunks: context chunks that every example of a long-context task needs: one
      a node.
    allow_overlap: dev and test may share questions; it is a warning then.
    shuffle: shuffle the records by `seed` before they are split or cut.
    seed: of the shuffle.

  A record has `question` (or `input`), `answer` (or `output`), and optionally `id`,
  `choices`, `context_chunks`; other fields are kept for custom utilities.

  Raises:
    DataError: with every problem of every record (exit code 65), used or not.
    ValueError: unknown name, kind or parser; arguments that contradict each other.
  """
  settings = _settings(name, kind, parser, limit, chat, utility)
  _check_arguments(dev_size, test_size, min_chunks, judge_limit, judge_prompt)
  problems: list[str] = []
  source = _source(name, path, records, dev_path, test_path)
  tables = _read(source, problems)
  data.raise_if(problems, settings.name)
  rows = _split(tables.rows, dev_size, shuffle, seed, problems)
  if test_size == 0:
    rows["test"] = []
  dev, test, context = _examples(rows, settings, min_chunks, allow_overlap, problems)
  # Records that are wrong are named; they must not also look like a short split.
  data.raise_if(problems, settings.name)
  dev = _cut(dev, "dev", dev_size, source, problems)
  test = _cut(test, "test", test_size, source, problems)
  data.raise_if(problems, settings.name)
  in_context = tables.in_context if icl_prompt is None else icl_prompt
  return _task(
    settings, dev, test, context, in_context, utility, judge_prompt, judge_limit, source
  )


def _settings(name, kind, parser, limit, chat, utility) -> _Settings:
  known = TASKS.get(name)
  if name and not known and kind is None and utility is None:
    raise ValueError(
      _unknown("task", name, TASKS) + " A task of your own needs kind or utility."
    )
  kind_name = kind or ("custom" if utility else known.kind if known else None)
  if kind_name is None:
    raise ValueError(
      f"kind is not set; allowed are {', '.join(KINDS)}; or give the"
      f" name of a published task: {', '.join(TASKS)}."
    )
  if kind_name not in KINDS:
    raise ValueError(_unknown("kind", kind_name, KINDS))
  if (kind_name == "custom") != (utility is not None):
    raise ValueError(
      f"kind is {kind_name!r} and utility is {utility!r}; allowed is a"
      " utility with kind 'custom', and only there."
    )
  if parser not in PARSERS:
    raise ValueError(_unknown("parser", parser, PARSERS))
  found = KINDS[kind_name]
  if parser not in found.parsers:
    has = ", ".join(k for k, v in KINDS.items() if parser in v.parsers)
    raise ValueError(
      f"kind {kind_name!r} has no parser {parser!r}; allowed is"
      f" {', '.join(found.parsers)}; {parser} exists for {has}."
    )
  limit = limit if limit is not None else (known or found).limit
  if limit < 1:
    raise ValueError(f"limit is {limit}; allowed is 1 or more new tokens.")
  chat = chat if chat is not None else (known or found).chat
  return _Settings(name or "custom", kind_name, found, parser, limit, chat, known)


def _unknown(what: str, value: Any, known) -> str:
  near = difflib.get_close_matches(str(value), known, 3)
  hint = f" Did you mean {' or '.join(near)}?" if near else ""
  return f"unknown {what} {value!r}; allowed are {', '.join(known)}.{hint}"


def _check_arguments(dev_size, test_size, min_chunks, judge_limit, template) -> None:
  for field, value, least in (
    ("dev_size", dev_size, 1),
    ("test_size", test_size, 0),
    ("min_chunks", min_chunks, 1),
    ("judge_limit", judge_limit, 1),
  ):
    if value is not None and value < least:
      raise ValueError(f"{field} is {value}; allowed is {least} or more.")
  if template is not None and "{reply}" not in template:
    raise ValueError(
      f"judge_prompt {template!r} lacks {{reply}}; write it where the"
      " reply is to stand ({answer} and {question} likewise)."
    )


def _source(name, path, records, dev_path, test_path) -> dict[str, Any]:
  """{"path": ...}, {"records": ...} or {"dev": ..., "test": ...}."""
  given = [
    field
    for field, value in (("path", path), ("records", records), ("dev_path", dev_path))
    if value is not None
  ]
  if len(given) != 1 or (test_path is not None and given != ["dev_path"]):
    found = given + ["test_path"] * (test_path is not None)
    raise ValueError(
      f"the data come from {' and '.join(found) or 'nowhere'}; allowed"
      " is one of: path; records; dev_path with test_path."
    )
  if records is not None:
    return {"records": records}
  if path is not None:
    folder = Path(path)
    return {
      "path": str(folder / f"{name}.json")
      if name and folder.is_dir()
      else os.fspath(path)
    }
  return {
    "dev": os.fspath(dev_path),
    **({} if test_path is None else {"test": os.fspath(test_path)}),
  }


def _read(source: dict[str, Any], problems: list[str]) -> read.Tables:
  if "records" in source:
    return read.from_objects(source["records"], problems)
  if "path" in source:
    return read.read_file(source["path"], problems)
  rows, in_context = {}, ""
  for split, path in source.items():
    tables = read.read_file(path, problems)
    rows[split] = tables.rows.get("", tables.rows.get(split, []))
    in_context = in_context or tables.in_context
  return read.Tables(rows, in_context)


def _split(rows, dev_size, shuffle, seed, problems) -> dict[str, list[read.Found]]:
  """split -> records; unsplit records by their "split" field or by `dev_size`."""
  if shuffle:
    rng = np.random.default_rng(seed)
    rows = {
      k: [found[i] for i in rng.permutation(len(found))]
      for k, found in sorted(rows.items())
    }
  if "" not in rows:
    return {"dev": rows.get("dev", []), "test": rows.get("test", [])}
  found = rows[""]
  said = [
    f.record.get("split") if isinstance(f.record, Mapping) else None for f in found
  ]
  if not any(s in read.SPLITS for s in said if isinstance(s, str)):
    if dev_size is None and found:
      problems.append(
        'the records name no splits; allowed are "dev" and "test" in'
        ' a field "split", or dev_size; set one of them.'
      )
    size = len(found) if dev_size is None else dev_size
    return {"dev": found[:size], "test": found[size:]}
  split: dict[str, list[read.Found]] = {"dev": [], "test": []}
  for f, s in zip(found, said):
    if isinstance(s, str) and s in read.SPLITS:
      split[read.SPLITS[s]].append(f)
    else:
      problems.append(
        f"{f.where}: split is {s!r}; allowed are"
        f" {', '.join(read.SPLITS)}; correct it or drop the record."
      )
  return split


def _examples(rows, settings: _Settings, min_chunks, allow_overlap, problems):
  """(dev, test, context): all records checked, alone and against each other."""
  context = bool(settings.known and settings.known.context) or any(
    isinstance(f.record, Mapping) and f.record.get("context_chunks") is not None
    for found in rows.values()
    for f in found
  )
  needs = data.Needs(
    settings.kind.options, settings.kind_name != "custom", min_chunks if context else 0
  )
  dev, test = (data.examples(rows[s], s, needs, problems) for s in ("dev", "test"))
  for split, made in (("dev", dev), ("test", test)):
    data.check_repeats(made, split, problems)
  data.check_overlap(dev, test, allow_overlap, problems)
  return dev, test, context


def _cut(
  split: Sequence[Example],
  name: str,
  size: int | None,
  source: dict[str, Any],
  problems: list[str],
) -> tuple[Example, ...]:
  """The first `size` examples; an empty or too short split is a problem."""
  file = source.get(name) or source.get("path") or "records"
  if size != 0 and not split:
    problems.append(
      f"{file} {name}: has no records; allowed is one or more; add some"
      + (", or set test_size=0." if name == "test" else ".")
    )
  elif size is not None and len(split) < size:
    problems.append(
      f"{file} {name}: has {len(split)} records and {name}_size is"
      f" {size}; allowed is at most {len(split)}; lower {name}_size."
    )
  return tuple(split[:size])


def _task(
  settings: _Settings,
  dev,
  test,
  context,
  in_context,
  utility,
  judge_prompt,
  judge_limit,
  source,
) -> Task:
  name, kind_name, kind, parser, limit, chat, known = settings
  if known and known.in_context and not in_context:
    logging.warning("%s has no icl_prompt; its questions are asked without.", name)
  prompt = functools.partial(
    kind.prompt, in_context=in_context, request=known.request if known else ""
  )
  score = (
    custom.custom_utility(utility)
    if utility is not None
    else kind.score(parser, known.tail_words if known else None)
  )
  follow = follow_up(parser, prompt) if kind_name == "abstain" else None
  rated = judge(parser, judge_prompt, judge_limit) if kind_name == "judge" else None
  paths = {k: v if isinstance(v, str) else k for k, v in source.items()}
  spec = {
    "name": name,
    "kind": kind_name,
    "parser": parser,
    "path": paths,
    "sha256": {
      s: data.digest(e, records=kind_name == "custom")
      for s, e in (("dev", dev), ("test", test))
    },
    "prompts_sha256": _prompts_digest(prompt, follow, rated, dev + test),
    "limits": {
      "reply": limit,
      "check": follow and follow.limit,
      "verdict": rated and rated.limit,
    },
    "counts": {"dev": len(dev), "test": len(test)},
    "chat": chat,
    "needs_context": context,
    "utility": None if utility is None else custom.name_of(utility),
  }
  return Task(
    name=name,
    kind=kind_name,
    limit=limit,
    chat=chat,
    dev=dev,
    test=test,
    prompt=prompt,
    score=score,
    range=kind.range,
    followup=follow,
    judge=rated,
    needs_context=context,
    spec=spec,
    bounds=kind.range if kind.alone else None,
  )


def _prompts_digest(prompt, follow, rated, split) -> str:
  """sha256 of every prompt, with a fixed reply where one is quoted."""
  sha = hashlib.sha256()
  for example in split:
    texts = [prompt(example)] + [f.prompt(example, "") for f in (follow, rated) if f]
    sha.update("\0".join(texts).encode("utf-8", "surrogatepass") + b"\0")
  return sha.hexdigest()
