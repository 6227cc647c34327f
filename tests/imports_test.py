"""The two wings and the device modules import only what the design lets them."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "jswarm"
MODEL_WING = {"model", "formats", "pool", "engine"}
SEARCH_WING = ("core", "tasks", "graphs", "systems", "swarm", "run")
ON_DEVICE = sorted(
  path.relative_to(PACKAGE).as_posix()
  for room in ("model", "graphs")
  for path in (PACKAGE / room).glob("*.py")
) + [
  "engine/batcher.py",
  "engine/programs.py",
  "engine/adapter_forms.py",
  "distributed/devices.py",
  "swarm/pso.py",
  "swarm/motion.py",
  "swarm/contribution.py",
]


def _imports(path):
  """Modules of jswarm that a file imports, anywhere in it, without the "jswarm."."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {n.name.removeprefix("jswarm.") for n in node.names}
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jswarm"):
      home = node.module.removeprefix("jswarm").lstrip(".")
      found |= {f"{home}.{name.name}".lstrip(".") for name in node.names}
  return found


@pytest.mark.parametrize("room", SEARCH_WING)
def test_the_search_wing_does_not_know_the_model_wing(room):
  for path in (PACKAGE / room).rglob("*.py"):
    assert not {name.split(".")[0] for name in _imports(path)} & MODEL_WING, path


@pytest.mark.parametrize("module", ON_DEVICE)
def test_device_modules_do_not_know_text(module):
  source = (PACKAGE / module).read_text()
  assert "formats.tokenizer" not in _imports(PACKAGE / module)
  assert "transformers" not in source and "tokenizers" not in source


def test_only_wiring_reads_configurations():
  for path in PACKAGE.rglob("*.py"):
    if path.parent.name != "wiring" and path.stem != "cli":
      assert "ml_collections" not in path.read_text(), path


def test_the_library_prints_nothing():
  for path in PACKAGE.rglob("*.py"):
    if path.stem == "cli":
      continue
    calls = [
      n
      for n in ast.walk(ast.parse(path.read_text()))
      if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"
    ]
    assert not calls, path


def test_no_run_imports_torch():
  code = "import sys, jswarm.api; sys.exit('torch' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
