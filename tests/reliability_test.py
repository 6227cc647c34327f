"""docs/reliability.md names a test for every fault, and each of them is there."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "reliability.md").read_text()
ROWS = dict(re.findall(r"^\| (F\d+) \|(.*)$", TEXT, re.M))
named = lambda text: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def test_every_fault_has_a_row():
  assert list(ROWS) == [f"F{n}" for n in range(1, 21)]


@pytest.mark.parametrize("fault", ROWS)
def test_every_fault_names_tests_that_exist(fault):
  assert named(ROWS[fault])
  for path, test in named(ROWS[fault]):
    tree = ast.parse((ROOT / path).read_text())
    assert test in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, test


@pytest.mark.parametrize("fault", ROWS)
def test_every_fault_says_how_far_it_is_covered(fault):
  covered = ROWS[fault].split("|")[2].strip()
  assert re.match(r"(full|part: )", covered), covered


def test_every_file_that_is_named_exists():
  for path in re.findall(r"(tests/[\w/]+\.py)", TEXT):
    assert (ROOT / path).is_file(), path
