"""A pool goes on without experts that are refused, if it is told to, and says so."""

import json
import pathlib
import shutil

import pytest

from jswarm.pool import sound as sound_lib
from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, skipping, validate
from jswarm.wiring.defaults import get_config
from tests import folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pool")
  base = folders.write_base(folder / "base")
  folders.write_adapters(folder, base, 3)
  return folder


@pytest.fixture
def files(whole, tmp_path):
  """(folder, base, adapters), a copy that may be spoiled."""
  folder = tmp_path / "pool"
  shutil.copytree(whole, folder)
  return folder, str(folder / "base"), [str(folder / f"skill{e}") for e in range(3)]


def _truncate(adapter):
  path = pathlib.Path(adapter) / "adapter_model.safetensors"
  path.write_bytes(path.read_bytes()[:200])


def _unconfigured(adapter):
  (pathlib.Path(adapter) / "adapter_config.json").unlink()


def _of_another_kind(adapter):
  path = pathlib.Path(adapter) / "adapter_config.json"
  path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": True}))


def _gone(adapter):
  shutil.rmtree(adapter)


def _config(base, adapters, **fields):
  changes = {
    **folders.SMALL,
    "task.kind": "custom",
    "pool.base": base,
    "pool.experts": tuple(adapters),
    "pool.skip_bad": True,
  }
  return config_lib.override(get_config(), {**changes, **fields})


def test_a_pool_in_which_all_is_right_is_left_as_it_was_written(files):
  _, base, adapters = files
  found = sound_lib.sound(adapters, base)
  assert found.experts == tuple(adapters) and found.skipped == {}
  assert list(found.checked.adapters) == ["skill0", "skill1", "skill2"]


@pytest.mark.parametrize("spoil", [_truncate, _unconfigured, _of_another_kind, _gone])
def test_an_expert_that_is_refused_is_left_out_with_its_reason(files, spoil):
  _, base, adapters = files
  spoil(adapters[1])
  found = sound_lib.sound(adapters, base)
  assert found.experts == (adapters[0], adapters[2])
  ((name, why),) = found.skipped.items()
  assert "skill1" in name and "skill1" in why
  assert list(found.checked.adapters) == ["skill0", "skill2"]


def test_experts_of_a_base_that_is_refused_go_all(files):
  folder, base, adapters = files
  shutil.copytree(base, folder / "other")
  (folder / "other" / "config.json").write_text("{")
  found = sound_lib.sound([*adapters, f"{folder / 'other'}+{adapters[0]}"][1:], base)
  assert found.experts == tuple(adapters[1:])
  assert list(found.skipped) == ["skill0"] and "other" in found.skipped["skill0"]


def test_where_none_is_left_every_reason_is_told(files):
  _, base, adapters = files
  for spoil, adapter in zip((_truncate, _of_another_kind, _gone), adapters):
    spoil(adapter)
  with pytest.raises(ValueError, match="(?s)no expert.*skill0.*skill1.*skill2"):
    sound_lib.sound(adapters, base)


def test_what_no_expert_alone_is_to_blame_for_is_an_error_as_ever(files):
  _, base, adapters = files
  with pytest.raises(ValueError, match="2 experts named 'skill0'"):
    sound_lib.sound([adapters[0], adapters[0]], base)
  for wrong in ((), adapters[0]):
    with pytest.raises(ValueError, match="pool.experts"):
      sound_lib.sound(wrong, base)


def test_without_the_field_nothing_is_skipped(files):
  _, base, adapters = files
  _truncate(adapters[1])
  config = _config(base, adapters, **{"pool.skip_bad": False})
  assert skipping.settle(config) == (config, {}, None)
  with pytest.raises(ValueError, match="skill1"):
    search.plan(config, records=folders.records(), utility=folders.said_something_new)


def test_validation_names_who_would_be_left_out(files, tmp_path):
  _, base, adapters = files
  _truncate(adapters[1])
  data = tmp_path / "data.json"
  data.write_text(json.dumps(folders.records()))
  fields = {"task.kind": "exact_match", "task.name": "mine", "task.path": str(data)}
  report = validate.check(_config(base, adapters, **fields))
  assert report.problems == []
  assert "2 experts, skill0, skill2" in "\n".join(report.summary)
  assert report.summary[-1].startswith("without skill1: ")
  fields["pool.skip_bad"] = False
  (problem,) = validate.check(_config(base, adapters, **fields)).problems
  assert problem in report.summary[-1]


@pytest.mark.slow
def test_a_run_records_whom_it_left_out_and_refuses_another_outcome(files, tmp_path):
  _, base, adapters = files
  kept = (pathlib.Path(adapters[1]) / "adapter_model.safetensors").read_bytes()
  _truncate(adapters[1])
  workdir = str(tmp_path / "run")
  plan = lambda: search.plan(
    _config(base, adapters),
    records=folders.records(),
    utility=folders.said_something_new,
    workdir=workdir,
  )
  loop.run(plan(), workdir)
  results = json.loads((tmp_path / "run" / "results.json").read_text())
  assert list(results["singles_dev"]) == ["skill0", "skill2"]
  ((name, why),) = results["skipped_experts"].items()
  assert name == "skill1" and "adapter_model.safetensors" in why
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["pool.skipped"] == ["skill1"]
  plan()  # the same outcome goes on
  (pathlib.Path(adapters[1]) / "adapter_model.safetensors").write_bytes(kept)
  with pytest.raises(ValueError, match=r"(?s)pool.experts.*pool.skipped: \['skill1'\]"):
    plan()
