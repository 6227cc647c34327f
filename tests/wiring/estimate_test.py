"""What is said of a search before it starts is what it takes."""

import importlib
import json

import pytest

from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import estimate, memory, rehearsal, search
from jswarm.wiring.defaults import get_config
from tests import folders

_FACTOR = 1.5
_QUIET = {
  "log.progress": False,
  "log.tensorboard": False,
  "engine.compile_cache": False,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  """The configuration of a small search on files."""
  folder = tmp_path_factory.mktemp("pool")
  base = folders.write_base(folder / "base")
  data = folder / "data.json"
  data.write_text(json.dumps(folders.records(6, 8)))
  return config_lib.override(
    get_config(),
    {
      **folders.SMALL,
      "search.iterations": 3,
      "task.name": "mine",
      "task.utility": "tests.folders:said_something_new",
      "task.path": str(data),
      "pool.base": base,
      "pool.experts": tuple(folders.write_adapters(folder, base, 3)),
    },
  )


@pytest.fixture(scope="module")
def counted(tiny):
  return estimate.estimate(tiny, timed=False)


def test_calls_are_bounded_by_arithmetic(tiny):
  """(T + 1) (G + A) n D, and what the mode `fixed` measures beside it."""
  resolved = config_lib.resolve(tiny)
  s, n, dev, test = tiny.search, 3, 6, 8
  fresh = s.graphs + s.assignments
  again = s.graphs + 1 + 2 * s.assignments + 1
  bound = n * dev * (1 + fresh + s.iterations * again) + (2 * n + 1) * test
  assert rehearsal.bound(resolved, search.task(resolved), moving=True) == bound
  still = n * dev * (1 + s.graphs + s.iterations * (s.graphs + 1)) + (2 * n + 1) * test
  assert rehearsal.bound(resolved, search.task(resolved), moving=False) == still


@pytest.mark.slow
def test_what_is_counted_is_within_the_bound(counted):
  for found in (counted.expected, counted.most):
    assert found.whole.made <= found.whole.calls <= counted.calls_bound
  assert counted.expected.whole.made <= counted.most.whole.made


@pytest.mark.slow
def test_fewer_examples_stand_for_all_of_them(tiny, monkeypatch):
  """Calls of one example do not depend on others; counts are scaled."""
  resolved = config_lib.resolve(tiny)
  task = search.task(resolved)
  specs = search.chosen(resolved)
  checked = search.load.check_pool(specs)
  say = lambda expert: [f"{expert} a", "b c", "d"]
  count = lambda: rehearsal.rehearse(resolved, task, specs, checked, say, 0)
  every = count()
  monkeypatch.setattr(rehearsal, "_EXAMPLES", 3)
  few = count()
  ratio = few.search.calls / every.search.calls
  assert 1 / _FACTOR < ratio < _FACTOR  # which graphs win is chance
  assert few.test.calls > 0


@pytest.mark.slow
def test_a_rehearsal_is_the_same_every_time(tiny, counted):
  again = estimate.estimate(tiny, timed=False)
  strip = lambda r: r._replace(seconds=0)  # of the clock
  assert strip(again.expected) == strip(counted.expected)


@pytest.mark.slow
def test_it_is_told_in_words_and_in_numbers(counted):
  told = "\n".join(estimate.lines(counted))
  for words in ("calls: at most", "memory: about", "a checkpoint", "NVIDIA H100"):
    assert words in told
  assert "here:" not in told  # nothing was timed
  figures = json.loads(json.dumps(estimate.as_json(counted)))
  assert figures["expected"]["whole"]["made"] == counted.expected.whole.made
  assert figures["memory"]["total"] > 0


def test_a_pool_that_no_device_holds_is_told(tiny):
  resolved = config_lib.resolve(tiny)
  task, specs = search.task(resolved), search.chosen(resolved)
  checked = search.load.check_pool(specs)
  shapes = memory.shapes(resolved, specs, checked)
  counts = rehearsal.Counts(500, 300, 30_000, 2_000)
  found = rehearsal.Rehearsed(counts, counts, counts, 30, 1.0, [], counts)
  small = estimate.Accelerator(1e3, 1e12, 1e12)
  assert estimate._elsewhere(small, task, shapes, found) is None
  slow, fast = (
    estimate._elsewhere(estimate.Accelerator(80e9, read, 1e12), task, shapes, found)
    for read in (1e8, 1e12)
  )
  assert 0 < fast < slow


def _rehearsed(config, monkeypatch, **changes):
  """Counts on all examples, in one run: what a search takes, but for chance."""
  monkeypatch.setattr(rehearsal, "_RUNS", 1)
  resolved = config_lib.resolve(config_lib.override(config, changes))
  task, specs = search.task(resolved), search.chosen(resolved)
  rater = search.rater(resolved, task)
  return rehearsal.rehearse(
    resolved,
    task,
    specs,
    search.load.check_pool(specs),
    lambda expert: [f"{expert} a", "b c", "d"],
    3,
    rater if isinstance(rater, int) else None,
  )


@pytest.mark.slow
def test_random_search_is_counted_on_dev(tiny, monkeypatch):
  """It scores on dev as many graphs as the search did systems, and tests one."""
  plain = _rehearsed(tiny, monkeypatch)
  found = _rehearsed(tiny, monkeypatch, **{"log.baselines": True})
  assert found.search == plain.search
  dev, test, n = 6, 8, 3
  systems = 2 + 3 + 3 * (2 + 1 + 2 * 3 + 1)  # at most, see the bound above
  more = found.test.calls - plain.test.calls
  assert more <= n * systems * dev + 5 * n * test
  monkeypatch.setattr(rehearsal, "_EXAMPLES", 3)  # splits are scaled apart
  few = _rehearsed(tiny, monkeypatch, **{"log.baselines": True})
  assert 1 / _FACTOR < few.test.calls / found.test.calls < _FACTOR


@pytest.mark.slow
def test_verdicts_of_a_server_are_counted_apart_from_the_pool(tiny, monkeypatch):
  # What is said decides who wins, and with it what is asked.
  monkeypatch.setattr(rehearsal, "_rating", lambda verdict: 5.0)
  judged = {
    "task.kind": "judge",
    "task.utility": "",
    "task.judge": "http://localhost:1/v1",
    "task.judge_model": "rater",
  }
  served = _rehearsed(tiny, monkeypatch, **judged)
  verdicts = served.verdicts
  assert 0 < verdicts.made <= verdicts.calls and verdicts.prompt_tokens > 0
  inside = _rehearsed(tiny, monkeypatch, **{**judged, "task.judge": "skill0"})
  assert inside.verdicts.calls == 0
  assert inside.whole.calls == served.whole.calls + verdicts.calls
  assert inside.whole.made == served.whole.made + verdicts.made


def _shipped(name):
  """A config of those that ship, at a size that takes seconds."""
  sizes = {"task.dev_size": 16, "task.test_size": 60, "search.iterations": 3}
  made = importlib.import_module(f"configs.{name}").get_config()
  return config_lib.override(made, {**sizes, **_QUIET})


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["tiny", "skills"])
def test_a_search_takes_what_was_said(pool, tiny, tmp_path):
  """Calls, tokens and bytes; seconds depend on who else is at work."""
  config = tiny if pool == "tiny" else _shipped(pool)
  said = estimate.estimate(config)
  result = loop.run(search.plan(config, workdir=str(tmp_path)), str(tmp_path))
  spent = result.results["spend"]
  for name, value in said.expected.whole._asdict().items():
    assert spent[name] / _FACTOR <= value <= spent[name] * _FACTOR, name
  assert spent["calls"] <= said.calls_bound
  steps = [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
  sizes = [
    sum(f.stat().st_size for f in step.rglob("*") if f.is_file()) for step in steps
  ]
  most = 1 if pool == "tiny" else _FACTOR  # longer replies are less alike
  assert max(sizes) <= said.checkpoint <= most * max(sizes) + (1 << 17)
