"""Identical calls are made once, and never answered by other weights."""

import jax.numpy as jnp
import pytest

from jswarm.memo import Budget, Memo, Meter
from jswarm.types import Request
from tests import fakes


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
      [Request(0, "Q", 5), Request(0, "Q ", 5), Request(0, "Q", 6),
       Request(0, "Q", 5, True)])
  assert len(asked) == 4


def test_three_updates_under_one_name_give_the_replies_of_a_cold_pool():
  experts, _ = fakes.numeric()
  memo = Memo(experts, Meter())
  for step in range(3):
    weights = ({"w": experts.weights[0]["w"] * (step + 1) / 4},)
    memo.install(weights)
    warm = memo.ask([Request(e, "Q", 5) for e in range(4)])
    cold = fakes.numeric()[0]
    cold.install(weights)
    assert warm == cold.ask([Request(e, "Q", 5) for e in range(4)])


def test_weights_that_come_back_find_their_replies_again():
  experts, asked = fakes.numeric()
  memo = Memo(experts, Meter())
  memo.ask([Request(0, "Q", 5)])
  memo.install(({"w": experts.weights[0]["w"] + 1},))
  memo.install(experts.weights)
  memo.ask([Request(0, "Q", 5)])
  assert len(asked) == 1
  memo.install(({"w": jnp.zeros_like(experts.weights[0]["w"])},))
  memo.forget()
  memo.install(experts.weights)
  memo.ask([Request(0, "Q", 5)])
  assert len(asked) == 2


def test_a_memo_that_is_saved_and_restored_asks_nothing_again():
  experts, asked = fakes.numeric()
  memo = Memo(experts, Meter())
  replies = memo.ask([Request(0, "ünï\ud800", 5)])
  other = Memo(experts, Meter())
  other.restore(memo.state())
  assert other.ask([Request(0, "ünï\ud800", 5)]) == replies and len(asked) == 1


@pytest.mark.parametrize("limit, reason", [
    ({"calls": 1}, "budget:calls"), ({"tokens": 2}, "budget:tokens"),
    ({"seconds": 1.0}, "budget:seconds")])
def test_a_spent_budget_stops_the_next_new_call_but_not_a_known_one(limit, reason):
  experts, _ = fakes.numeric()
  ticks = iter(range(0, 100, 3))
  memo = Memo(experts, Meter(**limit), clock=lambda: next(ticks))
  memo.ask([Request(0, "Q", 5)])
  memo.ask([Request(0, "Q", 5)])
  with pytest.raises(Budget) as over:
    memo.ask([Request(0, "R", 5)])
  assert over.value.reason == reason
