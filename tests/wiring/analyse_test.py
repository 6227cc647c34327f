"""Analyses from a configuration to files, on a pool of numbers."""

import json

import numpy as np
import pytest

from jswarm.analysis import analyses, roles, weak
from jswarm.run import loop
from jswarm.wiring import analyse, gather, lab, measure, methods, once, search
from jswarm.wiring import config as config_lib
from jswarm.wiring.defaults import get_config
from tests import fake_run, fakes

POOL = tuple({"name": f"expert{i}", "base": f"some/model{i}"} for i in range(4))
FIELDS = {
  **fake_run.SMALL,
  "pool.experts": POOL,
  "search.graphs": 2,
  "search.assignments": 3,
  "search.iterations": 2,
  "task.records": "tests.fakes:splits",
  "task.utility": "tests.fakes:mean_of_numbers",
  "task.dev_size": 3,
  "task.test_size": 4,
}


def _experts(config):
  """Of as many numbers as the pool has experts, called as they are."""
  names = [spec.name for spec in search.chosen(config_lib.resolve(config))]
  return fakes.numeric(num=len(names))[0]._replace(names=tuple(names))


@pytest.fixture(scope="module")
def numbers():
  """A pool of numbers wherever one is loaded; {"plans": how often that was}."""
  plan, loaded = search.plan, {"plans": 0}

  def made(config, **fields):
    loaded["plans"] += 1
    return plan(config, **{**fields, "experts": _experts(config)})

  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(search, "plan", made)
    patched.setattr(
      methods, "bench", lambda config, trained=None: methods.Bench(made(config))
    )
    yield loaded


@pytest.fixture(scope="module")
def config():
  return config_lib.override(get_config(), FIELDS)


@pytest.fixture(scope="module")
def place(numbers, config, tmp_path_factory):
  """A lab with one finished search."""
  made = lab.Lab(config, tmp_path_factory.mktemp("lab"), 1)
  made.run("fixed", {}, 0)
  return made


def test_a_finished_search_is_read_and_no_model_is_loaded_for_it(place, numbers):
  before = numbers["plans"]
  row = place.row("fixed", {}, 0, distinct=4)
  assert numbers["plans"] == before
  assert row["variant"] == "fixed" and row["distinct"] == 4 and row["test"] > 0
  assert place.questions == 4


def test_a_finished_search_of_another_kind_in_its_folder_is_a_row_that_says_so(place):
  here = lab.Lab(place.config, place.folder, 1)
  row = here.row("fixed", {"search.graphs": 3}, 0)
  assert "search.graphs" in row["failed"] and "fixed, seed 0" in here.failed[0]


def test_a_search_that_fails_stops_no_other(place):
  here = lab.Lab(place.config, place.folder, 1)
  variants = [("bad", {"search.graphs": 0}, {"x": 1}), ("fixed", {}, {"x": 2})]
  bad, good = here.rows(variants)
  assert bad["x"] == 1 and bad["failed"].startswith("ValueError: search.graphs=0")
  assert good["test"] is not None and len(here.failed) == 1


def test_histories_need_no_more_than_the_finished_run(place, numbers):
  before = numbers["plans"]
  for name in ("moves", "jfk_noise"):
    told = analyse.one(name, place)
    assert told["failed"] == [] and told["questions"] == 4
    assert json.loads((place.folder / f"{name}.json").read_text()) == told
    assert (place.folder / f"{name}.svg").exists()
  assert numbers["plans"] == before
  assert "weight-steps" in told["findings"]


def test_what_was_not_recorded_is_measured_once(place, numbers):
  before = json.loads((place.workdir("fixed", 0) / "results.json").read_text())
  alone = place.measured("fixed", {}, 0, "alone")
  assert np.shape(alone["single"]) == (4, 4) and alone["guess"] == [0.0] * 4
  assert alone["low"] is None  # a utility of one's own has no bounds
  # The expert that is best on dev was tested by the search itself.
  best = [f"expert{i}" for i in range(4)].index(before["best_single"])
  assert np.mean(alone["single"][best]) == before["test"]["best_single"]["score"]
  loads = numbers["plans"]
  assert place.measured("fixed", {}, 0, "alone") == alone
  assert numbers["plans"] == loads
  after = json.loads((place.workdir("fixed", 0) / "results.json").read_text())
  assert {**after, "timing": 0} == {**before, "timing": 0}


def test_emergence_has_experts_before_after_and_astray(place):
  told = analyse.one("emergence", place)
  moved = place.measured("fixed", {}, 0, "moved")
  assert np.shape(moved["final"]) == (4, 4)
  assert np.shape(moved["perturbed"]) == (measure.PERTURBED, 4, 4)
  assert told["failed"] == [] and np.shape(told["numbers"]["heat"]) == (3, 3)


def test_an_expert_astray_is_as_far_from_its_start_as_the_one_that_moved():
  tree = lambda seed: {
    "w": np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32),
    "b": np.random.default_rng(seed + 9).normal(size=(3, 2, 2)).astype(np.float32),
  }
  start, end = tree(0), tree(1)
  end = {name: end[name].copy() for name in end}
  for name in end:
    end[name][1] = start[name][1]  # this one did not move
  far = lambda a: np.sqrt(
    sum(((a[n] - start[n]) ** 2).reshape(3, -1).sum(axis=1) for n in start)
  )
  moved = measure.astray(__import__("jax").random.key(0), start, end)
  np.testing.assert_allclose(far(moved), far(end), rtol=1e-5)
  assert not np.allclose(moved["w"][0], end["w"][0])


def test_roles_are_labelled_by_proxies_where_nobody_judges(place, monkeypatch):
  nodes = place.measured("fixed", {}, 0, "nodes")["outputs"]
  end = [o for o in nodes if o["place"] == "end"]
  assert len(end) == 4 and {o["depth"] for o in nodes} <= {0.0, 0.5, 1.0, 1 / 3, 2 / 3}
  found = gather._stage(place, "fixed", {}, 0)
  assert found["unread"] == 0
  assert {o["label"] for o in found["outputs"]} <= set(roles.LABELS)


def judge_of_roles(prompts):
  assert all(prompt.startswith("A problem") for prompt in prompts)
  return ["refine", "no idea"] * (len(prompts) // 2) + ["feedback"] * (len(prompts) % 2)


def test_a_judge_of_roles_is_a_function_or_an_expert(place):
  by = lambda judge: lab.Lab(place.config, place.folder, 1, judge=judge)
  found = gather._stage(by("tests.wiring.analyse_test:judge_of_roles"), "fixed", {}, 0)
  labels = [o["label"] for o in found["outputs"]]
  assert labels[0] == "refine" and found["unread"] == len(labels) // 2
  # A pool of numbers names no label.
  found = gather._stage(by("expert2"), "fixed", {}, 0)
  assert found["unread"] == len(found["outputs"])
  with pytest.raises(ValueError, match="--judge='nobody': allowed are an expert"):
    gather._stage(by("nobody"), "fixed", {}, 0)


def test_pools_of_copies_are_called_apart_and_hold_the_same_expert(config):
  every = lab.members(config)
  assert every == [dict(e) for e in POOL]
  (entries,) = lab.pool_of(every, [1, 1, 3]).values()
  assert [e["name"] for e in entries] == ["expert1", "expert1-2", "expert3"]
  assert entries[0]["base"] == entries[1]["base"] == "some/model1"


def test_another_task_brings_its_words_and_leaves_pool_and_search(config):
  other = config_lib.override(
    get_config(), {"task.name": "there", "messages.first": "Say:", "search.graphs": 9}
  )
  moved = lab.on_task(config, other)
  assert moved.task.name == "there" and moved.messages.first == "Say:"
  assert moved.search.graphs == 2 and moved.pool.experts == config.pool.experts


def test_every_analysis_has_something_to_run_and_something_to_say():
  assert list(gather.GATHER) == list(analyses.ANALYSES)
  assert set(analyse.NEED_OTHER) <= set(gather.GATHER)
  assert analyse.names("all") == list(gather.GATHER)
  assert analyse.names("gain, moves") == ["gain", "moves"]
  with pytest.raises(ValueError, match="--analysis='gains': allowed are all, gain"):
    analyse.names("gains")


def test_a_second_configuration_is_asked_for_by_name(place):
  for name in analyse.NEED_OTHER:
    with pytest.raises(ValueError, match=f"--analysis={name} .* --other"):
      analyse.one(name, place)


def test_an_analysis_that_fails_stops_no_other_and_alone_it_says_why(place):
  told = analyse.run("transfer,moves", place)
  assert "--other" in told["transfer"]["failed"][0]
  assert told["moves"]["failed"] == [] and "best system" in told["moves"]["findings"]
  with pytest.raises(ValueError, match="--other"):
    analyse.run("transfer", place)


def test_a_folder_of_another_configuration_is_refused(place):
  other = config_lib.override(place.config, {"search.graphs": 5})
  once.claim(place.folder, place.config, "--workdir", variant="paper")
  with pytest.raises(ValueError, match="search.graphs: there 2, now 5"):
    analyse.run("moves", lab.Lab(other, place.folder, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", gather.GATHER)
def test_every_analysis_runs_from_end_to_end(name, place, monkeypatch):
  monkeypatch.setattr("jswarm.analysis.dropout.RATES", (0.0, 0.5))
  monkeypatch.setattr("jswarm.analysis.sparsity.TAUS", (0.2,))
  monkeypatch.setattr("jswarm.analysis.sparsity.L1S", (0.1,))
  other = config_lib.override(place.config, {"task.test_size": 5, "task.name": "b"})
  here = lab.Lab(place.config, place.folder, 1, other=other)
  told = analyse.one(name, here)
  known = ("self_consistency", "needs", "not applicable")
  assert all(any(word in line for word in known) for line in told["failed"]), told
  assert "othing" not in told["findings"], told["findings"]
  for end in ("json", "svg", "md"):
    assert (place.folder / f"{name}.{end}").exists()
  if name == "gain":
    assert told["numbers"]["identity_error"] < 1e-12
  if name == "weak":
    assert {weak.WITHOUT, weak.LOWER} < set(told["numbers"]["pools"])
  if name == "diversity":
    assert [v["distinct"] for v in told["numbers"]["levels"]] == [1, 2, 4]


@pytest.mark.slow
def test_an_analysis_goes_on_where_it_was_killed(
  config, numbers, tmp_path, monkeypatch
):
  here = lambda: lab.Lab(config, tmp_path, 1)
  run, calls = loop.run, []

  def counted(plan, workdir):
    calls.append(workdir)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return run(plan, workdir)

  monkeypatch.setattr(loop, "run", counted)
  with pytest.raises(KeyboardInterrupt):
    analyse.one("diversity", here())
  again = analyse.one("diversity", here())
  assert len(calls) == 4 and again["failed"] == []  # two are not run again
