"""The bench of methods: a row each, in one process, on shared calls."""

import json

import pytest

from jswarm.baselines.base import Found, Method
from jswarm.systems import system
from jswarm.wiring import methods
from tests.fake_run import plan


def _last(setting):
  return Found(system.single(len(setting.experts.names) - 1, setting.first))


LAST = Method(_last, "control")
NO_METHOD = 3


@pytest.fixture(scope="module")
def bench():
  return methods.Bench(plan())


def test_a_row_says_what_was_found_what_it_cost_and_that_it_is_json(bench):
  row = bench.row("greedy_soup", bench.setting(0), methods.known())
  assert json.loads(json.dumps(row))["dev"] == row["dev"]
  assert row["test"]["n"] == 6 and row["calls"] == 15 and row["calls_test"] == 6
  assert row["curve"][-1][0] == 15


def test_what_cannot_be_applied_is_a_line_and_no_error(bench):
  needy = {"needy": Method(_last, "control", needs=("logits",))}
  row = bench.row("needy", bench.setting(0), needy)
  assert row["not_applicable"].startswith("needy needs logits")


def test_a_method_from_outside_of_the_package_is_found_by_its_place(bench):
  known = methods.known("tests.wiring.methods_test:LAST")
  assert bench.row("last", bench.setting(0), known)["test"]["n"] == 6


@pytest.mark.parametrize(
  "place, why",
  [
    ("tests.wiring.methods_test", "pkg.module:METHOD"),
    ("tests.wiring.methods_test:NONE", "pkg.module:METHOD"),
    ("tests.wiring.methods_test:NO_METHOD", "is a int"),
    ("no.such:METHOD", "pkg.module:METHOD"),
  ],
)
def test_a_place_that_holds_no_method_is_refused(place, why):
  with pytest.raises(ValueError, match=why):
    methods.known(place)


def test_two_methods_on_one_bench_share_calls_and_count_their_own(bench):
  first = bench.row("chain", bench.setting(1, 200), methods.known())
  made = bench.meter.spent["made"]
  again = bench.row("chain", bench.setting(1, 200), methods.known())
  assert again["calls"] == first["calls"] and again["dev"] == first["dev"]
  assert bench.meter.spent["made"] == made


def test_options_are_literals_or_words():
  found = methods.options(
    ["merge=ties", "density=.2", "weights=[1, 0]", "matched=True"]
  )
  assert found == {"merge": "ties", "density": 0.2, "weights": [1, 0], "matched": True}
  with pytest.raises(ValueError, match="name=value"):
    methods.options(["ties"])
