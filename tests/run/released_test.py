"""What earlier versions have written is read for good: see tests/make_released.py."""

import json
import pathlib
import shutil

import jax
import pytest

from jswarm.core.digests import digest
from jswarm.run import loop
from jswarm.run.checkpoint import Checkpoints
from jswarm.swarm.state import template
from jswarm.systems import artifact
from jswarm.wiring import system
from tests import folders, make_released
from tests.fake_run import plan

RELEASED = sorted((pathlib.Path(__file__).parents[1] / "released").iterdir())
LAST = make_released.ITERATIONS


@pytest.fixture(params=RELEASED, ids=lambda path: path.name)
def released(request, tmp_path):
  """(a copy of what was written, what is expected of it)."""
  shutil.copytree(request.param, tmp_path / "run")
  return tmp_path / "run", json.loads((request.param / "expected.json").read_text())


def test_a_checkpoint_of_an_earlier_version_is_restored_to_the_bit(released):
  folder, expected = released
  made = plan()
  shapes = template(made.experts, made.settings)
  step, state, host = Checkpoints(folder / "checkpoints").restore(shapes)
  assert step == LAST
  assert [row["best"] for row in host["history"]] == expected["best"]
  assert digest(jax.tree.leaves(state)) == expected["state"]


def test_a_search_goes_on_where_an_earlier_version_left_it(released):
  folder, expected = released
  result = loop.run(plan({"search.iterations": LAST + 1}), str(folder))
  assert result.results["iterations"] == LAST + 1
  rows = result.results["history"]
  assert [row["best"] for row in rows[: LAST + 1]] == expected["best"]


def test_a_system_of_an_earlier_version_is_read(released):
  folder, _ = released
  description, job = artifact.read(folder / "best")
  assert job.edges.sum() == 3 and list(description["experts"]) == [
    "skill0",
    "skill1",
    "skill2",
  ]


@pytest.mark.slow
def test_a_system_of_an_earlier_version_says_what_it_said(released, tmp_path):
  folder, expected = released
  base = folders.write_base(tmp_path / "base")
  found = system.load_system(folder / "best", base=base)
  assert found.generate(make_released.PROMPTS) == expected["replies"]
