"""`task.problems=drop`: records that are bad or in both splits are left out and named.

  rows -> sound -> split -> examples -> apart -> dev, test

What makes a record bad is `data`'s affair; here it is only taken away. Nothing is
repaired: a record is used as it stands, or not at all.
"""

from collections.abc import Mapping, Sequence

from absl import logging

from jswarm.tasks import data, read
from jswarm.tasks.base import Example

Rows = Mapping[str, Sequence[read.Found]]


def sound(rows: Rows, needs: data.Needs, faults: list[str]) -> dict[str, list]:
  """The records that make an example, each once; why others do not goes to `faults`.

  Args:
    rows: split -> records; "" where no splits are named, or a field of each record
      names it.
  """
  kept = {}
  for split, found in rows.items():
    # Records that are yet to be split: what is asked twice would be in both.
    unsplit = not split and not _names_splits(found)
    kept[split] = _once(found, needs, unsplit, faults)
  return kept


def _names_splits(found):
  return any(isinstance(f.record, Mapping) and "split" in f.record for f in found)


def _once(found, needs, unsplit, faults):
  kept: list[read.Found] = []
  first: dict[tuple, str] = {}
  for k, f in enumerate(found):
    for example in data.examples([f], str(k), needs, faults):
      same = data.content(example)
      # A published file may well ask the same under another id.
      same = same if unsplit else (example.id, *same)
      if same in first:
        faults.append(f"{example.where}: repeats {first[same]}")
      else:
        first[same] = example.where
        kept.append(f)
  return kept


def apart(
  dev: Sequence[Example], test: Sequence[Example], faults: list[str]
) -> tuple[Example, ...]:
  """The examples of dev that are not in test, which stays as it was published."""
  places = {data.content(example): example.where for example in reversed(test)}
  kept = []
  for example in dev:
    if place := places.get(data.content(example)):
      faults.append(f"{example.where}: asks the same as {place} of test")
    else:
      kept.append(example)
  return tuple(kept)


def count(faults: Sequence[str]) -> int:
  """Of how many records faults tell: one may have several, all from one place."""
  return len({fault.split(": ")[0] for fault in faults})


def tell(faults: Sequence[str], name: str) -> None:
  """A line in the log on what was left out."""
  if faults:
    logging.warning(
      "task %s: records left out: %d, the first: %s", name, count(faults), faults[0]
    )
