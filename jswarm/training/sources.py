"""Where the records of an expert come from, and what its replies are scored by."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from jswarm.tasks.custom import imported
from jswarm.training import data as data_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where an expert's records come from: a file, or a function of the user's.

  Attributes:
    path, dev_path: JSONL of {"prompt", "completion"}, optional "answer".
    records: "pkg.module:function", called as (split=, count=, seed=, **arguments)
      with the splits "train" and "dev"; instead of files.
    arguments: of that function.
    count, dev_count: records to make, or to take of the files (0: all).
    chat: prompts stand in the base's chat template.
    score: "pkg.module:function", (examples, replies) -> scores of the dev score;
      empty: 1 where the reply is the completion, else 0.
    limit: most new tokens of a dev reply.
  """

  path: str = ""
  dev_path: str = ""
  records: str = ""
  arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  count: int = 0
  dev_count: int = 0
  chat: bool = False
  score: str = ""
  limit: int = 32

  def __post_init__(self):
    if bool(self.path) == bool(self.records):
      raise ValueError(
        f"path={self.path!r} and records={self.records!r}: give exactly"
        " one, a JSONL file or pkg.module:function."
      )
    least = 1 if self.records else 0  # a function has no end to stop at
    if self.count < least or self.dev_count < 0:
      raise ValueError(
        f"count={self.count}, dev_count={self.dev_count}: allowed are"
        f" {least} or more, and for dev 0 or more."
      )

  def load(self, seed: int) -> tuple[list[dict], list[dict]]:
    """(train, dev) records; dev may be empty."""
    if self.records:
      return (
        self._made("train", self.count, seed),
        self._made("dev", self.dev_count, seed),
      )
    train_records = data_lib.read_jsonl(self.path)
    dev = data_lib.read_jsonl(self.dev_path) if self.dev_path else []
    return train_records[: self.count or None], dev[: self.dev_count or None]

  def _made(self, split, count, seed):
    make = imported(self.records, "records")
    made = make(split=split, count=count, seed=seed, **self.arguments) if count else []
    return [
      data_lib.check_record(record, f"{self.records}, {split} record {i}")
      for i, record in enumerate(made)
    ]


def same_as_completion(
  examples: Sequence[Mapping[str, Any]], replies: Sequence[str]
) -> list[float]:
  """1 where a reply is the completion, spaces aside."""
  return [
    float(e["completion"].split() == r.split()) for e, r in zip(examples, replies)
  ]
