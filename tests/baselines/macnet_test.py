"""MACNet: who hears whom, in six topologies, and at what cost."""

import re

import numpy as np
import pytest

from jswarm.baselines import macnet
from jswarm.systems import waves
from jswarm.systems.prompts import Question, Terms
from tests import fakes
from tests.baselines.agentverse_test import WORDING
from tests.baselines.settings import dev_of, setting

EDGES = {"chain": 5, "star": 5, "tree": 5, "mesh": 15, "layered": 9}


def tagged(expert, prompt):
  """Everybody signs all that it is shown, and never finds a solution finished."""
  seen = {int(n) for n in re.findall(r"<(\d+)>", prompt)}
  return "".join(f"<{n}>" for n in sorted(seen | {expert}))


def run(answerer, replies=tagged):
  experts, _ = fakes.dictionary(replies, [f"e{i}" for i in range(9)])
  terms = Terms(experts, WORDING, 50, False)
  (done,) = waves.run(
    [waves.Item(answerer, Question("why?"))], terms, waves.direct(experts)
  )
  return done.reply, [ask for wave in done.asks for ask in wave]


@pytest.mark.parametrize("name", macnet.FAMILIES)
def test_edges_lead_to_later_nodes_and_every_answer_hears_all_ends(name):
  edges = macnet.topology(name, 6, seed=2)
  assert not np.tril(edges).any()
  if name in EDGES:
    assert edges.sum() == EDGES[name]
  answerer = macnet.MacNet(edges, sink=7)
  reply, asks = run(answerer)
  assert set(answerer.ends) <= {int(n) for n in re.findall(r"\d+", reply)}
  assert len(asks) == answerer.most


@pytest.mark.parametrize("name", ["chain", "star", "tree", "mesh", "layered"])
def test_the_answer_is_of_everybody(name):
  """All of these graphs lead from everybody to an end."""
  reply, _ = run(macnet.MacNet(macnet.topology(name, 6), sink=5))
  assert set(re.findall(r"\d+", reply)) == set("012345")


def test_every_node_of_a_mesh_hears_all_of_its_predecessors():
  """Whatever their depths: in the public code each ends with node 0's solution."""

  def own(expert, prompt):  # a solution of its own, whatever it is shown
    return f"<{expert}>" if "Compare" not in prompt else tagged(expert, prompt)

  _, asks = run(macnet.MacNet(macnet.topology("mesh", 6), sink=0), own)
  for node in range(6):
    shown = [a.prompt for a in asks if a.node == node and "Point out" in a.prompt]
    heard = {int(re.search(r"response 1: .*?<(\d+)>$", p, re.M)[1]) for p in shown}
    assert len(shown) == node
    # Every predecessor's last word is there: its own tag stands last in it.
    assert heard == set(range(node))


def test_merging_waits_for_all_and_takes_two_at_a_time():
  _, asks = run(macnet.MacNet(macnet.topology("mesh", 6), sink=0))
  merges = [a for a in asks if "Compare" in a.prompt and a.node == 5]
  assert len(merges) == 4
  assert all(len(re.findall(r"^response \d", a.prompt, re.M)) == 2 for a in merges)


def test_a_finished_solution_is_not_mended():
  say = lambda expert, prompt: "[Finished]" if "Point out" in prompt else f"<{expert}>"
  reply, asks = run(macnet.MacNet(macnet.topology("chain", 4), sink=0), say)
  assert reply == "<0>"
  assert len(asks) == 1 + 3


def test_one_expert_alone_answers():
  for name in macnet.FAMILIES:
    reply, asks = run(macnet.MacNet(macnet.topology(name, 1), sink=0))
    assert reply == "<0>" and len(asks) == 1


def test_backward_edges_and_unknown_families_are_refused():
  with pytest.raises(ValueError, match="later ones alone"):
    macnet.MacNet(np.ones((2, 2), bool), 0)
  with pytest.raises(ValueError, match="topology='ring'.*mesh"):
    macnet.topology("ring", 4)


def test_the_best_family_on_dev_is_taken():
  made = setting()
  found = macnet.macnet(made)
  assert found.notes["tried"][0] in ("chain", "star", "tree")
  assert sorted(found.notes["tried"]) == sorted(macnet.FAMILIES)
  assert found.dev == made.curve[-1][1] == dev_of(made, found.answerer)


def test_families_are_tried_while_there_are_calls():
  made = setting(calls=100)
  found = macnet.macnet(made)
  assert 0 < len(found.notes["tried"]) < len(macnet.FAMILIES)
  assert made.spent <= 100
  none = macnet.macnet(setting(calls=3))
  assert none.dev != none.dev and none.notes["tried"] == []
