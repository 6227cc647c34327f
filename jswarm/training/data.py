"""Tuning data: JSONL records -> token rows -> padded batches, a function of the step.

A batch holds rows of like length (a length bucket), so little of it is padding. Which
rows stand in the batch of step t follows from the seed and t alone: a run that is
continued sees exactly the batches that it would have seen.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import os
from typing import Any, NamedTuple

from absl import logging
import numpy as np

from jswarm.formats import tokenizer as tokenizer_lib


class Rows(NamedTuple):
  """Tokenized records.

  Attributes:
    tokens: int32 arrays, prompt then completion then the end token.
    starts: where the completion starts in each.
  """

  tokens: list[np.ndarray]
  starts: list[int]


class Batch(NamedTuple):
  """Rows padded on the right to one length."""

  tokens: np.ndarray  # [B, T] int32
  positions: np.ndarray  # [B, T] int32, -1 = padding
  weights: np.ndarray  # [B, T] float32, 1 where the token is to be learnt


def read_jsonl(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Records {"prompt", "completion", ...} of a JSONL file, one object a line.

  Raises:
    ValueError: names file and line, what was found, what to change.
  """
  with open(path, encoding="utf-8") as file:
    lines = [(f"{path}:{n}", line) for n, line in enumerate(file, 1) if line.strip()]
  if not lines:
    raise ValueError(f"{path} has no records: write one JSON object a line")
  return [check_record(_parsed(line, where), where) for where, line in lines]


def check_record(record: Any, where: str) -> dict[str, Any]:
  """The record itself, if it has a prompt and a completion, both text."""
  if not isinstance(record, Mapping):
    raise ValueError(
      f'{where}: found a {type(record).__name__}; allowed is an object with "prompt" '
      'and "completion"'
    )
  for field in ("prompt", "completion"):
    value = record.get(field)
    if not isinstance(value, str) or not value.strip():
      found = repr(value)[:60] if field in record else "nothing"
      raise ValueError(
        f'{where}: "{field}" is {found}; allowed is text (fields here: '
        f"{', '.join(map(str, record)) or 'none'}); add it or drop the line"
      )
  return dict(record)


def tokenize(
  tokenizer, records: Sequence[Mapping[str, str]], *, chat: bool, max_tokens: int
) -> Rows:
  """Rows of the records; prompts as the engine writes them, an end token after each.

  A record longer than `max_tokens` is left out, with one warning for all: cut in the
  middle it would teach to stop early.

  Raises:
    ValueError: there is no record, or none is short enough.
  """
  if not records:
    raise ValueError("there are no records to train on: give one at least")
  prompts = tokenizer_lib.encode(tokenizer, [r["prompt"] for r in records], chat)
  completions = tokenizer([r["completion"] for r in records], add_special_tokens=False)[
    "input_ids"
  ]
  rows = [
    (np.array([*p, *c, tokenizer.eos_token_id], np.int32), len(p))
    for p, c in zip(prompts, completions)
  ]
  kept = [row for row in rows if len(row[0]) <= max_tokens]
  if not kept:
    raise ValueError(
      f"none of {len(rows)} records fits max_tokens={max_tokens}, the shortest has "
      f"{min((len(t) for t, _ in rows), default=0)} tokens: raise max_tokens"
    )
  if len(kept) < len(rows):
    logging.warning(
      "%d of %d records have more than max_tokens=%d tokens and are left out",
      len(rows) - len(kept),
      len(rows),
      max_tokens,
    )
  return Rows([tokens for tokens, _ in kept], [start for _, start in kept])


def digest(rows: Rows) -> str:
  """Identifies the data of a run."""
  sha = hashlib.sha256(np.asarray(rows.starts, np.int32).tobytes())
  for tokens in rows.tokens:
    sha.update(tokens.tobytes() + b"|")
  return sha.hexdigest()[:16]


def plan_epoch(
  lengths: np.ndarray, batch: int, multiple: int, rng: np.random.Generator
) -> list[np.ndarray]:
  """Row indices of each batch of one pass over the data, in the order of training.

  Every row is in exactly one batch; all of a batch round up to one multiple of
  `multiple` tokens, but for the last rows of a bucket, which join the next longer one.
  """
  order = rng.permutation(len(lengths))
  bucket = -(-lengths[order] // multiple)
  batches, rest = [], np.zeros(0, int)
  for size in np.unique(bucket):
    members = np.concatenate([rest, order[bucket == size]])
    full = len(members) // batch * batch
    batches += list(members[:full].reshape(-1, batch))
    rest = members[full:]
  if len(rest):
    batches.append(rest)
  return [batches[i] for i in rng.permutation(len(batches))]


class Loader:
  """Batches of `rows` by step: `loader(step)`; equal arguments give equal batches."""

  def __init__(self, rows: Rows, batch: int, multiple: int, seed: int):
    self._rows, self._batch, self._multiple = rows, batch, multiple
    self._lengths = np.array([len(tokens) for tokens in rows.tokens])
    self._seed, self._epoch, self._plan = seed, -1, []
    self.steps_per_epoch = len(self._planned(0))

  def __call__(self, step: int) -> Batch:
    epoch, place = divmod(step, self.steps_per_epoch)
    return pad(self._rows, self._planned(epoch)[place], self._batch, self._multiple)

  def _planned(self, epoch):
    if epoch != self._epoch:
      rng = np.random.default_rng((self._seed, epoch))
      self._plan = plan_epoch(self._lengths, self._batch, self._multiple, rng)
      self._epoch = epoch
    return self._plan


def pad(rows: Rows, indices: Sequence[int], batch: int, multiple: int) -> Batch:
  """These rows as one `Batch` of `batch` rows; missing rows are padding alone."""
  longest = max(len(rows.tokens[i]) for i in indices)
  shape = (batch, -(-longest // multiple) * multiple)
  tokens = np.zeros(shape, np.int32)
  positions = np.full(shape, -1, np.int32)
  weights = np.zeros(shape, np.float32)
  for b, i in enumerate(indices):
    length = len(rows.tokens[i])
    tokens[b, :length] = rows.tokens[i]
    positions[b, :length] = np.arange(length)
    weights[b, rows.starts[i] : length] = 1
  return Batch(tokens, positions, weights)


def _parsed(line, where):
  try:
    return json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(
      f"{where}: not JSON ({error.msg} at column {error.colno}); allowed is one "
      "object a line"
    ) from error
