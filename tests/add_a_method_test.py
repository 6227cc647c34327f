"""The methods of docs/add_a_method.md work as they stand there."""

import pathlib
import re
import sys

import numpy as np
import pytest

from jswarm.wiring import methods
from tests.fake_run import plan

TEXT = (pathlib.Path(__file__).parents[1] / "docs" / "add_a_method.md").read_text()


@pytest.fixture
def place(tmp_path, monkeypatch):
  ((code,),) = [re.findall(r"```python\n(.*?)```", TEXT, re.S)]
  assert len([line for line in code.splitlines() if line.strip()]) < 40
  (tmp_path / "my_methods.py").write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  yield "my_methods"
  sys.modules.pop("my_methods", None)


@pytest.mark.parametrize("name", ["CLIMB", "RANKED_SOUP"])
def test_a_method_from_the_document_is_a_row_like_any_other(place, name):
  bench = methods.Bench(plan())
  known = methods.known(f"{place}:{name}")
  row = bench.row(name.lower(), bench.setting(0, calls=400), known)
  assert row["test"]["n"] == 6 and 0 < row["calls"] <= 400
  assert np.isfinite(row["dev"]) and row["curve"]


def test_climbing_longer_never_finds_less(place):
  bench = methods.Bench(plan())
  known = methods.known(f"{place}:CLIMB")
  dev = [
    bench.row("climb", bench.setting(0, calls=calls), known)["dev"]
    for calls in (40, 200, 800)
  ]
  assert dev == sorted(dev) and dev[0] < dev[-1]
