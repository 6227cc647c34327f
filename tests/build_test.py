"""Configurations: complete, checked, and none of their fields is dead."""

import importlib
import pathlib

from ml_collections import ConfigDict
import pytest

from jswarm import build
from jswarm.default_config import get_config
from tests import fakes
from tests.fake_run import plan

CONFIGS = sorted(
    p.stem for p in (pathlib.Path(__file__).parent.parent / "configs").glob("*.py")
    if p.stem not in ("common", "__init__", "tiny_pool", "smollm2_pool"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_its_settings(name):
  config = build.resolve(importlib.import_module(f"configs.{name}").get_config())
  build.swarm_settings(config)
  build.wording(config)
  build.engine_settings(config)



def test_every_field_reaches_the_plan(monkeypatch):
  """A field that nobody reads is a dead flag."""
  read = set()
  original = ConfigDict.__getattr__
  monkeypatch.setattr(ConfigDict, "__getattr__", lambda self, k: (
      read.add(k), original(self, k))[1])
  experts, _ = fakes.numeric()
  config = build.override(get_config(), {
      "task.utility": "tests.fakes:mean_of_numbers", "task.records": "tests.fakes:splits",
      "task.dev_size": 5, "task.test_size": 6, "engine.compile_cache": False})
  build.plan(config, experts=experts)
  sections = {"messages", "graph", "search", "role", "weight", "budget", "generation"}
  fields = {f.split(".")[-1] for f in build.flatten(config)
            if f.split(".")[0] not in sections and "." in f}
  given_experts = {"base", "experts", "dtype", "allow_pickle"}  # read by build.pool
  only_judged = {"judge"}
  launcher = {"progress"}
  dead = fields - read - given_experts - only_judged - launcher - {
      "rows", "pack_tokens", "max_prompt_tokens", "form", "speculate", "int8",
      "memo", "devices", "tensor"}  # passed on as a whole section
  assert not dead


def test_the_mode_decides_what_is_left_open():
  config = get_config()
  assert build.resolve(config).graph.top_p == 0.8
  assert build.resolve(config).role.step_decay == 0.95
  config.search.mode = "as_published"
  config.task.name = "gsm8k"
  resolved = build.resolve(config)
  assert resolved.graph.top_p == 0.0 and resolved.graph.as_published
  assert resolved.role.step_decay == 1.0 and resolved.task.parser == "as_published"
  config.graph.top_p = 0.5
  assert build.resolve(config).graph.top_p == 0.5
  assert config.role.step_decay is None  # the argument is not changed


def test_an_unknown_field_names_its_neighbours():
  with pytest.raises(ValueError, match="search.graph.*did you mean search.graphs"):
    build.override(get_config(), {"search.graph": 3})


@pytest.mark.parametrize("changes, message", [
    ({"search.mode": "best"}, "search.mode='best'"),
    ({"graph.edge_mode": "many"}, "graph.edge_mode='many'"),
    ({"role.velocity": "fast"}, "velocity"),
    ({"pool.space": "sparse"}, "weights.space|pool.space"),
    ({"messages.chunks_by": "id"}, "messages.chunks_by='id'"),
    ({"task.kind": "quiz"}, "unknown kind 'quiz'"),
    ({"generation.temperature": -1.0}, "temperature")])
def test_a_bad_value_is_named_before_anything_is_loaded(changes, message):
  utility = None if "task.kind" in changes else fakes.mean_of_numbers
  with pytest.raises(ValueError, match=message):
    plan(changes, utility=utility)


def test_a_judged_task_without_a_judge_lists_the_experts():
  config = build.override(get_config(), {"task.name": "ltp"})
  with pytest.raises(ValueError, match="set task.judge.*expert0, expert1"):
    build.plan(config, records=fakes.records(), experts=fakes.numeric()[0])


def test_an_unknown_pool_after_the_colon_lists_the_known_ones():
  nlgraph = importlib.import_module("configs.nlgraph")
  with pytest.raises(ValueError, match="unknown pool 'nope'.*gemma_7b"):
    nlgraph.get_config("nope")
