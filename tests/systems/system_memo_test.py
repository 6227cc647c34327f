"""A system that was run before on the same weights is looked up; nobody can tell."""

import dataclasses

import jax
import numpy as np
import pytest

from jswarm.run import loop
from jswarm.swarm import steps
from jswarm.systems import prompts, system, waves
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.systems.prompts import Question
from jswarm.systems.system_memo import SystemMemo
from tests import fakes
from tests.fake_run import plan

WORDING = prompts.Wording(
  first="first",
  middle="middle",
  last="last",
  response="response {k}: {reply}",
  question="{prompt}",
)


def _evaluator(memo, cached, task=None, wording=WORDING, judge=None):
  return Evaluator(task, memo, wording, judge, SystemMemo(memo) if cached else None)


def _search(cached, iterations=6, **fields):
  """(bits of the state, metrics, spent, what reached the pool)."""
  experts, asked = fakes.numeric()
  made = plan(fields, experts=experts)
  meter = Meter()
  memo = Memo(experts, meter)
  problem = steps.Problem(
    experts, _evaluator(memo, cached, made.task, made.wording), made.task.dev
  )
  key = jax.random.key(3)
  state, infos = steps.start(key, problem, made.settings)
  for _ in range(iterations):
    latest = steps.positions(state) or state.initial.weights
    memo.forget(steps.role_weights(state, made.settings), latest)
    state, more = steps.iterate(key, state, problem, made.settings)
    infos = infos + more
  bits = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
  return bits, [info.metrics for info in infos], meter.spent, asked


@pytest.fixture
def jobs_run(monkeypatch):
  """How many systems each `waves.run` was given."""
  given, inner = [], waves.run

  def counted(items, *args, **fields):
    given.append(len({id(item.answerer) for item in items}))
    return inner(items, *args, **fields)

  monkeypatch.setattr(waves, "run", counted)
  return given


@pytest.mark.parametrize(
  "fields",
  [
    {"search.steps": "role"},
    {"search.steps": "role", "search.mode": "as_published"},
    {},
    {"search.mode": "as_published"},
    {"search.role_weights": "current"},
  ],
)
def test_a_search_with_the_cache_is_the_one_without_bit_for_bit(jobs_run, fields):
  plain = _search(False, **fields)
  without = sum(jobs_run)
  jobs_run.clear()
  assert _search(True, **fields) == plain
  assert sum(jobs_run) < without * (0.8 if fields.get("search.steps") else 1)


def _chain(assignment=(0, 1, 2), idle_edge=False):
  """0 -> 1; node 2 never runs."""
  edges = np.zeros((3, 3), bool)
  edges[0, 1], edges[1, 2] = True, idle_edge
  return system.Job(edges, np.array([0, 1, -1]), np.arange(3), 1, assignment)


def _cache():
  experts, asked = fakes.numeric()
  meter = Meter()
  memo = Memo(experts, meter)
  return SystemMemo(memo), memo, meter, asked


def _ask(cache, memo, jobs, questions, wording=WORDING, limit=9, on=None):
  """Replies [len(jobs)][X], on the weights `on`."""
  jobs = [dataclasses.replace(job, weights=on and memo.named(on)) for job in jobs]
  terms = prompts.Terms(memo.experts, wording, limit, False)
  replies = iter(cache.run(waves.grid(jobs, questions), terms))
  return [[next(replies) for _ in asked] for asked in questions]


def test_a_hit_composes_nothing_and_counts_all_calls(jobs_run):
  cache, memo, meter, asked = _cache()
  questions = [Question("a"), Question("b")]
  first = _ask(cache, memo, [_chain()], [questions])
  terms = prompts.Terms(memo.experts, WORDING, 9, False)
  plain = waves.run(waves.grid([_chain()], [questions]), terms, memo.ask)
  assert first == [[answered.reply for answered in plain]]
  meter.spent["calls"] = 0
  jobs_run.clear()
  assert _ask(cache, memo, [_chain(), _chain()], [questions, questions[1:]]) == [
    first[0],
    first[0][1:],
  ]
  assert jobs_run == [0] and meter.spent["calls"] == 6
  assert meter.spent["made"] == len(asked) == 4


def test_only_what_a_system_was_never_asked_is_run():
  cache, memo, meter, asked = _cache()
  _ask(cache, memo, [_chain()], [[Question("a")]])
  del asked[:]
  _ask(cache, memo, [_chain()], [[Question("a"), Question("b")]])
  assert len(asked) == 2 and all("b" in r.prompt.split("\n")[-1] for r in asked)
  assert meter.spent["calls"] == 2 + 4


def test_nodes_that_never_run_are_no_part_of_a_system(jobs_run):
  cache, memo, _, _ = _cache()
  jobs = [_chain(), _chain((0, 1, 3)), _chain(idle_edge=True)]
  _ask(cache, memo, jobs, [[Question("a")]] * 3)
  assert jobs_run == [1]


@pytest.mark.parametrize(
  "job, wording, limit, question",
  [
    (_chain((0, 2, 2)), WORDING, 9, Question("a")),
    (_chain(), WORDING, 8, Question("a")),
    (dataclasses.replace(_chain(), end=0), WORDING, 9, Question("a")),
    (_chain(), prompts.Wording(**{**vars(WORDING), "last": "x"}), 9, Question("a")),
    (_chain(), WORDING, 9, Question("a", ("x", "y", "z"))),
    (
      dataclasses.replace(_chain(), position=np.array([1, 0, 2])),
      WORDING,
      9,
      Question("c", ("x", "y", "z")),
    ),
  ],
)
def test_whatever_a_reply_depends_on_is_another_system(
  jobs_run, job, wording, limit, question
):
  cache, memo, _, _ = _cache()
  _ask(cache, memo, [_chain()] * 2, [[Question("a")], [Question("c", ("x", "y", "z"))]])
  jobs_run.clear()
  _ask(cache, memo, [job], [[question]], wording, limit)
  assert jobs_run == [1]


def test_what_the_memo_forgets_is_asked_again_and_what_it_holds_is_not():
  cache, memo, _, asked = _cache()
  old = memo.experts.weights
  moved = ({"w": old[0]["w"].at[1].add(0.1)},)  # expert 1 alone
  jobs = [_chain((0, 1, 2)), _chain((0, 3, 2))]
  for kept, known in (((old,), [True, True]), ((), [False, True])):
    before = _ask(cache, memo, jobs, [[Question("a")]] * 2, on=old)
    assert _ask(cache, memo, jobs, [[Question("a")]] * 2, on=moved)[0] != before[0]
    memo.forget(*kept, moved)
    for job, hit in zip(jobs, known):
      del asked[:]
      _ask(cache, memo, [job], [[Question("a")]], on=old)
      assert (len(asked) == 0) == hit


def test_a_memo_that_is_restored_leaves_nothing_of_another_one(jobs_run):
  cache, memo, _, asked = _cache()
  _ask(cache, memo, [_chain()], [[Question("a")]])
  memo.restore({})
  del asked[:]
  _ask(cache, memo, [_chain()], [[Question("a")]])
  assert jobs_run == [1, 1] and len(asked) == 2


def _run(monkeypatch, cached, workdir, **fields):
  """A whole run, whose evaluator has a cache or none; its results but the seconds."""

  def evaluator(task, memo, wording, judge=None, cache=None):
    del cache
    return _evaluator(memo, cached, task, wording, judge)

  with monkeypatch.context() as patch:
    patch.setattr(loop, "Evaluator", evaluator)
    results = loop.run(plan(fields), workdir and str(workdir)).results
  return {k: v for k, v in results.items() if k != "timing"}


@pytest.mark.parametrize(
  "fields",
  [{"search.steps": "role", "role.patience": 30}, {"search.mode": "as_published"}],
)
def test_results_do_not_depend_on_the_cache_nor_on_where_a_run_was_resumed(
  monkeypatch, tmp_path, fields
):
  plain = _run(monkeypatch, False, None, **fields, **{"search.iterations": 6})
  for stop in (1, 4):
    workdir = tmp_path / str(stop)
    _run(monkeypatch, True, workdir, **fields, **{"search.iterations": stop})
    whole = _run(monkeypatch, True, workdir, **fields, **{"search.iterations": 6})
    assert whole == plain


def test_a_budget_that_ends_inside_a_wave_is_spent_the_same(monkeypatch):
  for calls in (60, 100, 140, 180):
    fields = {"budget.calls": calls, "search.iterations": 50}
    assert _run(monkeypatch, True, None, **fields) == _run(
      monkeypatch, False, None, **fields
    )
