"""Analyses of rows of searches: what a table of known numbers comes to."""

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import numpy as np
import pytest

from jswarm.analysis import (
  devices,
  diversity,
  dropout,
  experts,
  mixed,
  sparsity,
  transfer,
  weak,
)
from jswarm.graphs import decode


def test_ten_experts_make_the_four_layouts_of_the_paper():
  assert diversity.layouts(10) == [(1, 10), (2, 5), (5, 2), (10, 1)]
  for distinct, copies in diversity.layouts(10):
    chosen = diversity.places(10, distinct, seed=3)
    assert len(chosen) == 10 and len(set(chosen)) == distinct
    assert all(chosen.count(e) == copies for e in chosen)
  assert diversity.places(10, 10, 0) == list(range(10))
  drawn = {tuple(diversity.places(10, 1, seed)) for seed in range(20)}
  assert len(drawn) > 3


def test_diversity_is_told_as_a_change_from_copies_to_all_distinct():
  rows = [
    {"distinct": a, "copies": 10 // a, "seed": s, "test": t, "dev": t, "calls": 1}
    for a, t in ((1, 0.2), (2, 0.3), (10, 0.4))
    for s in range(2)
  ]
  found = diversity.numbers({"rows": rows})
  assert found["change"] == pytest.approx(1.0)
  assert found["trend"]["rho"] == pytest.approx(1.0)
  assert "changes by 100.0 %" in diversity.findings(found)
  assert "nothing to say" in diversity.findings(diversity.numbers({"rows": []}))


def test_smaller_pools_are_parts_of_larger_ones():
  assert experts.counts(10) == [2, 4, 6, 8, 10]
  assert experts.counts(5) == [2, 4, 5] and experts.counts(2) == [2]
  for seed in range(5):
    nested = [set(experts.subset(10, n, seed)) for n in experts.counts(10)]
    assert all(a < b for a, b in zip(nested, nested[1:]))


def test_experts_are_compared_with_votes_of_the_same_pool_and_seed():
  row = lambda n, t, s=0: {
    "experts": n,
    "seed": s,
    "test": t,
    "calls": 10 * n,
    "calls_question": n,
  }
  found = experts.numbers(
    {
      "rows": [row(2, 0.4), row(4, 0.5), row(4, 0.6, 1)],
      "votes": [row(2, 0.3), row(4, 0.55), {"experts": 4, "seed": 1, "failed": "no"}],
    }
  )
  assert found["over_votes"] == {
    "mean": pytest.approx(0.025),
    "sd": pytest.approx(np.std([0.1, -0.05], ddof=1)),
    "n": 2,
  }
  assert found["change"] == pytest.approx(0.55 / 0.4 - 1)
  assert "No self-consistency: no" in experts.findings(found)


def test_sparsity_relates_to_the_search_without_any():
  row = lambda tau, l1, t, e, n: {
    "tau": tau,
    "l1": l1,
    "seed": 0,
    "test": t,
    "edges": e,
    "nodes": n,
  }
  found = sparsity.numbers(
    {"rows": [row(0, 0, 0.5, 10, 8), row(0.2, 0, 0.4, 5, 6), row(0, 0.1, 0.5, 9, 8)]}
  )["settings"]
  assert [sparsity.name(r) for r in found] == ["none", "tau 0.2", "L1 0.1"]
  assert found[1]["test_change"] == pytest.approx(-0.2)
  assert found[1]["edges_change"] == pytest.approx(-0.5)
  assert found[1]["calls_change"] == pytest.approx(-0.25)
  told = sparsity.findings({"settings": found})
  assert "(score -20.0 %, edges -50.0 %, calls -25.0 %)" in told


@hypothesis_settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from((0.2, 0.6)))
def test_a_threshold_keeps_no_smaller_edge_and_at_most_as_many_calls(seed, tau):
  adjacency = np.random.default_rng(seed).random((6, 6)).astype(np.float32)
  cut = decode.decode(adjacency, threshold=tau)
  assert (adjacency[np.asarray(cut.edges)] >= tau).all()
  # Greedy and one edge a node: without a threshold all six nodes run.
  whole = decode.decode(adjacency)
  assert int(cut.active.sum()) <= int(whole.active.sum()) == 6
  assert int(cut.edges.sum()) <= int(whole.edges.sum()) == 5
  none = decode.decode(adjacency, threshold=1.5)
  assert not none.edges.any() and int(none.active.sum()) == 1


def test_dropout_saves_calls_of_an_iteration_not_of_a_shorter_search():
  row = lambda a, b, t, calls, iterations: {
    "kind": "RW",
    "a": a,
    "b": b,
    "seed": 0,
    "test": t,
    "calls": calls,
    "iterations": iterations,
  }
  found = dropout.numbers(
    {"rows": [row(0.0, 0.0, 0.5, 100, 9), row(0.5, 0.0, 0.4, 25, 4)]}
  )["RW"]
  assert found["test"] == [[0.5, None], [0.4, None]]
  assert found["saved"][0][0] == 0 and found["saved"][1][0] == pytest.approx(0.5)
  assert dropout.expected_saving(0.5, 0.2) == pytest.approx(0.6)
  assert "0.400 at d_R = 0.5 (50 %" in dropout.findings({"RW": found})


def test_the_weak_are_all_but_the_best_and_the_lower_half():
  singles = {"a": 0.1, "b": 0.9, "c": None, "d": 0.5, "e": 0.3}
  groups = weak.groups(singles)
  assert groups[weak.WITHOUT] == [0, 2, 3, 4]
  assert groups[weak.LOWER] == [0, 2]  # two of five, the worst
  assert weak.groups(dict.fromkeys("ab", 0.0))[weak.LOWER] == [1]


def test_weak_beats_strong_is_counted_over_seeds():
  row = lambda s, t: {"pool": weak.LOWER, "seed": s, "test": t, "best": 0.5}
  found = weak.numbers({"rows": [row(0, 0.6), row(1, 0.45)]})
  assert found["pools"][weak.LOWER]["wins"] == 1
  assert found["pools"][weak.LOWER]["gain"]["mean"] == pytest.approx(0.025)
  assert "better in 1 of 2 seeds" in weak.findings(found)


def test_half_of_two_pools_is_as_large_as_the_first():
  assert mixed.halves(10, 10) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
  assert mixed.halves(5, 1) == ([0, 1, 2, 3], [0])
  row = lambda pool, t: {"pool": pool, "seed": 0, "test": t, "best": t / 2}
  found = mixed.numbers({"rows": [row("second", 0.2), row("first", 0.4)]})
  assert list(found) == ["first", "second"]
  assert "first pool 0.400 (best single 0.200)" in mixed.findings(found)


@pytest.mark.parametrize(
  "moved, base, home, share",
  [
    (0.5, 0.4, 0.6, 0.5),
    (0.6, 0.4, 0.6, 1.0),
    (0.3, 0.4, 0.6, -0.5),
    (0.5, 0.6, 0.6, None),
  ],
)
def test_what_transfer_keeps_is_a_share_of_the_gain_at_home(moved, base, home, share):
  found = transfer.kept(moved, base, home)
  assert found == (None if share is None else pytest.approx(share))


def test_transfer_is_told_with_the_names_of_both_tasks():
  row = lambda system, t: {"system": system, "seed": 0, "test": t}
  rows = [
    row(transfer.MOVED, 0.5),
    row(transfer.AT_HOME, 0.6),
    row(transfer.BEST_TARGET, 0.4),
  ]
  found = transfer.numbers({"source": "K", "target": "W", "rows": rows})
  assert found["kept"] == pytest.approx(0.5)
  assert "From K to W" in transfer.findings(found)
  rows = [{"system": transfer.MOVED, "seed": 0, "failed": "no"}]
  found = transfer.numbers({"source": "K", "target": "W", "rows": rows})
  assert "nothing is said" in transfer.findings(found)


def test_devices_are_compared_by_seconds_an_iteration_and_must_not_change_scores():
  row = lambda n, seconds, test=0.5: {
    "devices": n,
    "seed": 0,
    "test": test,
    "iterations": 4,
    "seconds": seconds,
    "seconds_asking": seconds / 2,
  }
  gathered = {"rows": [row(1, 10.0), row(2, 5.0)], "there": 2, "simulated": True}
  found = devices.numbers(gathered)
  assert [v["speedup"] for v in found["levels"]] == [1.0, 2.0] and found["same_scores"]
  assert "2.00 s" in devices.findings(found) and "simulated" in devices.findings(found)
  gathered["rows"].append(row(5, 5.0, test=0.4))
  assert "scores of one seed differ" in devices.findings(devices.numbers(gathered))
