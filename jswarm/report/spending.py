"""What a run has spent: calls, tokens and seconds by phase, beside its budget.

history, timing -> cost;  configuration, spend -> budget
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jswarm.report.records import Records

_SPENT = ("calls", "made", "prompt_tokens", "new_tokens")


def cost(records: Records) -> list[dict[str, Any]]:
  """Calls, tokens and seconds of each phase, then of all."""
  seconds = _seconds(records.timing)
  rows, before = [], dict.fromkeys(_SPENT, 0)
  for row in records.history:
    t = row["iteration"]
    name = f"iteration {t}" if t else "experts alone, first graphs"
    rows.append(_phase(name, row, before, seconds.get(("iteration", t))))
    before = {field: row.get(field, 0) for field in _SPENT}
  total = records.results.get("spend")
  if total:
    times = next((v for k, v in seconds.items() if k[0] == "test"), None)
    rows.append(_phase("final test", total, before, times))
  if rows:
    rows.append(_sum("together", rows))
  return rows


def budget(records: Records) -> list[dict[str, Any]]:
  """Limits of the search with what was spent of each."""
  spend = records.results.get("spend") or records.progress.get("spend") or {}
  asking = max((row.get("asking", 0) for row in records.timing), default=None)
  tokens = spend.get("prompt_tokens", 0) + spend.get("new_tokens", 0)
  used = {"calls": spend.get("made"), "tokens": tokens, "seconds": asking}
  return [
    {"name": name, "limit": records.config.get(f"budget.{name}") or None, "used": value}
    for name, value in used.items()
  ]


def _seconds(timing: Sequence[Mapping[str, Any]]):
  """{(phase, iteration): (seconds, of them asking)}; a later life of a run counts."""
  found, last = {}, None
  for row in timing:
    if row["phase"] != "begin" and last:
      key = row["phase"], row["iteration"]
      found[key] = row["at"] - last["at"], row["asking"] - last["asking"]
    last = row
  return found


def _phase(name, row, before, times):
  spent = {field: row.get(field, 0) - before[field] for field in _SPENT}
  seconds, asking = times or (None, None)
  return {"name": name, **spent, "seconds": seconds, "asking": asking}


def _sum(name, rows):
  total = {field: sum(row[field] for row in rows) for field in _SPENT}
  for field in ("seconds", "asking"):
    known = [row[field] for row in rows if row[field] is not None]
    total[field] = sum(known) if known else None
  return {"name": name, **total}
