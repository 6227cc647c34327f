"""What can be known before a search is known at once, without weights."""

import json
import pathlib
import subprocess
import sys

import pytest

from jswarm.formats import hf_model
from jswarm.pool import load
from jswarm.run import workdir as workdir_lib
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, validate
from jswarm.wiring.defaults import get_config
from tests import folders


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """(folder, base, adapters, changed fields) of a search in which all is right."""
  folder = tmp_path_factory.mktemp("pool")
  base = folders.write_base(folder / "base")
  adapters = folders.write_adapters(folder, base, 3)
  data = folder / "data.json"
  data.write_text(json.dumps(folders.records(), indent=1))
  return (
    folder,
    base,
    adapters,
    {
      **folders.SMALL,
      "task.name": "mine",
      "task.kind": "exact_match",
      "task.path": str(data),
      "pool.base": base,
      "pool.experts": tuple(adapters),
    },
  )


@pytest.fixture(autouse=True)
def unloaded(monkeypatch):
  """No weights are read in any of these tests."""
  for name in ("load_base", "leaf_reader"):
    monkeypatch.setattr(hf_model, name, lambda *_, **__: pytest.fail("weights"))
  monkeypatch.setattr(load, "load_pool", lambda *_, **__: pytest.fail("a pool"))


def _check(changes, workdir=None):
  return validate.check(config_lib.override(get_config(), changes), workdir)


def test_a_search_that_is_right_has_a_short_summary(files, tmp_path):
  report = _check(files[-1], str(tmp_path / "run"))
  assert report.problems == []
  told = "\n".join(report.summary)
  for words in ("4 dev and 5 test", "skill0, skill1, skill2", "memory: about", "MiB"):
    assert words in told
  assert not (tmp_path / "run").exists(), "nothing is written"


def _spoil(files, folder):
  """Faults of every kind in one search: {fault: words of its message}."""
  _, base, adapters, right = files
  records = folders.records()
  records["dev"][1] = {"answer": "1"}
  records["test"][2] = {"question": "What?"}
  records["test"][3] = {**records["dev"][0], "id": "again"}
  (folder / "data.json").write_text(json.dumps(records, indent=1))
  cut = folder / "cut"
  cut.mkdir()
  for name, end in (("adapter_config.json", None), ("adapter_model.safetensors", -50)):
    whole = pathlib.Path(adapters[0], name).read_bytes()
    (cut / name).write_bytes(whole[:end])
  dora = folder / "dora"
  dora.mkdir()
  fields = json.loads(pathlib.Path(adapters[1], "adapter_config.json").read_text())
  (dora / "adapter_config.json").write_text(json.dumps({**fields, "use_dora": True}))
  (folder / "file").write_text("in the way")
  changes = {
    **right,
    "task.path": str(folder / "data.json"),
    "pool.experts": (*adapters[:2], str(cut), str(dora), str(folder / "nowhere")),
    "search.mode": "best",
    "search.graphs": 0,
    "engine.form": "sideways",
    "engine.devices": 99,
  }
  return changes, str(folder / "file" / "run")


def test_all_faults_of_a_search_are_in_one_list(files, tmp_path):
  changes, workdir = _spoil(files, tmp_path)
  report = _check(changes, workdir)
  told = "\n".join(report.problems)
  for words in (
    "search.mode='best': allowed are fixed",
    "search.graphs=0: at least 1",
    "engine.form='sideways'",
    "engine.devices=99",
    "question is missing",
    "answer is missing",
    "asks the same as",
    "cut/adapter_model.safetensors is truncated",
    "use_dora",
    "nowhere",
    f"{tmp_path / 'file'} is a file",
  ):
    assert words in told, told
  assert not report.summary
  # With the line where a record begins, as an editor counts them.
  lines = (tmp_path / "data.json").read_text().splitlines()
  (place,) = [p for p in report.problems if "question is missing" in p]
  line = int(place.split(":")[1])
  assert lines[line - 1].strip() == "{" and '"answer": "1"' in lines[line]


def test_what_validation_finds_a_search_finds_too(files, tmp_path):
  """One truth: each problem alone is what the search itself raises."""
  changes, _ = _spoil(files, tmp_path)
  right = files[-1]
  faults = ("search.mode", "search.graphs", "engine.form", "task.path")
  for field in faults:
    one = {**right, field: changes[field]}
    found = _check(one).problems
    with pytest.raises(ValueError) as raised:
      search.plan(config_lib.override(get_config(), one))
    assert found and all(problem in str(raised.value) for problem in found)


def test_fields_that_do_not_go_together_are_found(files):
  (found,) = _check(
    {**files[-1], "engine.speculate": True, "generation.temperature": 0.5}
  ).problems
  assert "engine.speculate needs greedy decoding" in found


def test_a_question_beyond_a_context_is_named_by_line(files, tmp_path):
  records = folders.records()
  records["dev"][2]["question"] = "a " * 400
  path = tmp_path / "long.json"
  path.write_text(json.dumps(records, indent=1))
  found = _check({**files[-1], "task.path": str(path)}).problems
  assert len(found) == 3  # one an expert
  assert all("long.json:" in f and "an expert of a longer context" in f for f in found)


def test_a_limit_beyond_the_context_is_answered_with_advice_on_the_limit(files):
  found = _check({**files[-1], "task.limit": 300}).problems
  assert len(found) == 3
  assert all("task.limit=300" in f and "max_prompt_tokens" not in f for f in found)


def test_a_workdir_of_another_search_is_told_by_the_difference(files, tmp_path):
  right = files[-1]
  resolved = config_lib.resolve(config_lib.override(get_config(), right))
  flat = search.defining(resolved, search.task(resolved))
  workdir_lib.claim(tmp_path, {**flat, "pool.versions": ["a"]})
  assert _check(right, str(tmp_path)).problems == []
  (found,) = _check({**right, "search.graphs": 3}, str(tmp_path)).problems
  assert "search.graphs: 2 there, 3 now" in found


def test_a_disk_without_room_for_the_checkpoints_is_told_in_bytes(
  files, tmp_path, monkeypatch
):
  usage = lambda _: type("Usage", (), {"free": 1000})
  monkeypatch.setattr(validate.shutil, "disk_usage", usage)
  (found,) = _check(files[-1], str(tmp_path / "run")).problems
  assert "1000 are free" in found and "checkpoint.keep" in found


def test_unknown_names_come_with_their_neighbours(files):
  right = files[-1]
  told = "\n".join(_check({**right, "task.kind": "exact_matc"}).problems)
  assert "exact_match" in told
  told = "\n".join(
    _check({**right, "task.utility": "tests.folders:said_something"}).problems
  )
  assert "did you mean said_something_new" in told


@pytest.mark.slow
def test_the_command_ends_with_65_and_the_list(files, tmp_path):
  command = [sys.executable, "-m", "experiments.validate"]
  command += ["--config=configs/quickstart.py", "--config.search.mode=best"]
  command += ["--config.task.records=jswarm.tasks.synthetic.words:split"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 65 and done.stdout.startswith("2 problems:")
  assert "did you mean splits" in done.stdout
