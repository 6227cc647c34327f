"""Systems without one of their parts: what is left, and what that is worth."""

import dataclasses

import numpy as np
import pytest

from jswarm.graphs import dag
from jswarm.systems import ablations
from jswarm.systems import system as system_lib
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.tasks import load, wishes
from jswarm.wiring import config as config_lib
from tests import fakes

# 0 -> 1 -> 3 <- 2, and 4 stands alone.
EDGES = np.zeros((5, 5), int)
EDGES[0, 1] = EDGES[1, 3] = EDGES[2, 3] = 1
JOB = system_lib.make_job(dag.from_edges(EDGES, 3))


def test_without_a_node_go_those_who_spoke_through_it_alone():
  left = ablations.without_node(JOB, 1)
  assert left.depth.tolist() == [-1, -1, 0, 1, -1]
  assert JOB.depth.tolist() == [0, 1, 0, 2, -1]  # the whole is as it was


def test_without_an_edge_the_others_keep_their_places():
  left = ablations.without_edge(JOB, 2, 3)
  assert left.depth.tolist() == [0, 1, -1, 2, -1]
  np.testing.assert_array_equal(left.position, JOB.position)
  assert left.assignment == JOB.assignment


def test_a_system_of_one_edge_less_may_be_its_end_alone():
  pair = system_lib.make_job(dag.from_edges([[0, 1], [0, 0]]))
  assert ablations.without_edge(pair, 0, 1).depth.tolist() == [-1, 0]


@pytest.mark.parametrize("node", [3, 4])
def test_the_end_and_who_never_runs_cannot_be_left_out(node):
  with pytest.raises(ValueError, match=f"node {node} cannot be left out"):
    ablations.without_node(JOB, node)


def test_an_edge_that_is_none_cannot_be_left_out():
  with pytest.raises(ValueError, match="no edge from node 0 to node 3"):
    ablations.without_edge(JOB, 0, 3)


def test_what_matters_is_found_and_what_does_not_changes_nothing():
  """Only what expert 0 says counts, and it must come through 1 and 3."""
  say = lambda e, prompt: "gold" if e == 0 or "gold" in prompt else "dust"
  experts, asked = fakes.dictionary(say, names="abcde")
  task = load.load_task(
    "mine",
    wishes.Source(records=fakes.records()),
    wishes.Wishes(kind="custom", limit=4),
    wishes.Judging(
      utility=lambda examples, replies: [float(r == "gold") for r in replies]
    ),
  )
  wording = dataclasses.replace(
    config_lib.resolve_default({}).wording, response="{k}: {reply}"
  )
  evaluator = Evaluator(task, Memo(experts), wording)
  found = ablations.measure(evaluator, JOB, task.dev)
  assert (found["full"], found["n"]) == (1.0, len(task.dev))
  assert {row["node"]: row["change"] for row in found["nodes"]} == {0: -1, 1: -1, 2: 0}
  lost = {(row["from"], row["to"]): row["change"] for row in found["edges"]}
  assert lost == {(0, 1): -1, (1, 3): -1, (2, 3): 0}
  alone = len(task.dev) * (1 + 3 + 5)  # each system by itself would ask far more
  assert len(asked) <= alone
