"""What differs between a workdir and the run that wants to go on in it.

    config.json, configuration now -> differences -> told, refused or accepted
    accepted -> changes.jsonl -> results.json

A difference that decides the numbers is refused; `accept_changes` names those that one
knows of. What was accepted stands in the workdir from then on.
"""

from collections.abc import Mapping, Sequence
import difflib
import json
import pathlib
from typing import Any, NamedTuple

from jswarm.core.files import clean

FILE = "changes.jsonl"
# Fields that do not define the search: a resumed run may change them.
FREE = (
  "accept_changes",
  "search.iterations",
  "budget.",
  "log.",
  "checkpoint.",
  "engine.compile_cache",
  "engine.memo",
  "processes.",
  "pool.skip_bad",  # whom it left out is compared
)
# Fields that decide which arrays a checkpoint holds: no other run can take them up.
FIXED = (
  "search.graphs",
  "search.assignments",
  "search.steps",
  "pool.experts",
  "pool.skipped",
  "pool.space",
)
# Fields that decide what is replied to a prompt: what was said before is not valid.
REPLIES = ("seed", "generation.", "engine.", "pool.")
# Fields that an older version did not write, with what they were in effect.
ADDED = {
  "task.utility_seconds": 0.0,
  "task.retry_seconds": 120.0,
  "task.judge_model": "",
  "task.judge_seconds": 120.0,
  "task.problems": "refuse",
  "task.ratings": "points",
  "task.held_out": 0.0,
  "pool.thinking": None,
  "pool.skip_bad": False,
  "pool.skipped": [],
  "graph.anneal": 0,
  "graph.noise": "fresh",
  "graph.preferences": "raw",
  "graph.temperature": 0.5,
  "search.credit": "jfk",
  "search.result": "best",
  "search.imprint": False,
  "search.dropout_r": 0.0,
  "search.dropout_w": 0.0,
  "search.l1": 0.0,
  "role.method": "pso",
  "weight.method": "pso",
}
_LINES = 40  # of a difference of texts that are shown


class Change(NamedTuple):
  """One field: what the workdir has, and what the run has."""

  field: str
  was: Any
  now: Any

  def told(self) -> str:
    """As lines for a message; texts as a unified diff, lists by their places."""
    if isinstance(self.was, list) and isinstance(self.now, list):
      if self.field == "code.utility":
        return f"  {self.field}:\n{_diff(self.was, self.now)}"
      if self.field == "pool.versions" and len(self.was) == len(self.now):
        places = [i for i, (a, b) in enumerate(zip(self.was, self.now)) if a != b]
        experts = ", ".join(map(str, places))
        return (
          f"  {self.field}: of expert {experts} (from 0) the weights, the base, the"
          " tokenizer or the stops"
        )
    if self.field == "code.readers":
      return f"  {self.field}: what reads answers out of replies"
    if self.field == "code.utility":
      return f"  {self.field}: the text of the utility"
    return f"  {self.field}: {self.was!r} there, {self.now!r} now"


def differences(
  saved: Mapping[str, Any], now: Mapping[str, Any], but: Sequence[str] = ()
) -> list[Change]:
  """The fields that differ and decide the numbers of a run.

  `but`: fields that are not known yet.
  """
  now = json.loads(json.dumps(clean(dict(now))))
  before = {**{k: v for k, v in ADDED.items() if k in now}, **saved}
  # Where nothing was recorded, nothing can be compared; `unrecorded` names it.
  before |= {k: now[k] for k in unrecorded(saved, now)}
  return [
    Change(k, before.get(k), now.get(k))
    for k in sorted(before.keys() | now.keys())
    if before.get(k) != now.get(k) and not k.startswith((*FREE, *but))
  ]


def unrecorded(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """What an older version did not write of the code that its numbers depend on."""
  has = any(k.startswith("code.") for k in saved)
  return [] if has else [k for k in now if k.startswith("code.")]


def refuse(
  folder: pathlib.Path, changed: Sequence[Change], accepted: Sequence[str]
) -> None:
  """Raises ValueError unless all that changed is accepted, and can be.

  `accepted`: fields, or their beginnings up to a dot.
  """
  open_ = [c for c in changed if not is_accepted(c.field, accepted)]
  if open_:
    lines = "\n".join(c.told() for c in open_)
    can = [c.field for c in open_ if c.field not in FIXED]
    hint = ""
    if len(can) == len(open_):
      hint = f"\nTo go on knowingly: --config.accept_changes={','.join(can)}"
    raise ValueError(
      f"{folder} holds a run of another configuration; use a new --workdir, or the same"
      f" configuration to continue it:\n{lines}{hint}"
    )
  fixed = [c for c in changed if c.field in FIXED]
  if fixed:
    raise ValueError(
      f"{folder}: accept_changes cannot name {', '.join(c.field for c in fixed)}: it"
      " decides which arrays a checkpoint holds. Use a new --workdir."
    )


def is_accepted(field: str, accepted: Sequence[str]) -> bool:
  """Is the field named, or a section that it is in?"""
  return any(field == a or field.startswith(f"{a.rstrip('.')}.") for a in accepted)


def record(folder: pathlib.Path, changed: Sequence[Change]) -> None:
  """Appends what was accepted, and after which iteration."""
  if not changed:
    return
  steps = [p.name for p in (folder / "checkpoints").glob("*") if p.name.isdigit()]
  row = {
    "after": max(map(int, steps), default=-1),
    "accepted": [c._asdict() for c in changed],
  }
  with open(folder / FILE, "a", encoding="utf-8") as file:
    file.write(json.dumps(clean(row)) + "\n")


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of `record`, the oldest first."""
  path = folder / FILE
  if not path.is_file():
    return []
  return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def are_replies_valid(folder: pathlib.Path, step: int) -> bool:
  """May replies that are in the checkpoint of this step be used?"""
  return not any(
    row["after"] >= step
    and any(c["field"].startswith(REPLIES) for c in row["accepted"])
    for row in read(folder)
  )


def _diff(was, now):
  lines = list(difflib.unified_diff(was, now, "there", "now", lineterm="", n=1))
  more = len(lines) - _LINES
  shown = [f"    {line}" for line in lines[:_LINES]]
  return "\n".join(shown + [f"    ... {more} more lines"] * (more > 0))
