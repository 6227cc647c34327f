"""What the documents say of the code is so."""

import pathlib
import re
import runpy

import pytest

import jswarm
from tests.imports_test import MAY_IMPORT, PACKAGE, ROOMS

ROOT = pathlib.Path(__file__).parent.parent
read = lambda path: (ROOT / path).read_text()
DOCUMENTS = sorted(
  path.relative_to(ROOT).as_posix()
  for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document):
  links = re.findall(r"\]\((?!https?://|#)([^)#]+)", read(document))
  for link in links:
    assert ((ROOT / document).parent / link).exists(), link


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "README.md"])
def test_every_file_that_is_named_exists(document):
  placeholder = re.compile(r"room/file|<")
  for path in re.findall(r"`((?:jswarm|tests|configs)/[^\s`*]+)`", read(document)):
    assert placeholder.search(path) or (ROOT / path).exists(), path


def test_contributing_names_what_the_files_hold():
  pairs = {
    "TASKS": "jswarm/tasks/published.py",
    "KINDS": "jswarm/tasks/kinds.py",
    "State": "jswarm/swarm/state.py",
    "Job": "jswarm/systems/system.py",
    "TOPOLOGIES": "jswarm/graphs/decode.py",
    "DecoderConfig": "jswarm/model/architecture.py",
    "_FAMILIES": "jswarm/formats/hf_config.py",
    "FAMILIES": "tests/model/parity_test.py",
  }
  text = read("CONTRIBUTING.md")
  for name, path in pairs.items():
    assert f"`{name}`" in text and path in text
    assert re.search(rf"^(class )?{name}\b", read(path), re.M), (name, path)


def _drawing():
  """(boxes {box: rooms in it}, arrows [(from, label, to)]) of docs/design.md."""
  (drawn,) = re.findall(r"```mermaid\n(.*?)```", read("docs/design.md"), re.S)
  boxes, arrows, box = {}, [], None
  for line in drawn.splitlines()[1:]:
    words = line.split()
    if words[0] == "subgraph":
      box = boxes.setdefault(words[1], set())
    elif words[0] == "end":
      box = None
    else:
      arrow = re.fullmatch(r"\s*(\w+) -->(?:\|(.+)\|)? (\w+(?: & \w+)*)", line)
      start, label, ends = arrow.groups()
      ends = ends.split(" & ")
      arrows += [(start, label or "", end) for end in ends]
      if box is not None:
        box |= {start, *ends}
  return boxes, arrows


def test_the_drawing_of_the_rooms_is_the_table_of_imports():
  boxes, arrows = _drawing()
  drawn = {room: set() for room in MAY_IMPORT}
  for start, label, end in arrows:
    for room in boxes.get(start, {start}):
      for other in boxes.get(end, {end}):
        files = [f"{other}.{file}" for file in label.split(", ") if file]
        assert not drawn[room] & {other, *files}, f"{room} -> {other} is drawn twice"
        drawn[room] |= set(files or [other])
  assert drawn == {room: set(may.split()) for room, may in MAY_IMPORT.items()}


def test_the_readme_has_every_room_and_names_files_that_are_in_it():
  code = read("README.md").split("## The code")[1]
  rows = re.findall(r"^\| \[(\w+)\]\(jswarm/\1\) \|.*?\| (.*?) \|$", code, re.M)
  assert {room for room, _ in rows} | {"report", "benchmarks"} == set(ROOMS)
  for room, files in rows:
    for file in re.findall(r"`(\w+)`", files):
      assert (PACKAGE / room / f"{file}.py").exists(), (room, file)


def test_the_changelog_leads_from_old_modules_to_new_ones():
  rows = re.findall(r"^  \| (`jswarm\..*?) \| (.*?) \|$", read("CHANGELOG.md"), re.M)
  olds = [old for row, _ in rows for old in re.findall(r"`jswarm\.(\w+)`", row)]
  assert len(olds) > 60 and len(set(olds)) == len(olds)
  for row, target in rows:
    for module in re.findall(r"`jswarm\.([\w.*]+)`", target):
      for old in re.findall(r"`jswarm\.(\w+)`", row):
        path = PACKAGE / (module.replace("*", old).replace(".", "/") + ".py")
        assert path.exists(), module
  for old in olds:
    assert not (PACKAGE / f"{old}.py").exists(), old


def test_the_version_stands_in_one_place(monkeypatch):
  pytest.importorskip("setuptools")
  given = {}
  monkeypatch.setattr("setuptools.setup", lambda **fields: given.update(fields))
  runpy.run_path(str(ROOT / "setup.py"))
  assert given["version"] == jswarm.__version__
  assert f"\nversion: {jswarm.__version__}\n" in read("CITATION.cff")
  assert f"\n## [{jswarm.__version__}] - " in read("CHANGELOG.md")


def test_all_who_check_the_style_use_one_version_of_ruff():
  hooks = read(".pre-commit-config.yaml")
  (hook,) = re.findall(r"/ruff-pre-commit\n\s+rev: v(\d+\.\d+)", hooks)
  assert f'"ruff>={hook},<' in read("setup.py")


def test_the_ci_checks_style_and_types_before_it_runs_anything():
  ci = read(".ci/run")
  checks = ["ruff check .", "ruff format --check .", "pyrefly check"]
  places = [ci.index(f"\n{check}\n") for check in checks]
  assert places == sorted(places)
  assert places[-1] < ci.index("python -m experiments.search")
  assert " && ".join(checks) in read("CONTRIBUTING.md")
