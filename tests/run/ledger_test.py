"""What was paid for outlives a killed search, and is never paid for twice."""

import dataclasses
import itertools
import json

import pytest

from jswarm.core.types import Reply, Request
from jswarm.run import loop
from jswarm.run.ledger import Ledger
from jswarm.systems.budget import Meter
from jswarm.systems.memo import Memo
from tests import fakes
from tests.fake_run import plan


def _ledger(folder, after=0):
  ledger = Ledger(folder)
  ledger.open(after)
  return ledger


def test_what_was_put_is_known_after_a_kill_and_nothing_else(tmp_path):
  first = _ledger(tmp_path)
  first.put({"a": Reply("ünï\ud800", 2, 3)}, 1.5)  # and is killed
  assert _ledger(tmp_path).known == {"a": (Reply("ünï\ud800", 2, 3), 1.5)}
  assert _ledger(tmp_path, after=1).known == {}
  assert _ledger(tmp_path, after=0).known == {}  # the next checkpoint holds it


def test_a_line_that_a_kill_cut_off_is_asked_again_and_the_file_goes_on(tmp_path):
  first = _ledger(tmp_path)
  first.put({"a": Reply("x", 1, 1), "b": Reply("y", 1, 1)}, 2.0)
  first.close()
  (path,) = tmp_path.glob("*.jsonl")
  path.write_bytes(path.read_bytes()[:-5])
  again = _ledger(tmp_path)
  assert list(again.known) == ["a"]
  again.put({"c": Reply("z", 1, 1)}, 1.0)
  assert list(_ledger(tmp_path).known) == ["a", "c"]
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_known_call_counts_as_made_and_does_not_reach_the_pool(tmp_path):
  requests = [Request(e, "Q", 5) for e in range(3)]
  experts, asked = fakes.numeric()
  meter = Meter()
  said = Memo(experts, meter, ledger=_ledger(tmp_path)).ask(requests)
  again = Meter()
  fresh = Memo(experts, again, ledger=_ledger(tmp_path))
  del asked[:]
  assert fresh.ask([*requests, Request(3, "Q", 5)])[:3] == said
  assert [r.expert for r in asked] == [3]
  assert again.spent["made"] == 4 and meter.spent["made"] == 3


class _KilledError(Exception):
  pass


def _run(workdir, asks=None, **fields):
  """(results but timing, calls that reached the pool); ends at so many batches."""
  experts, asked = fakes.numeric()
  batches = []

  def ask(requests):
    batches.append(len(requests))
    if len(batches) == asks:
      raise _KilledError
    return experts.ask(requests)

  ticks = itertools.count()
  made = plan(fields, experts=experts._replace(ask=ask))
  made = dataclasses.replace(made, clock=lambda: next(ticks))  # a batch takes a second
  try:
    results = loop.run(made, workdir and str(workdir)).results
  except _KilledError:
    return None, len(asked)
  return {k: v for k, v in results.items() if k != "timing"}, len(asked)


def test_a_search_that_ends_at_any_batch_repeats_at_most_that_batch(tmp_path):
  whole, calls = _run(None)
  for asks in (1, 2, 4, 7, 11):
    workdir = tmp_path / str(asks)
    stopped, before = _run(workdir, asks)
    assert stopped is None
    results, after = _run(workdir)
    assert results == whole
    assert before + after == calls, asks


@pytest.mark.parametrize(
  "limit, most", [("calls", 60), ("tokens", 6000), ("seconds", 9.0)]
)
def test_a_budget_is_spent_the_same_over_any_number_of_lives(tmp_path, limit, most):
  fields = {f"budget.{limit}": most, "search.iterations": 50}
  whole, _ = _run(None, **fields)
  assert whole["finish_reason"] == f"budget:{limit}"
  assert whole["test"]["system"]["n"] == 6  # the final test is not counted
  for asks in (2, 2, 3):
    _run(tmp_path / "run", asks, **fields)
  assert _run(tmp_path / "run", **fields)[0] == whole
