"""What analyses take of a finished run's folder."""

import json

import numpy as np
import pytest

from jswarm.analysis import runs
from jswarm.run.log import write_evaluations
from jswarm.systems.evaluate import Evaluation


def _evaluation(*scores):
  return Evaluation(float(np.mean(scores)), np.array(scores), [""] * len(scores))


@pytest.fixture
def folder(tmp_path):
  results = {
    "seed": 3,
    "dev": {"system": 0.6},
    "test": {
      "system": {"score": 0.5, "n": 3, "missing": 1},
      "best_single": {"score": 0.4},
    },
    "history": [{"calls": 10}, {"calls": 25}],
    "system": {"nodes": [{}, {}, {}], "edges": [[0, 1], [1, 2]]},
    "iterations": 1,
    "timing": {"seconds": 2.5, "seconds_asking": 2.0},
  }
  (tmp_path / "results.json").write_text(json.dumps(results))
  (tmp_path / "evals").mkdir()
  write = lambda name, *named: write_evaluations(
    tmp_path / "evals" / f"{name}.jsonl", ["a", "b"], named
  )
  write("test", ("system", _evaluation(1.0, np.nan)), ("initial", _evaluation(0.0, 1)))
  write("0000_single", ("x", _evaluation(1.0, 1.0)))
  write("0000_role", ("graph_0", _evaluation(0.0, 0.5)), ("graph_1", _evaluation(0, 0)))
  write("0000_weight", ("assignment_0", _evaluation(0.0, 1.0)))
  write("0002_role", ("graph_0", _evaluation(np.nan, 1.0)))
  return tmp_path


def test_a_row_says_what_a_run_scored_and_cost(folder):
  run = runs.read(folder)
  row = runs.row(run)
  assert row["test"] == 0.5 and row["best"] == 0.4 and row["seed"] == 3
  assert row["calls"] == 25 and row["calls_question"] == 3 and row["edges"] == 2
  assert runs.questions(run) == 4


def test_a_folder_without_results_is_no_finished_run(tmp_path):
  assert runs.read(tmp_path) is None


def test_scores_are_by_system_and_what_is_missing_stays_so(folder):
  found = runs.scores(runs.read(folder))
  assert list(found) == ["system", "initial"] and found["initial"] == [0.0, 1.0]
  assert found["system"][0] == 1.0 and np.isnan(found["system"][1])


def test_each_iteration_has_its_best_system_and_no_expert_alone(folder):
  first, later = runs.over_iterations(runs.read(folder))
  assert first == [0.0, 1.0] and later[1] == 1.0
