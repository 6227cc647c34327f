"""The house: which room may know which, and what every room and file promises."""

import ast
import graphlib
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "jswarm"

# Room -> the rooms (or single modules) that it may import; nothing else of jswarm.
# From the ground up: a room stands below all that it may be imported by.
MAY_IMPORT = {
  "core": "",
  "tasks": "core",
  "graphs": "core",
  "distributed": "core",
  "model": "core",
  "formats": "core model",
  "pool": "core model formats distributed",
  "engine": "core model formats pool distributed",
  "systems": "core graphs tasks distributed.processes",
  "swarm": "core graphs systems tasks",
  "run": "core graphs systems swarm tasks distributed.processes distributed.watchdog",
  "training": "core model formats pool tasks",
  "report": "core systems analysis",
  "baselines": "core graphs systems swarm",
  "analysis": "core systems",
  "wiring": "core tasks graphs distributed model formats pool engine systems swarm run"
  " training baselines analysis",
  "root": "core wiring pool engine run systems distributed report",  # api, cli
  "benchmarks": "core tasks graphs distributed model formats pool engine systems swarm"
  " run training baselines wiring root",
}
ON_DEVICE = ("model", "graphs")
ON_DEVICE_TOO = (
  "engine/batcher.py",
  "engine/programs.py",
  "engine/adapter_forms.py",
  "distributed/devices.py",
  "swarm/pso.py",
  "swarm/motion.py",
  "swarm/guard.py",
  "swarm/contribution.py",
)
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [room for room in MAY_IMPORT if room != "root"]
name = lambda path: path.relative_to(PACKAGE).as_posix()


def _room(module):
  """Of "tasks.load": "tasks"; of "cli": "root"."""
  first = module.split(".")[0]
  return first if (PACKAGE / first).is_dir() else "root"


def _module(path):
  return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _imports(path):
  """Modules of jswarm that a file imports, anywhere in it, without the "jswarm."."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {
        n.name.removeprefix("jswarm.")
        for n in node.names
        if n.name.startswith("jswarm.")
      }
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jswarm"):
      home = node.module.removeprefix("jswarm").lstrip(".")
      for alias in node.names:
        inner = f"{home}.{alias.name}".lstrip(".")
        is_module = (PACKAGE / (inner.replace(".", "/") + ".py")).exists()
        found.add(inner if is_module or not home else home)
  return found


def test_every_room_stands_in_the_table():
  rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
  assert rooms == set(ROOMS)
  assert len(rooms) <= 26


def test_the_table_has_no_circle():
  below = {room: {m.split(".")[0] for m in may.split()} for room, may in
           MAY_IMPORT.items()}  # fmt: skip
  list(graphlib.TopologicalSorter(below).static_order())


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_imports_only_what_its_room_may(path):
  room = _room(_module(path))
  allowed = MAY_IMPORT[room].split()
  for module in _imports(path):
    assert _room(module) in [room, *allowed] or module in allowed, module


def test_no_two_files_import_each_other():
  arrows = {_module(path): _imports(path) - {_module(path)} for path in FILES}
  list(graphlib.TopologicalSorter(arrows).static_order())


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_names_what_it_offers(room):
  """Purpose in one sentence, the arrow of its files, its public names."""
  text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
  purpose, *_ = text.split("\n\n")
  assert purpose.rstrip().endswith(".") and "->" in text
  ((public,),) = [re.findall(r"^Public: ((?:.|\n)+?)(?:\n\n|\Z)", text, re.M)]
  for offered in re.findall(r"[a-z_.]+\.\w+", public):
    module, _, attribute = offered.rpartition(".")
    assert hasattr(importlib.import_module(f"jswarm.{room}.{module}"), attribute), (
      offered
    )


@pytest.mark.parametrize("room", ROOMS)
def test_entering_a_room_costs_nothing(room):
  """`import jswarm.room` loads no file of it and no library."""
  tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
  assert not [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]


@pytest.mark.parametrize("room", ROOMS)
def test_every_file_is_tested_under_its_name_or_the_room_says_where(room):
  text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
  elsewhere = {}
  for line in re.findall(r"^Tested elsewhere: ((?:.|\n)+?)(?:\n\n|\Z)", text, re.M):
    for files, where in re.findall(r"([\w, /]+) in ([\w/.]+)", " ".join(line.split())):
      elsewhere |= dict.fromkeys(re.findall(r"[\w/]+", files), where.rstrip("."))
  for path in sorted((PACKAGE / room).rglob("*.py")):
    inside = path.relative_to(PACKAGE / room).with_suffix("").as_posix()
    if path.stem == "__init__":
      continue
    own = ROOT / "tests" / room / f"{inside}_test.py"
    named = ROOT / "tests" / f"{elsewhere.get(inside, '?')}_test.py"
    assert own.exists() or named.exists(), inside


@pytest.mark.parametrize(
  "module",
  [name(p) for p in FILES if _room(_module(p)) in ON_DEVICE] + list(ON_DEVICE_TOO),
)
def test_device_modules_do_not_know_text(module):
  source = (PACKAGE / module).read_text()
  assert "formats.tokenizer" not in _imports(PACKAGE / module)
  assert "transformers" not in source and "tokenizers" not in source


def test_only_wiring_reads_configurations():
  for path in FILES:
    if path.parent.name != "wiring" and path.stem != "cli":
      assert "ml_collections" not in path.read_text(), path


def test_the_library_prints_nothing():
  for path in FILES:
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
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
