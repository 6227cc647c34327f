"""sweep: each draw is a run, and the chosen one is scored where nothing was chosen."""

import json

import pytest

from jswarm.report import tables
from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, sweep
from jswarm.wiring.defaults import get_config
from tests import fakes

SMALL = {
  "task.utility": "tests.fakes:mean_of_numbers",
  "task.kind": "custom",
  "search.graphs": 2,
  "search.assignments": 2,
  "search.iterations": 1,
  "log.tensorboard": False,
}


def test_the_grid_is_the_papers_and_more_draws_go_on_from_fewer():
  every = sweep.draws(1350)
  assert len({tuple(d.values()) for d in every}) == 1350
  assert sweep.draws(50) == every[:50]
  for field, values in sweep.GRID.items():
    assert {d[field] for d in sweep.draws(50)} == set(values), field
  with pytest.raises(ValueError, match="draws is 1351; allowed are 1 to 1350"):
    sweep.draws(1351)


def _results(dev, held, test, calls=7):
  return {
    "dev": {"system": dev, "held_out": {"score": held}},
    "test": {"system": {"score": test}},
    "spend": {"made": calls},
  }


def test_the_best_on_dev_is_chosen_and_both_of_its_figures_are_told():
  found = [
    _results(0.5, 0.9, 0.9),
    _results(0.75, 0.25, 0.5),
    _results(0.75, 0.8, 0.8),
    _results(float("nan"), None, None),
  ]
  done = sweep.summary(sweep.draws(4), found)
  assert done["chosen"] == 1 and done["count"] == 4 == len(done["rows"])
  text = tables.draws_table(done)
  assert (
    "Of 4 draws 1 is chosen, on dev: 0.75 there, 0.25 on dev questions that chose"
    " nothing, 0.50 on test." in text
  )
  rows = [line.split(" | ")[0].strip("| ") for line in text.splitlines()]
  assert done["mean"]["dev"] == pytest.approx(2 / 3)  # of those that have one
  assert rows[2:7] == ["1", "2", "0", "3", "mean"]  # all are kept, the best first


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  """(workdir, configuration, summary of two draws of a pool of numbers)."""
  workdir = tmp_path_factory.mktemp("sweep")
  config = config_lib.override(get_config(), SMALL)
  given = {"records": fakes.records(dev=9), "experts": fakes.numeric()[0]}
  return workdir, config, sweep.run(config, 2, str(workdir), **given)


@pytest.mark.slow
def test_a_third_of_dev_chooses_nothing(swept):
  workdir, config, done = swept
  row = json.loads((workdir / "draw1" / "results.json").read_text())
  assert row["task"]["counts"] == {"dev": 6, "test": 6, "held": 3}
  assert row["dev"]["held_out"]["n"] == 3
  assert done["rows"][1]["held_out"] == row["dev"]["held_out"]["score"]
  fields = json.loads((workdir / "draw1" / "config.json").read_text())
  drawn = sweep.draws(2)[1]
  for name, value in drawn.items():
    assert fields[f"role.{name}"] == fields[f"weight.{name}"] == value


@pytest.mark.slow
def test_more_draws_go_on_from_those_that_are_there(swept):
  workdir, config, done = swept
  experts, asked = fakes.numeric()
  again = sweep.run(
    config, 2, str(workdir), records=fakes.records(dev=9), experts=experts
  )
  assert again == done
  assert not asked


def test_what_is_held_out_is_spread_over_dev_and_part_of_what_a_workdir_is_of():
  plan = lambda **fields: search.plan(
    config_lib.override(get_config(), {**SMALL, **fields}),
    records=fakes.records(dev=9),
    experts=fakes.numeric()[0],
  )
  held = plan(**{"task.held_out": sweep.HELD_OUT})
  assert [e.id for e in held.task.held] == ["dev2", "dev5", "dev8"]
  assert [e.id for e in held.task.dev] == [
    "dev0",
    "dev1",
    "dev3",
    "dev4",
    "dev6",
    "dev7",
  ]
  whole = plan()
  assert not whole.task.held and "data.held" not in whole.config
  assert (
    held.config["data.held"] and held.config["data.dev"] != whole.config["data.dev"]
  )
  for share, message in ((0.05, "of 9 dev examples 0"), (1.0, "held_out is 1.0")):
    with pytest.raises(ValueError, match=message):
      plan(**{"task.held_out": share})


@pytest.mark.slow
def test_a_search_that_is_killed_before_the_held_out_score_ends_alike(
  tmp_path, monkeypatch
):
  make = lambda: search.plan(
    config_lib.override(get_config(), {**SMALL, "task.held_out": 0.5}),
    records=fakes.records(dev=6),
    experts=fakes.numeric()[0],
  )
  whole = loop.run(make(), str(tmp_path / "whole")).results

  def killed(session):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr("jswarm.run.final_test.held_out", killed)
    loop.run(make(), str(tmp_path / "killed"))
  resumed = loop.run(make(), str(tmp_path / "killed")).results
  assert {**resumed, "timing": 0} == {**whole, "timing": 0}
