"""Configurations: complete, checked, and none of their fields is dead."""

import dataclasses
import importlib
import pathlib
from types import SimpleNamespace

from ml_collections import ConfigDict
import pytest

import jswarm
from jswarm.run import loop, workdir
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config
from tests import fakes, folders
from tests.fake_run import SMALL, plan

CONFIGS = sorted(
  p.stem
  for p in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py")
  if p.stem not in ("common", "__init__") and not p.stem.endswith("_pool")
)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_its_settings(name):
  config = importlib.import_module(f"configs.{name}").get_config()
  resolved = config_lib.resolve(config)
  assert resolved.swarm.graphs == config.search.graphs
  assert resolved.wording.question == config.messages.question
  assert resolved.engine.rows == config.engine.rows
  assert resolved.task.name == config.task.name


def test_every_field_reaches_the_plan(monkeypatch):
  """A field that nobody reads is a dead flag."""
  read = set()
  original = ConfigDict.__getattr__
  monkeypatch.setattr(
    ConfigDict, "__getattr__", lambda self, k: (read.add(k), original(self, k))[1]
  )
  experts, _ = fakes.numeric()
  config = config_lib.override(
    get_config(),
    {
      "task.utility": "tests.fakes:mean_of_numbers",
      "task.records": "tests.fakes:splits",
      "task.dev_size": 5,
      "task.test_size": 6,
      "engine.compile_cache": False,
    },
  )
  search.plan(config, experts=experts)
  sections = {"messages", "graph", "search", "role", "weight", "budget", "generation"}
  fields = {
    f.split(".")[-1]
    for f in config_lib.flatten(config)
    if f.split(".")[0] not in sections and "." in f
  }
  given_experts = {"base", "experts", "dtype", "allow_pickle"}  # read by search.pool
  only_judged = {"judge"}
  launcher = {"progress", "compile_cache"}
  dead = (
    fields
    - read
    - given_experts
    - only_judged
    - launcher
    - {
      "rows",
      "pack_tokens",
      "max_prompt_tokens",
      "form",
      "speculate",
      "int8",
      "memo",
      "devices",
      "tensor",
    }
  )  # passed on as a whole section
  assert not dead


def test_every_part_of_a_resolved_configuration_is_used(monkeypatch, tmp_path):
  """Neither is a setting that is resolved and then forgotten."""
  read = set()
  for kind in (config_lib.Resolved, config_lib.TaskSettings, config_lib.PoolSettings):
    original = kind.__getattribute__
    monkeypatch.setattr(
      kind,
      "__getattribute__",
      lambda self, k, f=original: (read.add((type(self), k)), f(self, k))[1],
    )
  base = folders.write_base(tmp_path / "base")
  config = config_lib.override(
    get_config(),
    {
      **folders.SMALL,
      "task.name": "ltp",
      "task.judge": "skill1",
      "task.records": "tests.fakes:splits",
      "task.dev_size": 2,
      "task.test_size": 2,
      "pool.base": base,
      "pool.experts": tuple(folders.write_adapters(tmp_path, base, 2)),
      "engine.devices": 1,
      "engine.rows": 8,
    },
  )
  made = search.plan(config)
  judged = []
  memo = SimpleNamespace(as_loaded=judged.append)
  made.judge(memo)
  assert judged == [1]
  server = {"task.judge": "http://localhost/v1", "task.judge_model": "m"}
  search.judge(config_lib.resolve(config_lib.override(config, server)), made.task)
  for kind in (config_lib.Resolved, config_lib.TaskSettings, config_lib.PoolSettings):
    fields = {field.name for field in dataclasses.fields(kind)}
    assert not fields - {k for owner, k in read if owner is kind}, kind


def test_a_resolved_configuration_is_fixed_and_flat_as_it_was_written():
  resolved = config_lib.resolve_default({"search.graphs": 6, "task.dev_size": 3})
  with pytest.raises(dataclasses.FrozenInstanceError):
    resolved.seed = 1
  assert (resolved.flat["search.graphs"], resolved.flat["task.dev_size"]) == (6, 3)
  assert resolved.flat["graph.top_p"] == 0.8  # decided, not open
  assert set(resolved.flat) == set(config_lib.flatten(get_config()))


def test_the_mode_decides_what_is_left_open():
  config = get_config()
  assert config_lib.resolve(config).swarm.graph.top_p == 0.8
  assert config_lib.resolve(config).swarm.role.step_decay == 0.95
  config.search.mode = "as_published"
  config.task.name = "gsm8k"
  resolved = config_lib.resolve(config)
  assert resolved.swarm.graph.top_p == 0.0 and resolved.swarm.graph.as_published
  assert resolved.swarm.role.step_decay == 1.0
  assert resolved.task.wishes.parser == "as_published"
  config.graph.top_p = 0.5
  assert config_lib.resolve(config).swarm.graph.top_p == 0.5
  assert config.role.step_decay is None  # the argument is not changed


def test_an_unknown_field_names_its_neighbours():
  with pytest.raises(ValueError, match="search.graph.*did you mean search.graphs"):
    config_lib.override(get_config(), {"search.graph": 3})


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"search.mode": "best"}, "search.mode='best'"),
    ({"graph.edge_mode": "many"}, "graph.edge_mode='many'"),
    ({"role.velocity": "fast"}, "velocity"),
    ({"pool.space": "sparse"}, "weights.space|pool.space"),
    ({"messages.chunks_by": "id"}, "messages.chunks_by='id'"),
    ({"task.kind": "quiz"}, "unknown kind 'quiz'"),
    ({"generation.temperature": -1.0}, "temperature"),
  ],
)
def test_a_bad_value_is_named_before_anything_is_loaded(changes, message, unloaded):
  utility = None if "task.kind" in changes else fakes.mean_of_numbers
  config = config_lib.override(get_config(), {**SMALL, **changes})
  with pytest.raises(ValueError, match=message):
    search.plan(config, records=fakes.records(), utility=utility)


@pytest.fixture
def unloaded(monkeypatch):
  """Nothing is loaded in this test."""
  monkeypatch.setattr(
    search.load, "load_pool", lambda *_, **__: pytest.fail("a pool was loaded")
  )


def test_a_workdir_of_another_configuration_is_refused_before_anything_is_loaded(
  tmp_path, unloaded
):
  made = plan()
  workdir.claim(tmp_path, {**made.config, "pool.versions": ["a", "b"]})
  config = config_lib.override(get_config(), {**SMALL, "search.graphs": 7})
  with pytest.raises(ValueError, match="search.graphs: 3 there, 7 now"):
    search.plan(
      config,
      records=fakes.records(),
      utility=fakes.mean_of_numbers,
      workdir=str(tmp_path),
    )


def test_a_start_that_fails_leaves_the_workdir_free(tmp_path):
  experts, _ = fakes.numeric()
  cramped = experts._replace(room=lambda e, limit: 1)
  with pytest.raises(ValueError, match="tokens"):
    loop.run(plan(experts=cramped), str(tmp_path))
  assert not (tmp_path / "config.json").exists()


def test_a_misspelt_field_in_a_config_file_is_an_error():
  with pytest.raises(AttributeError, match="utilty.*utility"):
    get_config().task.utilty = "my.module:score"


def test_a_judge_that_is_not_there_lists_the_experts_before_the_pool_is_loaded(
  tmp_path, monkeypatch
):
  base = folders.write_base(tmp_path / "base")
  config = config_lib.override(
    get_config(),
    {
      "task.name": "ltp",
      "task.judge": "nobody",
      "pool.base": base,
      "pool.experts": tuple(folders.write_adapters(tmp_path, base, 2)),
    },
  )
  monkeypatch.setattr(search, "pool", lambda _: pytest.fail("the pool was loaded"))
  with pytest.raises(ValueError, match="task.judge='nobody'.*skill0, skill1.*folder"):
    search.plan(config, records=fakes.records())


def test_the_pool_that_ships_is_small():
  shipped = pathlib.Path(jswarm.__file__).parent / "data" / "tiny_pool"
  sizes = [path.stat().st_size for path in shipped.rglob("*") if path.is_file()]
  assert len(sizes) > 10 and sum(sizes) < 6_000_000


def test_a_judged_task_without_a_judge_lists_the_experts():
  config = config_lib.override(get_config(), {"task.name": "ltp"})
  with pytest.raises(ValueError, match="set task.judge.*expert0, expert1"):
    search.plan(config, records=fakes.records(), experts=fakes.numeric()[0])


def test_an_unknown_pool_after_the_colon_lists_the_known_ones():
  nlgraph = importlib.import_module("configs.nlgraph")
  with pytest.raises(ValueError, match="unknown pool 'nope'.*gemma_7b"):
    nlgraph.get_config("nope")


@pytest.mark.parametrize(
  "mode, edges, velocity, result, weights, kept",
  [
    ("fixed", "single", "random", "best", "best", True),
    ("paper", "independent", "zero", "last", "current", False),
    ("as_published", "single", "random", "best", "current", True),
  ],
)
def test_a_mode_decides_what_is_left_open(mode, edges, velocity, result, weights, kept):
  swarm = config_lib.resolve_default({"search.mode": mode}).swarm
  assert swarm.graph.edge_mode == edges
  assert swarm.role.velocity == swarm.weight.velocity == velocity
  assert swarm.result == result and swarm.role_weights == weights
  assert swarm.keep_assignments is kept
  assert swarm.role.restart is (mode != "paper")
  assert (swarm.role.step_decay == 1) is (mode != "fixed")
  # What is said is done, whatever the mode.
  said = {"search.mode": mode, "graph.edge_mode": "multi", "role.method": "evolution"}
  swarm = config_lib.resolve_default(said).swarm
  assert swarm.graph.edge_mode == "multi" and swarm.role.method == "evolution"
