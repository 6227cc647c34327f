"""The two wings and the device modules import only what the design lets them."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "jswarm"
MODEL_WING = {"decoder", "layers", "lora", "attention", "sampling", "generate", "hf",
              "hf_config", "hf_export", "peft", "tensor_files", "gguf", "gguf_file",
              "gguf_config", "gguf_tokenizer", "text", "experts", "engine", "group",
              "weights", "serve", "programs", "schedule", "packing", "lanes", "speculate", "forms",
              "quantize", "parallel"}
SEARCH_WING = ["racing", "dag_cache", "store", "ranks", "watchdog", "workdir", "graphs",
               "dag", "topologies", "messages", "memo", "utility",
               "contribution", "pso", "motion", "state", "swarm", "run", "system",
               "checkpoint", "metrics", "stats"]
ON_DEVICE = ["decoder", "layers", "lora", "architecture", "attention", "sampling", "generate",
             "lanes", "speculate", "serve", "programs", "parallel", "forms", "quantize", "graphs",
             "dag", "pso", "motion", "contribution"]


def _imports(path):
  """Module names of jswarm that a file imports, anywhere in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {n.name.split(".")[1] for n in node.names if n.name.startswith("jswarm.")}
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jswarm"):
      parts = node.module.split(".")[1:]
      found |= {parts[0]} if parts else {n.name for n in node.names}
  return found


@pytest.mark.parametrize("module", SEARCH_WING)
def test_the_search_wing_does_not_know_the_model_wing(module):
  assert not _imports(PACKAGE / f"{module}.py") & MODEL_WING


@pytest.mark.parametrize("module", ON_DEVICE)
def test_device_modules_do_not_know_text(module):
  source = (PACKAGE / f"{module}.py").read_text()
  assert "text" not in _imports(PACKAGE / f"{module}.py")
  assert "transformers" not in source and "tokenizers" not in source


def test_only_build_reads_configurations():
  for path in PACKAGE.rglob("*.py"):
    if path.stem not in ("build", "build_training", "default_config", "cli"):
      assert "ml_collections" not in path.read_text(), path


def test_the_library_prints_nothing():
  for path in PACKAGE.rglob("*.py"):
    if path.stem == "cli":
      continue
    calls = [n for n in ast.walk(ast.parse(path.read_text()))
             if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
    assert not calls, path


def test_no_run_imports_torch():
  code = "import sys, jswarm.api; sys.exit('torch' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
