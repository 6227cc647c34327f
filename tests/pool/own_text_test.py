"""Adapters that bring text of their own: what differs from the base is said by name."""

import json
import shutil

import pytest

import jswarm
from tests import folders

BASE = "{{ messages[0]['content'] }}"
OTHER = "Q: {{ messages[0]['content'] }} A:"
SAME = "{%- for m in messages -%}{{ m['content'] }}{%- endfor -%}"


@pytest.fixture(scope="module", name="disk")
def _disk(tmp_path_factory):
  root = tmp_path_factory.mktemp("own")
  base = folders.write_base(root / "base")
  return base, folders.write_adapters(root, base, num=1)[0]


def _set(folder, **fields):
  path = folder / "tokenizer_config.json"
  value = json.loads(path.read_text()) if path.exists() else {}
  path.write_text(json.dumps(value | fields))


def _edit(folder, change):
  value = json.loads((folder / "tokenizer.json").read_text())
  change(value)
  (folder / "tokenizer.json").write_text(json.dumps(value))


def _pair(disk, tmp_path, base_template=None):
  """A base, and an adapter on it with a copy of the base's tokenizer."""
  base = shutil.copytree(disk[0], tmp_path / "base")
  adapter = shutil.copytree(disk[1], tmp_path / "lora")
  for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(base / name, adapter / name)
  if base_template:
    _set(base, chat_template=base_template)
  return base, adapter


def _warnings(base, adapter, caplog):
  caplog.clear()
  jswarm.load_pool([str(adapter)], base=str(base))
  return [m for m in caplog.messages if "brings" in m and str(adapter) in m]


def _jinja(folder, text):
  (folder / "chat_template.jinja").write_text(text)


def _named(folder, text):
  _set(folder, chat_template=[{"name": "default", "template": text}])


FORMS = {
  "a file": _jinja,
  "a field": lambda f, text: _set(f, chat_template=text),
  "a list of names": _named,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base_template", [None, BASE])
def test_a_template_other_than_the_bases_is_warned_of(
  base_template, form, disk, tmp_path, caplog
):
  base, adapter = _pair(disk, tmp_path, base_template)
  FORMS[form](adapter, OTHER)
  (said,) = _warnings(base, adapter, caplog)
  assert "a chat template other than that of its base" in said and str(base) in said


def test_a_template_that_writes_the_same_is_the_same(disk, tmp_path, caplog):
  base, adapter = _pair(disk, tmp_path, BASE)
  for text in (BASE, SAME):
    _jinja(adapter, text)
    assert not _warnings(base, adapter, caplog)


def test_a_copy_of_the_bases_tokenizer_is_silent(disk, tmp_path, caplog):
  base, adapter = _pair(disk, tmp_path)
  assert not _warnings(base, adapter, caplog)
  batches = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst",
             "stride": 0}  # fmt: skip
  _edit(adapter, lambda v: v.update(truncation=batches))
  assert not _warnings(base, adapter, caplog)


def test_a_tokenizer_that_cuts_otherwise_is_warned_of(disk, tmp_path, caplog):
  base, adapter = _pair(disk, tmp_path)
  _edit(adapter, lambda v: v.update(normalizer={"type": "Lowercase"}))
  (said,) = _warnings(base, adapter, caplog)
  assert "a tokenizer other than" in said


def test_an_end_of_a_reply_that_the_base_does_not_have_is_warned_of(
  disk, tmp_path, caplog
):
  base, adapter = _pair(disk, tmp_path)
  (adapter / "generation_config.json").write_text('{"eos_token_id": [1, 7]}')
  (said,) = _warnings(base, adapter, caplog)
  assert "an end of a reply (tokens [" in said and "7" in said


@pytest.mark.parametrize(
  "damage, found",
  [
    (lambda f: _jinja(f, "{% for m in messages %}"), "its chat template is no Jinja"),
    (lambda f: (f / "chat_template.jinja").write_bytes(b"\xff"), "no text in UTF-8"),
    (lambda f: (f / "tokenizer_config.json").write_text("{"), "no JSON"),
    (lambda f: (f / "tokenizer.json").write_text("{"), "no readable tokenizer"),
    (lambda f: (f / "generation_config.json").write_text("["), "no JSON"),
    (lambda f: _set(f, chat_template=[{"name": "rag", "template": "x"}]), "default"),
    (lambda f: _set(f, chat_template=7), "chat_template is 7; allowed"),
    (lambda f: _set(f, chat_template=["x"]), "chat_template is .*allowed"),
  ],
)
def test_a_damaged_file_of_an_adapter_is_a_sentence_with_its_path(
  damage, found, disk, tmp_path
):
  base, adapter = _pair(disk, tmp_path, BASE)
  damage(adapter)
  with pytest.raises(ValueError, match=f"{adapter}.*{found}"):
    jswarm.load_pool([str(adapter)], base=str(base))
