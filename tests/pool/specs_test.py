"""What users write and files name: one expert, one base, one folder each."""

import json
import os
import pathlib
import shutil

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

import jswarm
from jswarm.engine import engine
from jswarm.formats import hf_model
from jswarm.pool import load as load_lib
from jswarm.pool import specs as specs_lib
from jswarm.wiring import config as config_lib
from tests import folders

NAMES = (
  "Qwen2.5-0.5B",
  "Qwen2.5-0.5B-Instruct",
  "lora-v1.0",
  "lora-v1.5",
  "checkpoint-100",
  "a.b.c",
  ".hidden",
  "c++",
  "1+1=2",
  "two words",
  "Größe 漢字 😀",
  "e\u0301",
  "it's [one] {two} %s",
)


@pytest.fixture(scope="module", name="disk")
def _disk(tmp_path_factory):
  """A folder with `base` and an adapter of every name; not to be changed."""
  root = tmp_path_factory.mktemp("specs")
  base = folders.write_base(root / "base")
  (adapter,) = folders.write_adapters(root / "made", base, num=1)
  for name in NAMES:
    shutil.copytree(adapter, root / name)
  return root


def _names(experts, base=""):
  return [spec.name for spec in specs_lib.parse_specs(experts, base)]


def test_a_folder_gives_its_whole_name(disk):
  paths = [str(disk / name) for name in NAMES]
  assert _names(paths) == list(NAMES)
  assert _names([f"{path}/" for path in paths]) == list(NAMES)
  assert _names([disk / name for name in NAMES]) == list(NAMES)


@pytest.mark.parametrize(
  "path, name",
  [
    ("models/qwen2.5-coder-0.5b.Q4_K_M.gguf", "qwen2.5-coder-0.5b.Q4_K_M"),
    ("models/Model.GGUF", "Model"),
    ("owner/Qwen2.5-0.5B", "Qwen2.5-0.5B"),
  ],
)
def test_only_gguf_is_an_ending(path, name):
  assert _names([{"base": path}]) == [name]


def test_a_dot_alone_is_the_folder_that_it_stands_for(disk, monkeypatch):
  monkeypatch.chdir(disk / "lora-v1.0")
  assert _names(["."]) == ["lora-v1.0"]


def test_experts_of_every_name_are_saved_and_loaded_again(disk, tmp_path):
  chosen = list(NAMES)
  pool = jswarm.load_pool([str(disk / name) for name in chosen])
  settings_ = config_lib.resolve_default({}).engine
  made = engine.make_experts(pool, settings_)
  entries = made.save(str(tmp_path), made.weights, range(len(chosen)))
  assert list(entries) == chosen
  again = jswarm.load_pool([str(tmp_path / entries[name]["path"]) for name in chosen])
  assert list(again.names) == chosen
  equal = np.testing.assert_array_equal
  jax.tree.map(equal, pool.groups[0].particles, again.groups[0].particles)


@pytest.mark.parametrize(
  "name",
  ["..", ".", "a/b", "../up", "/etc", "a\\b", "a\nb", "\x00", "\ud800", "x" * 256],
)
def test_a_name_that_is_no_folder_of_its_own_is_refused(name, disk):
  with pytest.raises(ValueError, match="expert is named .*another `name`"):
    specs_lib.parse_specs([{"path": str(disk / "c++"), "name": name}])
  with pytest.raises(ValueError, match="expert is named"):
    specs_lib.Spec(name=name, base="base")


@given(st.text(min_size=1, max_size=40))
@settings(deadline=None)
def test_any_other_name_is_one_folder_below_its_parent(name):
  try:
    specs_lib.Spec(name=name, base="base")
  except ValueError:
    assert name in (".", "..") or any(c in "/\\" or ord(c) < 32 for c in name)
    return
  below = pathlib.Path("parent") / name
  assert below.parent == pathlib.Path("parent") and below.name == name
  assert os.path.normpath(below) == str(below)


@pytest.mark.parametrize("base", ["base", "c++ base"])
@pytest.mark.parametrize("adapter", ["c++", "1+1=2", "a.b.c"])
def test_a_plus_inside_a_name_parts_nothing(base, adapter, disk, tmp_path):
  there = shutil.copytree(disk / "base", tmp_path / base)
  (spec,) = specs_lib.parse_specs([f"{there}+{disk / adapter}"])
  assert (spec.base, spec.adapter) == (str(there), str(disk / adapter))


def test_a_plus_between_two_hub_ids_parts_them():
  (spec,) = specs_lib.parse_specs(["owner/base+other/lora"])
  assert (spec.base, spec.adapter) == ("owner/base", "other/lora")


@pytest.mark.parametrize("experts", ["owner/lora", {"path": "owner/lora"}])
def test_one_expert_where_a_list_is_wanted_is_refused(experts):
  with pytest.raises(ValueError, match="a list is wanted.*in brackets"):
    jswarm.load_pool(experts)


def test_a_field_that_is_no_text_is_refused():
  with pytest.raises(ValueError, match="allowed are texts"):
    specs_lib.parse_specs([{"path": "owner/lora", "revision": 7}])


@pytest.mark.parametrize("path", ["../secrets", "/etc", "tiny_pool/../../x"])
def test_a_builtin_path_stays_in_the_package(path):
  with pytest.raises(ValueError, match="leads out of the package"):
    specs_lib.locate(f"builtin:{path}")


def _spellings(disk, tmp_path):
  (tmp_path / "link").symlink_to(disk / "base")
  return {
    "the same": disk / "base",
    "a slash behind it": f"{disk / 'base'}/",
    "two slashes": f"{disk}//base",
    "relative": "base",
    "a dot before it": "./base",
    "up and down": f"{disk}/base/../base",
    "a link": tmp_path / "link",
  }


def test_a_base_under_any_spelling_is_one_base(disk, tmp_path, monkeypatch):
  monkeypatch.chdir(disk)
  for what, base in _spellings(disk, tmp_path).items():
    experts = [
      {"adapter": str(disk / "c++"), "base": str(disk / "base")},
      {"adapter": str(disk / "a.b.c"), "base": str(base)},
      {"base": str(base), "name": "bare"},
    ]
    pool = jswarm.load_pool(experts)
    groups = [(g.kind, g.members) for g in pool.groups]
    assert groups == [("lora", (0, 1, 2))], what


def test_a_base_that_adapters_spell_differently_is_read_once(
  disk, tmp_path, monkeypatch
):
  read, check = [], hf_model.check_base
  monkeypatch.setattr(hf_model, "check_base", lambda *a: (read.append(a), check(*a))[1])
  for name, spelling in (("one", f"{disk}/base"), ("two", f"{disk}/base/")):
    folder = shutil.copytree(disk / "c++", tmp_path / name)
    fields = json.loads((folder / "adapter_config.json").read_text())
    fields["base_model_name_or_path"] = spelling
    (folder / "adapter_config.json").write_text(json.dumps(fields))
  pool = jswarm.load_pool([str(tmp_path / "one"), str(tmp_path / "two")])
  assert [g.members for g in pool.groups] == [(0, 1)] and len(read) == 1


def test_a_copy_of_a_base_is_another_base(disk, tmp_path):
  copy = shutil.copytree(disk / "base", tmp_path / "base")
  experts = [
    {"adapter": str(disk / "c++"), "base": str(disk / "base")},
    {"adapter": str(disk / "a.b.c"), "base": str(copy)},
  ]
  assert [g.members for g in jswarm.load_pool(experts).groups] == [(0,), (1,)]


def test_two_names_of_one_revision_are_one_base(disk, monkeypatch):
  """A branch and the commit that it points to are one snapshot on disk."""
  monkeypatch.setattr(specs_lib, "resolve", lambda path, revision: str(disk / "base"))
  adapter = {"base": "owner/base", "adapter": str(disk / "c++")}
  pool = load_lib.load_pool(
    specs_lib.parse_specs(
      [
        {**adapter, "name": "one"},
        {**adapter, "name": "two", "base_revision": "main"},
        {**adapter, "name": "three", "base_revision": "0" * 40},
      ]
    )
  )
  assert [g.members for g in pool.groups] == [(0, 1, 2)]


def _named(disk, tmp_path, **changes):
  folder = shutil.copytree(disk / "c++", tmp_path / "named")
  fields = json.loads((folder / "adapter_config.json").read_text()) | changes
  (folder / "adapter_config.json").write_text(json.dumps(fields))
  return str(folder)


def test_a_base_is_taken_in_the_revision_that_its_adapter_names(disk, tmp_path):
  changes = dict(base_model_name_or_path="owner/base", revision="v2")
  (spec,) = specs_lib.parse_specs([_named(disk, tmp_path, **changes)])
  assert spec.source == ("owner/base", "v2")
  (spec,) = specs_lib.parse_specs([str(tmp_path / "named")], base="owner/other")
  assert spec.source == ("owner/other", None)


def test_a_base_that_an_adapter_names_by_climbing_is_refused(disk, tmp_path):
  folder = _named(disk, tmp_path, base_model_name_or_path="../../secrets")
  with pytest.raises(ValueError, match="adapter_config.json names.*set pool.base"):
    specs_lib.parse_specs([folder])
  assert specs_lib.parse_specs([folder], base=str(disk / "base"))


def test_a_base_name_that_is_no_text_is_refused_with_its_file(disk, tmp_path):
  folder = _named(disk, tmp_path, base_model_name_or_path=["owner/base"])
  with pytest.raises(ValueError, match="adapter_config.json: base_model_name_or_path"):
    specs_lib.parse_specs([folder])
