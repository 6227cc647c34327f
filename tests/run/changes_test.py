"""Who goes on in a workdir knows what has changed, and it stands there."""

import json

import numpy as np
import pytest

from jswarm.run import changes, loop, workdir
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config
from tests import fakes
from tests.fake_run import SMALL, plan

PSO = {"role.method": "pso", "weight.method": "pso"}  # before these were fields


def _utility(bonus):
  def utility(examples, replies):
    return [x + bonus for x in fakes.mean_of_numbers(examples, replies)]

  return utility


def _run(folder, fields=(), experts=None, bonus=0):
  """The workdir is checked twice: before the pool is loaded, and when it is claimed."""
  asked = []
  if experts is None:
    experts, asked = fakes.numeric()
  made = plan(fields, utility=_utility(bonus), experts=experts, workdir=str(folder))
  return loop.run(made, str(folder)).results, asked


TWO, FOUR = {"search.iterations": 2}, {"search.iterations": 4, "role.patience": 50}
FEW = {**FOUR, "search.iterations": 2}


def test_a_utility_of_another_text_is_refused_with_the_difference(tmp_path):
  _run(tmp_path, TWO)
  before = (tmp_path / "config.json").read_text()
  with pytest.raises(ValueError) as caught:
    _run(tmp_path, TWO, bonus=1)
  told = str(caught.value)
  assert "bonus = 0" in told and "bonus = 1" in told and "code.utility:" in told
  assert "--config.accept_changes=code.utility" in told
  assert (tmp_path / "config.json").read_text() == before


def test_a_change_that_is_accepted_goes_on_and_is_recorded(tmp_path):
  _run(tmp_path, FEW)
  accept = {**FOUR, "accept_changes": "code.utility"}
  results, asked = _run(tmp_path, accept, bonus=1)
  assert results["iterations"] == 4
  (row,) = results["accepted_changes"]
  assert row["after"] == 2
  assert [c["field"] for c in row["accepted"]] == ["code.utility"]
  kept = (tmp_path / changes.FILE).read_text().splitlines()
  assert [json.loads(line) for line in kept] == [row]
  # From now on the workdir is the new one's.
  again, _ = _run(tmp_path, FOUR, bonus=1)
  assert again["accepted_changes"] == [row]
  with pytest.raises(ValueError, match="code.utility"):
    _run(tmp_path, FOUR, bonus=0)


def test_an_unchanged_run_has_no_word_of_changes(tmp_path):
  results, _ = _run(tmp_path, {**TWO, "accept_changes": "code.utility"})
  assert "accepted_changes" not in results
  assert not (tmp_path / changes.FILE).exists()


def test_replies_of_other_sampling_are_asked_again_after_a_change(tmp_path):
  _run(tmp_path, FEW)
  same, asked = _run(tmp_path, {**FOUR, "accept_changes": "seed"})
  fresh_dir = tmp_path / "other"
  _run(fresh_dir, FEW)
  changed = {**FOUR, "accept_changes": "generation", "generation.top_p": 0.9}
  other, all_asked = _run(fresh_dir, changed)
  assert other["iterations"] == same["iterations"] == 4
  assert len(all_asked) > len(asked)  # nothing was taken from before


def test_wording_data_and_weights_are_compared_too(tmp_path):
  _run(tmp_path, TWO)
  with pytest.raises(ValueError, match="messages.middle: '.*' there, 'Go on.' now"):
    _run(tmp_path, {**TWO, "messages.middle": "Go on."})
  experts, _ = fakes.numeric()
  moved = experts.weights[0]["w"].at[2, 0].add(0.1)
  other = experts._replace(weights=({"w": moved},))
  with pytest.raises(ValueError, match="pool.versions: of expert 2 .*the weights"):
    _run(tmp_path, TWO, experts=other)


@pytest.mark.parametrize(
  "fields", [{"search.graphs": 5}, {"search.assignments": 6}, {"search.steps": "role"}]
)
def test_what_decides_the_arrays_cannot_be_accepted(tmp_path, fields):
  _run(tmp_path, TWO)
  (name,) = fields
  with pytest.raises(ValueError, match=f"{name}: .* now$"):  # no hint to accept it
    _run(tmp_path, {**TWO, **fields})
  with pytest.raises(ValueError, match=f"accept_changes cannot name {name}"):
    _run(tmp_path, {**TWO, **fields, "accept_changes": name})


def test_a_section_may_be_accepted_as_a_whole_and_no_more_than_that():
  assert changes.is_accepted("role.inertia", ("role",))
  assert changes.is_accepted("role.inertia", ("role.",))
  assert not changes.is_accepted("role.inertia", ("rol", "inertia", ""))


def test_readers_of_replies_are_compared(tmp_path, monkeypatch):
  fields = {**SMALL, **TWO, "task.kind": "exact_match"}
  config = config_lib.override(get_config(), fields)
  make = lambda: search.plan(
    config, records=fakes.records(), experts=fakes.numeric()[0], workdir=str(tmp_path)
  )
  made = make()
  assert "code.utility" not in made.config
  workdir.claim(tmp_path, made.config)
  make()
  monkeypatch.setattr(search.code, "readers", lambda: "another")
  with pytest.raises(ValueError, match="code.readers: what reads answers"):
    make()


def test_a_workdir_without_a_record_of_its_code_goes_on_with_a_warning(
  tmp_path, caplog
):
  whole, _ = _run(tmp_path / "whole", FOUR | PSO)
  _run(tmp_path / "old", FEW | PSO)
  path = tmp_path / "old" / "config.json"
  old = json.loads(path.read_text())
  for field in ("code.utility", *changes.ADDED):
    del old[field]
  path.write_text(json.dumps(old))
  with caplog.at_level("WARNING"):
    results, _ = _run(tmp_path / "old", FOUR | PSO)
  assert "did not record code.utility" in caplog.text
  results.pop("timing"), whole.pop("timing")
  assert results == whole


def test_what_a_utility_reads_and_nobody_can_compare_is_warned_of(tmp_path, caplog):
  stream = iter([0.0])

  def utility(examples, replies):
    assert stream is not None
    return fakes.mean_of_numbers(examples, replies)

  with caplog.at_level("WARNING"):
    plan(TWO, utility=utility)
  assert "cannot be compared between runs" in caplog.text and "stream" in caplog.text


def test_a_long_difference_is_cut():
  change = changes.Change(
    "code.utility", [f"a{i}" for i in range(99)], [f"b{i}" for i in range(99)]
  )
  assert len(change.told().splitlines()) < 45 and "more lines" in change.told()
  assert np.all([line.startswith("  ") for line in change.told().splitlines()])
