"""Searches and methods on one pool: equal budgets, and nothing lost by a kill."""

import json

import pytest

from jswarm.baselines.base import Method
from jswarm.wiring import config as config_lib
from jswarm.wiring import contest, methods, search
from jswarm.wiring.defaults import get_config
from tests import fake_run, fakes


@pytest.fixture
def config(monkeypatch):
  """Of the pool of numbers: loaded wherever a pool is."""
  plan = search.plan
  made = lambda config, **fields: plan(config, **{**fields, "experts": numbers()})
  numbers = lambda: fakes.numeric()[0]
  monkeypatch.setattr(search, "plan", made)
  monkeypatch.setattr(
    methods, "bench", lambda config, trained=None: methods.Bench(made(config))
  )
  fields = {
    **fake_run.SMALL,
    "search.iterations": 2,
    "task.records": "tests.fakes:splits",
    "task.utility": "tests.fakes:mean_of_numbers",
    "task.dev_size": 5,
    "task.test_size": 6,
  }
  return config_lib.override(get_config(), fields)


def _contest(config, folder, known=None):
  return contest.Contest(config, folder, known or methods.known())


def test_the_calls_of_the_search_are_the_budget_of_all(config, tmp_path):
  rows = _contest(config, tmp_path).run(["role_only", "random_graphs", "chain"], 2)
  assert [(r["method"], r["seed"]) for r in rows] == [
    (m, s) for s in (0, 1) for m in ("fixed", "role_only", "random_graphs", "chain")
  ]
  for seed in (0, 1):
    spent = {r["method"]: r["calls"] for r in rows if r["seed"] == seed}
    assert 0 < spent["random_graphs"] <= spent["fixed"]
  for row in rows:
    assert len(row["scores"]) == 6 and row["curve"]


def test_a_comparison_goes_on_where_it_was_cut_short(config, tmp_path):
  whole = _contest(config, tmp_path / "whole").run(["chain", "star"], 1)
  _contest(config, tmp_path / "cut").run(["chain"], 1)
  path = tmp_path / "cut" / contest.ROWS
  path.write_text(path.read_text()[:-30])  # killed while it wrote the last row
  again = _contest(config, tmp_path / "cut").run(["chain", "star"], 1)
  assert json.dumps(again) == json.dumps(whole)


def test_a_method_that_fails_is_a_row_and_stops_nobody(config, tmp_path):
  def broken(setting):
    raise ZeroDivisionError("nothing to share")

  known = {"broken": Method(broken, "control"), **methods.known()}
  rows = _contest(config, tmp_path, known).run(["broken", "chain"], 1)
  assert rows[1]["failed"] == "ZeroDivisionError: nothing to share"
  assert rows[2]["method"] == "chain" and "test" in rows[2]


def test_rows_of_another_configuration_are_not_mixed_in(config, tmp_path):
  _contest(config, tmp_path).run(["chain"], 1)
  other = config_lib.override(config, {"search.graphs": 4})
  with pytest.raises(ValueError, match="search.graphs: there 3, now 4"):
    _contest(other, tmp_path).run(["chain"], 1)


def test_an_unknown_method_is_refused_before_anything_runs(config, tmp_path):
  with pytest.raises(ValueError, match="--methods='soup'.*uniform_soup"):
    _contest(config, tmp_path).run(["soup"], 1)
