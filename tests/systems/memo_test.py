"""Identical calls are made once, and never answered by other weights."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jswarm.core import digests
from jswarm.core.types import Request
from jswarm.engine import engine
from jswarm.systems.budget import Budget, Meter
from jswarm.systems.memo import Memo
from jswarm.systems.weights import Standing, Weights, named, versions
from tests import fakes, tiny


def test_identical_requests_reach_the_pool_once():
  experts, asked = fakes.numeric()
  memo = Memo(experts, Meter())
  request = Request(0, "Q", 5)
  first = memo.ask([request, Request(1, "Q", 5), request])
  assert memo.ask([request]) == [first[0]] and first[0] == first[2]
  assert len(asked) == 2


def test_what_differs_in_prompt_limit_or_template_is_another_call():
  experts, asked = fakes.numeric()
  Memo(experts, Meter()).ask(
    [
      Request(0, "Q", 5),
      Request(0, "Q ", 5),
      Request(0, "Q", 6),
      Request(0, "Q", 5, True),
    ]
  )
  assert len(asked) == 4


def test_three_updates_under_one_name_give_the_replies_of_a_cold_pool():
  experts, _ = fakes.numeric()
  memo = Memo(experts, Meter())
  for step in range(3):
    weights = ({"w": experts.weights[0]["w"] * (step + 1) / 4},)
    on = [memo.named(weights)] * 4
    warm = memo.ask([Request(e, "Q", 5) for e in range(4)], on)
    cold = fakes.numeric()[0]
    cold.install(weights)
    assert warm == cold.ask([Request(e, "Q", 5) for e in range(4)])


def test_weights_that_come_back_find_their_replies_again():
  experts, asked = fakes.numeric()
  memo = Memo(experts, Meter())
  memo.ask([Request(0, "Q", 5)])
  moved = memo.named(({"w": experts.weights[0]["w"] + 1},))
  memo.ask([Request(0, "Q", 5)], [moved])
  memo.ask([Request(0, "Q", 5)], [memo.named(experts.weights)])
  assert len(asked) == 2
  memo.forget(({"w": jnp.zeros_like(experts.weights[0]["w"])},))
  memo.ask([Request(0, "Q", 5)])
  assert len(asked) == 3


def test_a_memo_that_is_saved_and_restored_asks_nothing_again():
  experts, asked = fakes.numeric()
  memo = Memo(experts, Meter())
  replies = memo.ask([Request(0, "ünï\ud800", 5)])
  other = Memo(experts, Meter())
  other.restore(memo.state())
  assert other.ask([Request(0, "ünï\ud800", 5)]) == replies and len(asked) == 1


@pytest.mark.parametrize(
  "limit, reason",
  [
    ({"calls": 1}, "budget:calls"),
    ({"tokens": 2}, "budget:tokens"),
    ({"seconds": 1.0}, "budget:seconds"),
  ],
)
def test_a_spent_budget_stops_the_next_new_call_but_not_a_known_one(limit, reason):
  experts, _ = fakes.numeric()
  ticks = iter(range(0, 100, 3))
  memo = Memo(experts, Meter(**limit), clock=lambda: next(ticks))
  memo.ask([Request(0, "Q", 5)])
  memo.ask([Request(0, "Q", 5)])
  with pytest.raises(Budget) as over:
    memo.ask([Request(0, "R", 5)])
  assert over.value.reason == reason


def _pool_on(base, tokenizer=None):
  """Two adapters on a base, and a whole model, which never moves."""
  group = tiny.lora_group(2)
  moved = dataclasses.replace(
    group, params=base, tokenizer=tokenizer or group.tokenizer
  )
  return engine.make_experts(
    tiny.pool(moved, tiny.full_group(1, first=2)), tiny.settings()
  )


def test_replies_of_another_base_or_tokenizer_are_never_taken():
  base = tiny.base()
  experts = _pool_on(base)
  named = versions(experts, experts.weights)
  same = _pool_on(jax.tree.map(jnp.array, base))
  assert versions(same, same.weights) == named
  other = dict(base, embed=base["embed"].at[3, 1].multiply(1.0001))
  changed = _pool_on(other)
  found = versions(changed, changed.weights)
  assert found[0] != named[0] and found[1] != named[1] and found[2] == named[2]


@pytest.mark.parametrize(
  "change",
  [
    lambda x: x.at[0, 0].add(1e-7),
    lambda x: x[::-1],
    lambda x: x.T,
    lambda x: x.at[0].set(x[1]).at[1].set(x[0]),
    lambda x: x.astype(jnp.bfloat16),
  ],
)
def test_a_fingerprint_sees_values_order_shape_and_dtype(change):
  x = jnp.arange(12, dtype=jnp.float32).reshape(4, 3) / 7
  assert digests.fingerprint({"a": x}) == digests.fingerprint({"a": jnp.array(x)})
  assert digests.fingerprint({"a": change(x)}) != digests.fingerprint({"a": x})
  assert digests.fingerprint({"b": x}) != digests.fingerprint({"a": x})


def test_a_judge_of_the_pool_rates_on_the_weights_it_came_with():
  experts, asked = fakes.numeric()
  kept = Memo(experts, Meter())
  judge = kept.as_loaded(1)
  request = Request(0, "rate this", 5)
  before = judge([request])
  moved = tuple({"w": tree["w"] + 0.3} for tree in experts.weights)
  on = [kept.named(moved)]
  changed = kept.ask([Request(1, "rate this", 5)], on)
  assert judge([request]) == before != changed
  assert kept.ask([Request(1, "another", 5)], on)[0].text == changed[0].text
  kept.forget()
  calls = len(asked)
  judge([request])  # verdicts of the judge are kept while it cannot move
  assert len(asked) == calls


def test_a_call_that_fails_is_not_kept():
  experts, _ = fakes.numeric()

  def ask(requests):
    raise RuntimeError("device lost")

  kept = Memo(experts._replace(ask=ask), Meter())
  with pytest.raises(RuntimeError, match="device lost"):
    kept.ask([Request(0, "x", 5)])
  assert kept.state() == {} and kept._meter.spent["made"] == 0


def _counting(experts):
  """The pool, and every install that reaches it."""
  installs = []

  def install(weights):
    installs.append(weights)
    experts.install(weights)

  return experts._replace(install=install), installs


def test_weights_are_moved_only_when_a_call_needs_others():
  experts, installs = _counting(fakes.numeric()[0])
  memo = Memo(experts, Meter())
  one = experts.weights[0]["w"].at[1].add(0.1)  # expert 1 alone differs
  moved = memo.named(({"w": one},))
  requests = [Request(e, "Q", 5) for e in range(4)]
  memo.ask(requests)
  memo.ask(requests[:1] + requests[2:], [moved] * 3)  # the same calls
  assert installs == []
  new = [Request(e, "R", 5) for e in range(4)]
  memo.ask(new + new, [memo.first] * 4 + [moved] * 4)
  assert len(installs) == 1 and installs[0] is moved.trees
  memo.ask([Request(0, "S", 5)])  # is the same in both: nothing is moved back
  memo.ask([Request(1, "S", 5)], [moved])
  assert len(installs) == 1


def test_calls_on_many_weights_in_one_wave_equal_those_made_one_by_one():
  experts, _ = fakes.numeric()
  memo = Memo(experts, Meter())
  trees = [({"w": experts.weights[0]["w"] * s},) for s in (0.5, 0.25, 0.75)]
  requests = [Request(e, "Q", 5) for e in range(4)]
  on = [memo.named(tree) for tree in trees]
  mixed = memo.ask(requests * 3, [on[i // 4] for i in range(12)])
  for i, tree in enumerate(trees):
    cold = fakes.numeric()[0]
    cold.install(tree)
    assert mixed[4 * i : 4 * i + 4] == cold.ask(requests)


def test_every_call_is_made_once_on_weights_that_have_its_version():
  standing = Standing(fakes.numeric()[0])
  make = lambda *versions: Weights((), versions)
  a, b, c = make("0", "1", "2"), make("0", "x", "2"), make("y", "x", "z")
  calls = [(0, a), (1, b), (2, c), (1, c), (0, c), (2, a)]
  parts = standing.parts(calls)
  assert sorted(i for _, mine in parts for i in mine) == list(range(6))
  for weights, mine in parts:
    for i in mine:
      expert, wanted = calls[i]
      assert weights.versions[expert] == wanted.versions[expert]
  assert len(parts) == 3


def test_named_weights_are_worked_out_once_and_known_by_their_arrays():
  experts, _ = fakes.numeric()
  memo = Memo(experts, Meter())
  assert memo.named(experts.weights) is memo.first
  moved = ({"w": experts.weights[0]["w"] + 1},)
  assert memo.named(moved) is memo.named(moved)
  assert memo.named(moved).versions == named(experts, moved).versions
