"""Exports: what leaves as another form says what the saved system says."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from jswarm.engine import engine
from jswarm.formats import gguf_model, hf_model, peft_adapter
from jswarm.graphs import decode
from jswarm.model import lora
from jswarm.model.decoder import make_decoder
from jswarm.pool import load, specs
from jswarm.systems import artifact, portable
from jswarm.systems.system import Graph, System
from jswarm.tasks.synthetic import words
from jswarm.wiring import config as config_lib
from jswarm.wiring import exports
from tests import folders


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
  """(saved system of three adapters, its base); there was no search."""
  root = tmp_path_factory.mktemp("pool")
  base = folders.write_base(root / "base")
  adapters = folders.write_adapters(root, base)
  _save(root / "best", specs.parse_specs(adapters, base))
  return root / "best", base


def _save(folder, chosen):
  config = config_lib.resolve_default(words.MESSAGES)
  pool = load.load_pool(chosen, np.float32)
  experts = engine.make_experts(pool, config.engine)
  dag = decode.TOPOLOGIES["complete"](len(chosen), jax.random.key(0))
  system = System(
    graph=Graph(np.asarray(dag.edges, np.float32), dag),
    assignment=np.arange(len(chosen), dtype=np.int32),
    weights=experts.weights,
    utility=np.float32(0.5),
    iteration=np.int32(1),
    step=np.int32(0),
  )
  serving = {"pool.dtype": "float32"}
  fields = dict(limit=6, chat=False, serving=serving, context={"task": "words"})
  artifact.save(folder, system, experts, config.wording, **fields)


def _adapter(best, name):
  config = hf_model.read_config(portable.places(best)["base"])
  return config, peft_adapter.load_adapter(best / "experts" / name, config)


def test_adapters_leave_one_by_one_as_they_were_saved(disk, tmp_path):
  best, _ = disk
  made = exports.export(best, "peft", tmp_path / "out")
  assert [path.name for path in made] == ["skill0", "skill1", "skill2"]
  for path in made:
    saved = (best / "experts" / path.name / "adapter_model.safetensors").read_bytes()
    assert (path / "adapter_model.safetensors").read_bytes() == saved


def test_a_merged_expert_is_its_base_with_its_adapter_added(disk, tmp_path):
  best, base = disk
  _, params = hf_model.load_base(base)
  for path in exports.export(best, "merged", tmp_path / "out"):
    _, merged = hf_model.load_base(path)
    expected = lora.merge(params, _adapter(best, path.name)[1])
    for ours, theirs in zip(jax.tree.leaves(merged), jax.tree.leaves(expected)):
      np.testing.assert_array_equal(ours, theirs)
    assert (path / "tokenizer.json").is_file()
    assert json.loads((path / "generation_config.json").read_text())["eos_token_id"]


@pytest.mark.slow
def test_adapter_and_merged_model_have_the_logits_of_peft(disk, tmp_path):
  torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
  import transformers

  best, base = disk
  ids = np.random.default_rng(0).integers(0, folders.CONFIG.vocab, (2, 12))
  read = lambda path: transformers.AutoModelForCausalLM.from_pretrained(
    path, dtype="float32", attn_implementation="eager"
  ).eval()
  positions = np.broadcast_to(np.arange(12, dtype=np.int32), ids.shape)
  merged = exports.export(best, "merged", tmp_path / "merged")
  alone = exports.export(best, "peft", tmp_path / "alone")
  for adapter, whole in zip(alone, merged):
    with torch.no_grad():
      asked = torch.from_numpy(ids)
      theirs = peft.PeftModel.from_pretrained(read(base), adapter)(asked).logits.numpy()
      once = read(whole)(asked).logits.numpy()
    config, params = hf_model.load_base(whole)
    ours, *_ = make_decoder(config).apply(params, ids.astype(np.int32), positions)
    scale = np.abs(theirs).max()
    for logits in (once, ours):
      np.testing.assert_allclose(logits / scale, theirs / scale, atol=1e-5)


def test_experts_become_gguf_files_that_our_reader_reads(disk, tmp_path, monkeypatch):
  """The words of these experts have no GGUF; their weights do."""
  best, base = disk
  with pytest.raises(ValueError, match="tokenizer is one of the kind WordLevel"):
    exports.export(best, "gguf", tmp_path / "refused")
  monkeypatch.setattr(
    "jswarm.formats.gguf_export._write_tokenizer", lambda *given: None
  )
  monkeypatch.setattr(
    "jswarm.formats.gguf_export._check_tokenizer", lambda *given: None
  )
  made = exports.export(best, "gguf", tmp_path / "out")
  assert [path.name for path in made[:2]] == ["skill0-f16.gguf", "skill0-q8_0.gguf"]
  expected = lora.merge(hf_model.load_base(base)[1], _adapter(best, "skill0")[1])
  for path in made[:2]:
    _, read = gguf_model.load_base(path)
    for ours, theirs in zip(jax.tree.leaves(read), jax.tree.leaves(expected)):
      np.testing.assert_allclose(ours, theirs, atol=0.01 * np.abs(theirs).max())


def test_the_servers_get_each_adapter_under_a_name_of_its_weights(disk, tmp_path):
  best, base = disk
  out = tmp_path / "out"
  exports.export(best, "vllm", out)
  script = (out / "serve.sh").read_text()
  endpoints = json.loads((out / "endpoints.json").read_text())
  assert f"vllm serve {base} --port 8000 --enable-lora" in script
  assert "--max-loras 3 --max-lora-rank 8" in script
  for name, where in endpoints.items():
    assert where["url"] == "http://127.0.0.1:8000/v1"
    assert f"{where['model']}=experts/{name}" in script
    assert (out / "experts" / name / "adapter_config.json").is_file()
  assert len({where["model"] for where in endpoints.values()}) == 3
  assert subprocess.run(["sh", "-n", str(out / "serve.sh")]).returncode == 0


def test_the_client_that_is_exported_starts_without_jswarm(disk, tmp_path):
  best, _ = disk
  exports.export(best, "vllm", tmp_path / "out")
  code = (
    "import openai_client, sys; s = openai_client.load('.');"
    "print(len(s.expert), 'jswarm' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path / "out",
    capture_output=True,
    text=True,
    env={"PATH": ""},
  )
  assert done.stdout.split() == ["3", "False"], done.stderr


def test_what_goes_to_the_hub_knows_no_folder_of_this_machine(disk, tmp_path, caplog):
  best, base = disk
  with caplog.at_level("WARNING"):
    (out,) = exports.export(best, "hub", tmp_path / "out")
  assert "names bases that are on no hub, base" in caplog.text
  root = str(pathlib.Path(base).parent).encode()
  for path in out.rglob("*"):
    assert path.is_dir() or root not in path.read_bytes(), path
  description, job = artifact.read(out)
  assert description["end"] == job.end


def test_the_graph_leaves_as_text(disk, tmp_path):
  best, _ = disk
  for form, begins in (("mermaid", "graph LR"), ("dot", "digraph system")):
    (path,) = exports.export(best, form, tmp_path / "pictures" / form)
    assert path.read_text().startswith(begins)


def test_whole_models_are_no_adapters_and_are_served_each_by_itself(tmp_path):
  models = [folders.write_base(tmp_path / f"model{i}", seed=i) for i in range(2)]
  _save(tmp_path / "best", specs.parse_specs(models))
  with pytest.raises(ValueError, match="model0, model1 are whole models: give"):
    exports.export(tmp_path / "best", "peft", tmp_path / "out")
  exports.export(tmp_path / "best", "vllm", tmp_path / "served")
  script = (tmp_path / "served" / "serve.sh").read_text()
  assert "experts/model1 --served-model-name model1 --port 8001" in script
  for path in exports.export(tmp_path / "best", "merged", tmp_path / "merged"):
    _, read = hf_model.load_base(path)
    _, given = hf_model.load_base(tmp_path / path.name)
    assert all(
      np.array_equal(a, b)
      for a, b in zip(jax.tree.leaves(read), jax.tree.leaves(given))
    )


def test_an_unknown_form_and_a_folder_in_use_are_refused(disk, tmp_path):
  best, _ = disk
  with pytest.raises(ValueError, match="--to='merge'.*merged"):
    exports.export(best, "merge", tmp_path / "out")
  (tmp_path / "x").touch()
  with pytest.raises(ValueError, match="has files in it: give a new folder"):
    exports.export(best, "peft", tmp_path)
