"""The suite of the worlds: complete rows, graphs as a search draws them, mixes."""

import dataclasses

import numpy as np
import pytest

from jswarm.benchmarks import worlds
from jswarm.benchmarks.harness import Options
from jswarm.benchmarks.suites import SUITES

OPTIONS = Options(small=True)


@pytest.mark.slow
def test_random_graphs_are_the_same_again_and_hold_each_expert_once():
  one, two = (worlds.drawn(10, 6, 3) for _ in range(2))
  assert len(one) == 6
  for a, b in zip(one, two):
    assert (a.edges == b.edges).all() and a.end == b.end
    assert a.assignment == tuple(range(10))
  assert len({job.edges.tobytes() for job in one}) > 4


def test_an_expert_is_mixed_with_the_mean_of_its_partners():
  leaf = np.eye(4, dtype=np.float32)
  mixed = worlds._with_partners(worlds.jnp.array(leaf), ((0, 1), (1, 2)))
  expected = [[0.5, 0.5, 0, 0], [0.25, 0.5, 0.25, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]]
  np.testing.assert_allclose(mixed, expected)


@pytest.mark.parametrize("name", worlds.WORLDS)
def test_a_world_names_ten_experts_and_a_graph_of_them(name):
  world = worlds.WORLDS[name]
  assert len(world.FIELDS["pool.experts"]) == len(world.NAMES) == 10
  assert list(world.NAMES) == sorted(world.NAMES)
  assert worlds.dag_lib.from_edges(worlds.hand_made(name, 10))
  for one, two in world.PARTNERS:
    assert 0 <= one < two < 10


def test_an_unknown_world_lists_the_known():
  with pytest.raises(ValueError, match="--world='delay'.*relay"):
    SUITES["worlds"](dataclasses.replace(OPTIONS, worlds=("delay",)))


@pytest.mark.slow
@pytest.mark.parametrize("name", worlds.WORLDS)
def test_a_world_is_measured_whole(name):
  records = SUITES["worlds"](dataclasses.replace(OPTIONS, worlds=(name,)))
  rows = {record.ours: record.extra for record in records}
  assert {record.case for record in records} == {name}
  assert len(rows) == len(records) == 15
  # Where weights matter, a good graph of unmixed experts is not enough.
  made = max(rows[name]["utility"] for name in ("hand-made", "hand-made, mixed"))
  assert made > rows["experts alone"]["best"]
  assert rows["experts alone"]["mean"] > rows["base"]["utility"]
  assert rows["random graphs"]["count"] == 4
