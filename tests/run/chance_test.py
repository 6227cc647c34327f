"""Chance is a contender: as many random graphs as the search scored systems."""

import numpy as np

from jswarm.run import loop
from tests.fake_run import SMALL, plan

ROWS = {"log.baselines": True}


def test_luck_gets_as_many_systems_as_the_search_scored(monkeypatch):
  asked = []
  true = loop.final_test.chance.problem_lib.score

  def score(problem, jobs, bars=None):
    values, evaluations = true(problem, jobs, bars)
    asked.append((list(jobs), len(evaluations)))
    return values, evaluations

  monkeypatch.setattr(loop.final_test.chance.problem_lib, "score", score)
  results = loop.run(plan(ROWS), None).results
  searched = sum(count for purposes, count in asked if purposes != ["random"])
  assert asked[-1] == (["random"], searched)
  assert sum(row["systems"] for row in results["history"]) == searched
  # Random graphs and assignments at the start, then both steps' systems.
  first = SMALL["search.graphs"] + SMALL["search.assignments"]
  assert results["history"][0]["systems"] == first


def test_chance_and_the_vote_stand_in_the_table():
  test = loop.run(plan(ROWS), None).results["test"]
  assert {"random_search", "majority_vote", "star", "chain", "random"} <= set(test)
  assert all(np.isfinite(row["score"]) for row in test.values())


def test_graphs_that_were_seen_before_are_counted():
  history = loop.run(plan({"role.method": "evolution"}), None).results["history"]
  seen = [row["role/seen"] for row in history]
  assert seen[0] == 0 and all(0 <= share <= 1 for share in seen)
  assert all(row["role/distinct"] <= SMALL["search.graphs"] for row in history)
