"""Racing drops graphs, and nothing but their own numbers is another for it."""

import dataclasses
import functools
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.run import loop
from jswarm.swarm import pso, racing
from jswarm.swarm import steps as steps_lib
from jswarm.systems import prompts, system
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import NOTHING, Evaluation, Evaluator, mean
from jswarm.systems.memo import Memo
from jswarm.tasks import kinds
from jswarm.tasks.base import UtilityError
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config
from tests import fakes, loading
from tests.fake_run import SMALL

SIZE = 24
THRESHOLDS = np.random.default_rng(1).permutation(np.linspace(0.3, 0.6, SIZE))


def _right(example, reply):
  """Who says large numbers is right more often."""
  return float(
    np.mean([float(x) for x in reply.split()]) > THRESHOLDS[int(example.answer)]
  )


def _partly(example, reply):
  """Any fraction, so that sums round."""
  said = float(np.mean([float(x) for x in reply.split()]))
  return min(1.0, said / 7) + 0.8 * _right(example, reply)


def _plan(seed=0, score=_right, bounds=(0.0, 1.0), **changes):
  config = config_lib.override(
    get_config(), {**SMALL, "search.graphs": 6, "search.assignments": 3, **changes}
  )
  made = search.plan(
    config,
    records=fakes.records(SIZE, 2),
    experts=fakes.numeric(seed=seed)[0],
    utility=lambda e, r: [0] * len(r),
  )
  task = dataclasses.replace(
    made.task, score=functools.partial(kinds.each, score), bounds=bounds
  )
  return dataclasses.replace(made, task=task, seed=seed)


def _search(made, iterations=5):
  """(state, every step's Info, the meter)."""
  meter = Meter()
  memo = Memo(made.experts, meter)
  problem = steps_lib.Problem(
    made.experts, Evaluator(made.task, memo, made.wording), made.task.dev
  )
  key = jax.random.key(made.seed)
  state, infos = steps_lib.start(key, problem, made.settings)
  for _ in range(iterations):
    state, more = steps_lib.iterate(key, state, problem, made.settings)
    infos = infos + more
  return state, infos, meter


def _bits(state):
  """All of a state but what the graphs' last utilities are."""
  state = state.replace(role=state.role.replace(utility=jnp.zeros(0)))
  return {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  }


def _rows(infos):
  changed = {"mean", "min", "heritability", "raced", "calls_saved"}
  return [
    {k: v for k, v in info.metrics.items() if info.step != "role" or k not in changed}
    for info in infos
  ]


CASES = [
  {"search.mode": "fixed"},
  {"search.mode": "as_published", "graph.top_p": 0.8},
  {"search.mode": "fixed", "search.steps": "role", "role.dropout_n": 0.4},
  {"search.mode": "as_published", "search.steps": "role", "graph.top_p": 0.8},
  {"search.mode": "fixed", "search.role_weights": "current", "score": _partly},
  {"search.mode": "fixed", "role.method": "evolution"},
  {
    "search.mode": "as_published",
    "graph.top_p": 0.8,
    "score": _partly,
    "role.dropout_k": 0.2,
  },
]


@pytest.mark.parametrize("fields", CASES)
def test_a_raced_search_ends_with_the_same_bits_and_fewer_calls(fields):
  saved = 0
  for seed in range(4):
    state, infos, meter = _search(_plan(seed, **fields))
    raced = _search(_plan(seed, **{"search.race": 2, **fields}))
    assert _bits(raced[0]) == _bits(state)
    assert _rows(raced[1]) == _rows(infos)
    steps = [info.metrics for info in raced[1] if "raced" in info.metrics]
    calls = sum(row["calls_saved"] for row in steps)
    assert raced[2].spent["calls"] + calls == meter.spent["calls"]
    assert (calls > 0) == any(row["raced"] for row in steps)
    saved += calls
  assert saved > 0


def test_chunks_of_one_and_of_the_whole_split_are_exact_too():
  state, _, meter = _search(_plan(1))
  for chunk in (1, SIZE, 1000):
    raced, _, spent = _search(_plan(1, **{"search.race": chunk}))
    assert _bits(raced) == _bits(state)
    assert (spent.spent["calls"] == meter.spent["calls"]) == (chunk >= SIZE)


def test_a_dropped_graph_is_told_the_least_it_can_have_and_shows_what_it_was_asked():
  state, infos, _ = _search(_plan(1, **{"search.race": 1}))
  whole, full, _ = _search(_plan(1))
  del state, whole
  pairs = [
    (e, f)
    for info, other in zip(infos, full)
    if info.step == "role"
    for (_, e), (_, f) in zip(info.evaluations, other.evaluations)
  ]
  dropped = [(e, f) for e, f in pairs if e.unasked]
  assert dropped
  for e, f in dropped:
    asked = SIZE - e.unasked
    np.testing.assert_array_equal(e.scores[:asked], f.scores[:asked])
    assert np.isnan(e.scores[asked:]).all() and len(e.scores) == SIZE
    assert e.replies == f.replies[:asked] + [None] * e.unasked
    assert not e.error and e.utility <= f.utility
    assert e.utility == pytest.approx(np.sum(e.scores[:asked]) / SIZE)


def test_mean_and_least_of_a_step_are_of_graphs_that_were_scored_in_full():
  _, infos, _ = _search(_plan(1, **{"search.race": 1}))
  for info in (i for i in infos if i.metrics.get("raced")):
    graphs = [e.utility for _, e in info.evaluations[:6] if not e.unasked]
    assert info.metrics["min"] == pytest.approx(min(graphs))
    assert info.metrics["mean"] == pytest.approx(np.mean(graphs))


def test_a_whole_run_with_racing_ends_with_the_same_results(tmp_path):
  plain = loop.run(_plan(1), None)
  raced = loop.run(_plan(1, **{"search.race": 2}), str(tmp_path))
  skip = ("history", "spend", "timing")
  assert {k: v for k, v in raced.results.items() if k not in skip} == {
    k: v for k, v in plain.results.items() if k not in skip
  }
  assert raced.results["spend"]["calls"] < plain.results["spend"]["calls"]
  assert _bits(raced.state) == _bits(plain.state)


def test_a_task_without_bounds_is_scored_in_full_with_one_warning(caplog):
  plain = _search(_plan(0, bounds=None))
  raced = _search(_plan(0, bounds=None, **{"search.race": 5}))
  assert _bits(raced[0]) == _bits(plain[0])
  assert raced[2].spent == plain[2].spent
  assert not any("raced" in info.metrics for info in raced[1])
  assert sum("no effect" in r.getMessage() for r in caplog.records) == 1


def test_kinds_say_where_the_score_of_an_example_is_bounded_and_its_own():
  task = lambda kind, **fields: loading.load_task(
    "mine",
    kind=kind,
    test_size=0,
    records={
      "dev": [{"question": "q", "answer": "A", "choices": {"A": "a", "B": "b"}}]
    },
    **fields,
  )
  for kind in ("multiple_choice", "exact_match", "token_f1"):
    assert task(kind).bounds == (0, 1)
  assert task("abstain").bounds == (-1, 1)
  assert task("judge").bounds is None
  assert task("custom", utility=lambda e, r: [0]).bounds is None


def _evaluator(score, followup=False):
  rows = [
    {"id": str(i), "question": f"q{i}", "answer": "A", "choices": {"A": "a", "B": "b"}}
    for i in range(7)
  ]
  task = loading.load_task(
    "mmlu",
    records={"dev": rows},
    test_size=0,
    kind="abstain" if followup else "multiple_choice",
  )
  experts, asked = fakes.dictionary(
    lambda e, p: "true A" if sum(map(ord, p)) % (e + 2) else "false B"
  )
  words = prompts.Wording(
    first="", middle="", last="", response="{k} {reply}", question="{prompt}"
  )
  return Evaluator(
    dataclasses.replace(task, score=score or task.score), Memo(experts), words
  ), asked


@pytest.mark.parametrize("followup", [False, True])
def test_an_evaluation_that_is_continued_is_the_one_made_at_once(followup):
  evaluator, _ = _evaluator(None, followup)
  jobs, dev = [system.single(e) for e in range(3)], evaluator.task.dev
  whole = evaluator.evaluate(jobs, dev)
  parts = [NOTHING] * 3
  for reach in ([2, 7, 0], [3, 7, 1], [7, 7, 7]):
    parts = evaluator.proceed(jobs, dev, parts, reach)
    assert [len(e.scores) for e in parts] == reach
  for part, one in zip(parts, whole):
    np.testing.assert_array_equal(part.scores, one.scores)
    assert part._replace(scores=0) == one._replace(scores=0)


def test_a_chunk_that_fails_fails_the_evaluation_and_brings_back_what_was_dropped():
  def score(examples, replies):
    if replies[0] == "fail" and examples[0].id == "4":
      raise UtilityError("the cause")
    return np.array([float(reply == "right") for reply in replies])

  evaluator, _ = _evaluator(score)
  evaluator.memo = Memo(fakes.dictionary(lambda e, p: ("fail", "wrong", "right")[e])[0])
  jobs = [system.single(e) for e in range(3)]
  bars = racing.Bars(2, np.array([-np.inf, 1, 1], np.float32), np.float32(0), 3)
  failed, wrong, right = racing.race(evaluator, jobs, evaluator.task.dev, bars)
  assert failed.error == "the cause" and np.isnan(failed.utility)
  assert (
    len(failed.scores) == len(failed.replies) == 7 and np.isnan(failed.scores).all()
  )
  assert (wrong.utility, wrong.unasked, right.utility) == (0, 0, 1)
  assert evaluator.failed == 1


# The rule against brute force.

POINT = st.sampled_from([0.0, 1 / 3, 0.5, 0.7, 1.0])
SPREAD = ([0.0, 0.5], [0.0, 1 / 3], [0.5, 1.0], [0.7, 1.0])  # so that some are beaten


@st.composite
def _races(draw):
  """(known scores of three graphs, size, Bars, swarm's best)."""
  size = draw(st.integers(2, 4))
  known = [
    np.array(
      draw(
        st.lists(
          st.sampled_from(draw(st.sampled_from(SPREAD))),
          min_size=size - 2,
          max_size=size,
        )
      ),
      float,
    )
    for _ in range(3)
  ]
  utility = lambda: np.mean(draw(st.lists(POINT, min_size=size, max_size=size)))
  own = np.array(
    [draw(st.sampled_from([1.0, 1.0, utility(), -np.inf])) for _ in known], np.float32
  )
  worst = draw(st.sampled_from([0.0, 0.0, utility(), np.inf]))
  return (
    known,
    size,
    racing.Bars(1, own, np.float32(worst), 3),
    max(utility(), own.max()),
  )


def _completions(known, size, values):
  """[C, 3]: utilities, whatever the at most two missing scores of each graph are."""
  rests = list(itertools.product(values, repeat=2))
  return itertools.product(
    *([mean(np.append(k, rest[: size - len(k)])) for rest in rests] for k in known)
  )


@jax.jit
def _outcomes(state, utility):
  """What `tell` makes of each row of utility [C, G], but the utilities themselves."""
  told = jax.vmap(pso.tell, (None, 0))(state, utility)
  return told.replace(utility=jnp.zeros(0))


def _swarm(bars, best):
  size = len(bars.own)
  state = pso.init(jax.random.key(0), jnp.arange(float(size)), _SETTINGS)
  return state.replace(
    best_utility=jnp.asarray(bars.own),
    swarm_best_utility=jnp.float32(best),
    swarm_worst_utility=jnp.float32(bars.worst),
    best_position=-state.position,
    swarm_best_position=jnp.float32(-8),
    swarm_worst_position=jnp.float32(-9),
  )


_SETTINGS = config_lib.resolve_default({}).swarm.role


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(_races())
def test_what_is_dropped_changes_nothing_whatever_the_rest_scores(race):
  known, size, bars, best = race
  low, high = racing.intervals(known, size, (0.0, 1.0))
  seen = np.array([len(k) for k in known])
  dropped = (
    (seen < size) & racing.is_idle(low, high, bars) & racing.is_beaten(low, high)
  )
  rows = np.array(list(_completions(known, size, (0.0, 0.4, 1.0))), np.float32)
  told = np.where(dropped, low, rows)
  assert (low <= rows).all() and (rows <= high).all()
  np.testing.assert_array_equal(np.argmax(told, axis=1), np.argmax(rows, axis=1))
  np.testing.assert_array_equal(told.max(axis=1), rows.max(axis=1))
  same = jax.tree.map(
    lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(),
    *(_outcomes(_swarm(bars, best), jnp.asarray(values)) for values in (rows, told)),
  )
  assert all(jax.tree.leaves(same)), same


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(_races())
def test_the_next_round_goes_on_where_it_must_and_ends_when_nothing_can_matter(race):
  known, size, bars, _ = race
  seen = np.array([len(k) for k in known])
  low, high = racing.intervals(known, size, (0.0, 1.0))
  reach = racing.next_reach(seen, size, low, high, bars)
  free = racing.is_idle(low, high, bars) & racing.is_beaten(low, high)
  assert ((seen <= reach) & (reach <= size)).all()
  assert (reach > seen).any() == ((seen < size) & ~free).any()
  assert not (reach > seen)[free].any()


@hypothesis.given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.data())
def test_bounds_of_a_mean_hold_to_the_last_bit(scores, data):
  scores = np.array(scores)
  cut = data.draw(st.integers(0, len(scores)))
  low, high = racing.intervals([scores[:cut]], len(scores), (-1.0, 1.0))
  assert low[0] <= np.float32(mean(scores)) <= high[0]
  if cut == len(scores):
    assert low[0] == high[0] == np.float32(mean(scores))


def test_a_missing_score_leaves_everything_open():
  low, high = racing.intervals([np.array([1, np.nan]), np.array([0.0])], 2, (0.0, 1.0))
  assert (low[0], high[0], low[1], high[1]) == (-np.inf, np.inf, 0, 0.5)
  bars = racing.Bars(1, np.ones(2, np.float32), np.float32(0), 2)
  assert not racing.is_idle(low, high, bars).any()


def test_the_summary_counts_executed_nodes_and_the_self_check():
  job = system.Job(
    np.zeros((3, 3), bool), np.array([0, 1, -1]), np.arange(3), 1, (0, 1, 2)
  )
  gone = Evaluation(0.0, np.zeros(5), [], unasked=4)
  for turns in (1, 2):
    bars = racing.Bars(1, np.zeros(2), np.float32(0), 2, turns)
    assert racing.summary(bars, [job, job], [gone, gone._replace(unasked=0)]) == {
      "raced": 1,
      "calls_saved": 8 * turns,
    }
  assert racing.summary(None, [], []) == {}
