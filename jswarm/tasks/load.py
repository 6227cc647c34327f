"""`load_task`: where the data are, and what is wished -> `Task`."""

from collections.abc import Callable, Mapping, Sequence
import functools
import hashlib
from typing import Any, NamedTuple

from absl import logging
import numpy as np

from jswarm.tasks import custom, data, drop, read
from jswarm.tasks.base import Example, Task
from jswarm.tasks.kinds import RATINGS, follow_up, judge, rated
from jswarm.tasks.wishes import Judging, Settled, Source, Wishes, settle

_NO_WISHES, _BY_KIND = Wishes(), Judging()


class _Splits(NamedTuple):
  dev: tuple[Example, ...]
  test: tuple[Example, ...]
  held: tuple[Example, ...] = ()  # was dev

  def named(self) -> dict[str, tuple[Example, ...]]:
    """By name; what is held out only where something is."""
    splits = {"dev": self.dev, "test": self.test}
    return {**splits, "held": self.held} if self.held else splits


class _Asking(NamedTuple):
  """Prompt and score of a reply, its self-check and its judge, where it has them."""

  prompt: Callable
  score: Callable
  followup: Any
  judge: Any


def load_task(
  name: str | None,
  source: Source,
  wishes: Wishes = _NO_WISHES,
  judging: Judging = _BY_KIND,
) -> Task:
  """Loads and checks a task.

  Args:
    name: one of `TASKS` brings its settings; any other name, or None, needs
      `wishes.kind` or `judging.utility`.
    source: where the data come from.
    wishes: how it is asked and cut; what is set beats the table of the task.
    judging: who scores, if not the kind alone.

  Raises:
    DataError: with every problem of every record (exit code 65), used or not; of
      single records only where `wishes.problems` is "refuse".
    ValueError: unknown name, kind or parser; arguments that contradict each other.
  """
  settled = settle(name, wishes, judging)
  places = source.places(name)
  problems: list[str] = []
  # What is wrong with single records: problems like others unless they are dropped.
  faults = [] if wishes.problems == "drop" else problems
  tables = _read(places, problems, faults)
  # Form comes first: what cannot be read would only look like a short split.
  data.raise_if(problems, settled.name)
  rows, needs_context = tables.rows, _needs_context(tables.rows, settled)
  if wishes.problems == "drop":
    rows = drop.sound(rows, _needs(settled, wishes, needs_context), faults)
  rows = _split(rows, wishes, problems, faults)
  splits = _examples(rows, settled, wishes, needs_context, faults)
  # Records that are wrong are named; they must not also look like a short split.
  data.raise_if(problems, settled.name)
  splits = _Splits(
    _cut(splits.dev, "dev", wishes.dev_size, places, problems),
    _cut(splits.test, "test", wishes.test_size, places, problems),
  )
  splits = _hold_out(splits, wishes.held_out, problems)
  drop.tell(faults, settled.name)
  data.raise_if(problems, settled.name)
  in_context = tables.in_context if wishes.icl_prompt is None else wishes.icl_prompt
  asking = _asking(settled, in_context, judging)
  return Task(
    name=settled.name,
    kind=settled.kind_name,
    limit=settled.limit,
    chat=settled.chat,
    dev=splits.dev,
    test=splits.test,
    held=splits.held,
    **asking._asdict(),
    range=RATINGS[judging.ratings] if asking.judge else settled.kind.range,
    needs_context=needs_context,
    spec=_spec(settled, places, splits, asking, needs_context, judging)
    | _dropped(wishes, faults)
    | ({"ratings": "share"} if asking.judge and judging.ratings == "share" else {}),
    bounds=settled.kind.range if settled.kind.alone else None,
  )


def _read(
  places: dict[str, Any], problems: list[str], faults: list[str]
) -> read.Tables:
  if "records" in places:
    return read.from_objects(places["records"], problems)
  if "path" in places:
    return read.read_file(places["path"], problems, faults)
  rows, in_context = {}, ""
  for split, path in places.items():
    tables = read.read_file(path, problems, faults)
    rows[split] = tables.rows.get("", tables.rows.get(split, []))
    in_context = in_context or tables.in_context
  return read.Tables(rows, in_context)


def _split(rows, wishes: Wishes, problems, faults) -> dict[str, list[read.Found]]:
  """split -> records; unsplit records by their "split" field or by `dev_size`."""
  if wishes.shuffle:
    rng = np.random.default_rng(wishes.seed)
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
    if wishes.dev_size is None and found:
      problems.append(
        'the records name no splits; allowed are "dev" and "test" in'
        ' a field "split", or dev_size; set one of them.'
      )
    size = len(found) if wishes.dev_size is None else wishes.dev_size
    return {"dev": found[:size], "test": found[size:]}
  split: dict[str, list[read.Found]] = {"dev": [], "test": []}
  for f, s in zip(found, said):
    if isinstance(s, str) and s in read.SPLITS:
      split[read.SPLITS[s]].append(f)
    else:
      faults.append(
        f"{f.where}: split is {s!r}; allowed are"
        f" {', '.join(read.SPLITS)}; correct it or drop the record."
      )
  return split


def _needs_context(rows, settled: Settled) -> bool:
  """Whether the task is one of long context, by its table or by its records."""
  if settled.known and settled.known.context:
    return True
  return any(
    isinstance(f.record, Mapping) and f.record.get("context_chunks") is not None
    for found in rows.values()
    for f in found
  )


def _hold_out(splits: _Splits, share: float, problems: list[str]) -> _Splits:
  """Takes a share of dev out of it: every third example for a third, and so on."""
  if not share:
    return splits
  # Files are often sorted by subject; a run of examples would be one of them.
  upto = [int(k * share + 1e-9) for k in range(len(splits.dev) + 1)]
  out = [after > before for before, after in zip(upto, upto[1:])]
  held = tuple(e for e, gone in zip(splits.dev, out) if gone)
  if not 0 < len(held) < len(splits.dev):
    problems.append(
      f"held_out is {share}, of {len(splits.dev)} dev examples {len(held)}; allowed is"
      " a share that takes some and leaves some; change it, or dev_size."
    )
  dev = tuple(e for e, gone in zip(splits.dev, out) if not gone)
  return _Splits(dev, splits.test, held)


def _needs(settled: Settled, wishes: Wishes, needs_context: bool) -> data.Needs:
  return data.Needs(
    settled.kind.options,
    settled.kind_name != "custom",
    wishes.min_chunks if needs_context else 0,
  )


def _examples(rows, settled: Settled, wishes: Wishes, needs_context, faults):
  """Both splits: all records checked, alone and against each other."""
  needs = _needs(settled, wishes, needs_context)
  splits = _Splits(*(data.examples(rows[s], s, needs, faults) for s in ("dev", "test")))
  for split, made in splits.named().items():
    data.check_repeats(made, split, faults)
  if wishes.problems == "drop" and not wishes.allow_overlap:
    splits = splits._replace(dev=drop.apart(splits.dev, splits.test, faults))
  data.check_overlap(splits.dev, splits.test, wishes.allow_overlap, faults)
  return splits


def _dropped(wishes: Wishes, faults: Sequence[str]) -> dict[str, Any]:
  """Fields of the spec on what was left out; none where nothing may be."""
  if wishes.problems != "drop":
    return {}
  told = "\n".join(faults).encode("utf-8", "surrogatepass")
  sha = hashlib.sha256(told).hexdigest()
  return {
    "dropped": {"count": drop.count(faults), "sha256": sha, "records": list(faults)}
  }


def _cut(
  split: Sequence[Example],
  name: str,
  size: int | None,
  places: dict[str, Any],
  problems: list[str],
) -> tuple[Example, ...]:
  """The first `size` examples; an empty or too short split is a problem."""
  file = places.get(name) or places.get("path") or "records"
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


def _asking(settled: Settled, in_context: str, judging: Judging) -> _Asking:
  """How the task asks and scores; each part can be pickled."""
  kind, parser, known = settled.kind, settled.parser, settled.known
  if known and known.in_context and not in_context:
    logging.warning(
      "%s has no icl_prompt; its questions are asked without.", settled.name
    )
  prompt = functools.partial(
    kind.prompt, in_context=in_context, request=known.request if known else ""
  )
  if judging.utility is not None:
    score = custom.custom_utility(judging.utility, judging.patience)
  else:
    score = kind.score(parser, known.tail_words if known else None)
  check = follow_up(parser, prompt) if settled.kind_name == "abstain" else None
  who = None
  if settled.kind_name == "judge":
    told = judging.judge_prompt, judging.judge_limit, judging.ratings
    who, score = judge(parser, *told), rated(parser, judging.ratings)
  return _Asking(prompt, score, check, who)


def _spec(
  settled: Settled,
  places: dict[str, Any],
  splits: _Splits,
  asking: _Asking,
  needs_context: bool,
  judging: Judging,
) -> dict[str, Any]:
  """What makes this task itself, JSON-able: settings and digests of data, prompts."""
  custom_kind = settled.kind_name == "custom"
  return {
    "name": settled.name,
    "kind": settled.kind_name,
    "parser": settled.parser,
    "path": {k: v if isinstance(v, str) else k for k, v in places.items()},
    "sha256": {
      name: data.digest(split, records=custom_kind)
      for name, split in splits.named().items()
    },
    "prompts_sha256": _prompts_digest(
      asking.prompt, asking.followup, asking.judge, sum(splits, ())
    ),
    "limits": {
      "reply": settled.limit,
      "check": asking.followup and asking.followup.limit,
      "verdict": asking.judge and asking.judge.limit,
    },
    "counts": {name: len(split) for name, split in splits.named().items()},
    "chat": settled.chat,
    "needs_context": needs_context,
    "utility": None if judging.utility is None else custom.name_of(judging.utility),
  }


def _prompts_digest(prompt, follow, rated, split) -> str:
  """sha256 of every prompt, with a fixed reply where one is quoted."""
  sha = hashlib.sha256()
  for example in split:
    texts = [prompt(example)] + [f.prompt(example, "") for f in (follow, rated) if f]
    sha.update("\0".join(texts).encode("utf-8", "surrogatepass") + b"\0")
  return sha.hexdigest()
