"""Any bad file beside the weights is a sentence with its path, before any are read."""

import json
import pathlib
import shutil

import pytest

from jswarm.formats import hf_model
from jswarm.pool import load, specs
from tests import folders

TEXT = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TEXT += ("generation_config.json",)
FILES = [
  *(("base", name) for name in ("config.json", *TEXT)),
  ("base", "special_tokens_map.json"),
  ("base", "added_tokens.json"),
  ("base", "model.safetensors"),
  ("base", "model.safetensors.index.json"),
  *(("lora", name) for name in ("adapter_config.json", *TEXT)),
  ("lora", "adapter_model.safetensors"),
]
DAMAGE = {
  "empty": b"",
  "a brace": b"{",
  "binary": bytes(range(256)),
  "zeros": b"\0" * 64,
  "a list": b"[]",
  "a number": b"7",
  "a text": b'"x"',
  "nothing": b"null",
  "an empty object": b"{}",
  "half characters": b'{"a": "\\ud800", "\\udc00": 1}',
  "deep": b'{"a":' + b"[" * 100_000,
  "not finite": b'{"eos_token_id": NaN}',
  "UTF-16": '{"a": 1}'.encode("utf-16"),
}
VALUES = (None, True, -1, 7, 1.5, 10**30, float("inf"), "", "x", "\ud800", [], ["x"],
          [[]], {}, {"x": 1})  # fmt: skip
# Fields that are read, where the files of the tests do not have them.
MORE = {
  "config.json": ("layer_types", "rope_parameters", "quantization_config",
                  "text_config", "hidden_activation"),
  "tokenizer_config.json": ("chat_template", "added_tokens_decoder", "bos_token",
                            "extra_special_tokens", "additional_special_tokens"),
  "adapter_config.json": ("rank_pattern", "alpha_pattern", "layers_to_transform",
                          "layers_pattern", "exclude_modules", "modules_to_save",
                          "revision", "use_rslora", "init_lora_weights"),
}  # fmt: skip


@pytest.fixture(scope="module", name="disk")
def _disk(tmp_path_factory):
  """{"base", "lora"}: folders with every side file, whole."""
  root = tmp_path_factory.mktemp("sides")
  base = pathlib.Path(folders.write_base(root / "base"))
  lora = pathlib.Path(folders.write_adapters(root, str(base), num=1)[0])
  (base / "chat_template.jinja").write_text("{{ messages[0].content }}")
  (base / "generation_config.json").write_text('{"eos_token_id": 1}')
  (base / "special_tokens_map.json").write_text('{"eos_token": "<eos>"}')
  (base / "added_tokens.json").write_text("{}")
  for name in TEXT:
    shutil.copy(base / name, lora / name)
  return {"base": base, "lora": lora}


def _sharded(base):
  """The base with its weights in a shard that an index names."""
  (base / "model.safetensors").rename(base / "part.safetensors")
  names = {leaf: "part.safetensors" for leaf in _tensors(base / "part.safetensors")}
  path = base / "model.safetensors.index.json"
  path.write_text(json.dumps({"weight_map": names}))


def _tensors(path):
  from jswarm.formats import tensor_files

  return tensor_files.open_safetensors(path)


@pytest.fixture(name="copy")
def _copy(disk, tmp_path, monkeypatch):
  """Copies that may be damaged; reading the weights of the base fails."""
  monkeypatch.setattr(hf_model, "_fill", lambda *_: pytest.fail("weights were read"))
  return {k: shutil.copytree(folder, tmp_path / k) for k, folder in disk.items()}


def _leak(copy, path):
  """What is wrong with how a damaged file is told; "" if nothing."""
  one = [{"adapter": str(copy["lora"])}]
  try:
    load.check_pool(specs.parse_specs(one, str(copy["base"])))
  except (OSError, ValueError) as error:
    said = str(error)
    return "" if str(path.parent) in said and len(said) < 3000 else f"no path: {said}"
  except Exception as error:  # what must not be: the test names it
    return f"{type(error).__name__}: {error}"
  return "silence"


@pytest.mark.parametrize("where, name", FILES)
def test_a_damaged_file_is_a_sentence_with_its_path(where, name, copy):
  if name.endswith("index.json"):
    _sharded(copy[where])
  path = copy[where] / name
  whole = path.read_bytes()
  assert _leak(copy, path) == "silence"
  found = {}
  for what, data in {**DAMAGE, "half": whole[: len(whole) // 2]}.items():
    path.write_bytes(data)
    found[what] = _leak(copy, path)
  harmless = {"an empty object", "half characters", "not finite", "half"}
  if path.suffix == ".jinja":  # most of these are texts, which a template may be
    harmless = set(DAMAGE) | {"half"}
  leaks = {
    k: v for k, v in found.items() if v and (v != "silence" or k not in harmless)
  }
  assert not leaks
  if name in ("config.json", "adapter_config.json", "tokenizer.json"):
    assert not found["an empty object"] and not found["half"]


@pytest.mark.slow
@pytest.mark.parametrize("where, name", [f for f in FILES if f[1].endswith(".json")])
def test_a_field_of_another_kind_is_read_or_a_sentence_with_its_path(where, name, copy):
  if name.endswith("index.json"):
    _sharded(copy[where])
  path = copy[where] / name
  fields, leaks = json.loads(path.read_text()), {}
  for field in (*fields, *MORE.get(name, ())):
    for value in VALUES:
      path.write_text(json.dumps({**fields, field: value}))
      leak = _leak(copy, path)
      if leak and leak != "silence":
        leaks[field, repr(value)] = leak
  assert not leaks
