"""What a run tells of itself as it goes."""

import json

import pytest

from jswarm.report import pages
from jswarm.run import loop
from tests.fake_run import plan


def _run(folder, **changes):
  return loop.run(plan({"search.iterations": 1, **changes}), str(folder))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """(folder, result) of a run with its controls."""
  folder = tmp_path_factory.mktemp("run")
  return folder, _run(folder, **{"log.baselines": True})


def test_a_run_says_what_it_is_made_of_and_when_it_did_what(done):
  folder, _ = done
  made = json.loads((folder / "manifest.json").read_text())
  assert made["versions"]["jax"] and made["processes"] == 1
  lines = (folder / "timing.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [row["phase"] for row in rows] == ["begin", "iteration", "iteration", "test"]
  assert [row["iteration"] for row in rows] == [-1, 0, 1, 1]
  assert sorted(rows, key=lambda row: row["at"]) == rows


def test_the_best_system_so_far_is_there_while_a_run_goes(done):
  folder, result = done
  told = json.loads((folder / "progress.json").read_text())
  assert told["system"] == result.results["system"]
  assert told["iteration"] == told["iterations"] == 1


def test_each_node_of_the_found_system_is_traced_on_test(done):
  folder, result = done
  lines = (folder / "evals" / "traces.jsonl").read_text().splitlines()
  replies = [json.loads(line)["nodes"][-1]["reply"] for line in lines]
  assert replies == result.tested["system"].replies


def test_the_graphs_of_luck_are_kept_with_what_they_scored(done):
  folder, result = done
  kept = json.loads((folder / "evals" / "random.json").read_text())["utilities"]
  assert len(kept) == sum(row["systems"] for row in result.results["history"])


def test_a_page_can_be_made_of_what_a_run_has_left(done):
  folder, result = done
  text = pages.render(folder)
  assert f"{result.results['test']['system']['score']:.3f}" in text
  assert text.count('"prompt":') == sum(
    len(line["nodes"])
    for line in map(json.loads, (folder / "evals" / "traces.jsonl").open())
  )


def test_a_place_that_cannot_be_written_ends_no_run(tmp_path, caplog):
  (tmp_path / "manifest.json.part").mkdir()
  with caplog.at_level("WARNING"):
    assert _run(tmp_path).results["iterations"] == 1
  assert "the run goes on, but cannot tell of itself" in caplog.text
