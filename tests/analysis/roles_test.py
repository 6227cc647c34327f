"""Places in a graph, labels of outputs, and their table."""

import numpy as np
import pytest
from scipy import stats

from jswarm.analysis import roles


def _edges(size, *pairs):
  found = np.zeros((size, size), bool)
  for i, j in pairs:
    found[i, j] = True
  return found


def test_every_node_that_runs_has_its_place():
  # 0 -> 1, 2 -> 3 -> 4; node 5 is never run.
  edges = _edges(6, (0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (5, 3))
  depth = np.array([0, 1, 1, 2, 3, -1])
  places = roles.positions(edges, depth, 4)
  assert places == ["source", "branch", "branch", "hub", "end", ""]


def test_a_node_of_a_chain_is_a_link():
  edges = _edges(3, (0, 1), (1, 2))
  assert roles.positions(edges, np.arange(3), 2) == ["source", "link", "end"]


@pytest.mark.parametrize(
  "verdict, label",
  [
    ("Refine.", "refine"),
    ("It is feedback, not divide", "feedback"),
    ("IRRELEVANT", "irrelevant"),
    ("I cannot say", None),
  ],
)
def test_a_verdict_is_read_by_the_first_label_that_it_names(verdict, label):
  assert roles.parse(verdict) == label


def test_the_judge_reads_the_problem_and_the_output_alone():
  text = roles.prompt("1 + 1?", "2, since {one} and one")
  assert "Problem: 1 + 1?" in text and "Output: 2, since {one}" in text


@pytest.mark.parametrize(
  "output, heard, answers, label",
  [
    ("", [], False, "irrelevant"),
    ("what is two plus two", [], True, "irrelevant"),
    ("the answer is 4", [], True, "divide"),
    ("the answer is 4", ["so the answer is 4"], True, "refine"),
    ("the answer is 4", ["banana"], True, "divide"),
    ("this is wrong", ["the answer is 5"], False, "feedback"),
    ("this is wrong", [], False, "irrelevant"),
    ("lorem ipsum", ["the answer is 5"], False, "irrelevant"),
  ],
)
def test_proxies_are_what_they_say_they_are(output, heard, answers, label):
  assert roles.proxy("what is two plus two", output, heard, answers) == label


def test_chi_square_is_scipys_on_what_occurs():
  counts = np.zeros((4, 5), int)
  counts[0, 0], counts[0, 4], counts[1, 0], counts[1, 4] = 30, 10, 10, 30
  found = roles.chi_square(counts)
  expected = stats.chi2_contingency([[30, 10], [10, 30]])
  assert found["chi2"] == pytest.approx(expected.statistic) and found["dof"] == 1
  assert found["p"] < 1e-4
  assert roles.chi_square(np.eye(1, dtype=int)) is None


def _stage(iteration, labels, place="end"):
  outputs = [{"label": label, "place": place, "depth": 1.0} for label in labels]
  return {"iteration": iteration, "seed": 0, "unread": 0, "outputs": outputs}


def test_positions_are_counted_on_the_last_stage_and_shares_on_each():
  stages = [
    _stage(0, ["irrelevant", "irrelevant"]),
    _stage(5, ["irrelevant", "refine"]),
    _stage(9, ["refine", "refine", None, "divide"]),
  ]
  found = roles.numbers({"judge": "proxy", "stages": stages})
  assert found["outputs"] == 3 and found["counts"]["end"] == [1, 2, 0, 0]
  shares = [s["shares"]["irrelevant"] for s in found["over_iterations"]]
  assert shares == [1.0, 0.5, 0.0]
  assert found["irrelevant_with_iteration"]["rho"] == pytest.approx(-1.0)
  told = roles.findings(found)
  assert "which is no judge" in told and "100.0 % after iteration 0" in told


def test_without_an_output_nothing_is_said():
  found = roles.numbers({"judge": "proxy", "stages": []})
  assert "nothing to say" in roles.findings(found)
