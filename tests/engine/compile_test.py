"""A whole search compiles few programs, and none of them twice."""

import contextlib

import jax
import jax.monitoring
import numpy as np
import pytest

from jswarm.engine import adapter_forms, engine
from jswarm.run import loop
from tests import fake_run, tiny

_EVENT = "/jax/core/compile/backend_compile_duration"


def _utility(examples, replies):
  return [float(len(set(reply))) for reply in replies]


def _search():
  experts = engine.make_experts(tiny.pool(tiny.lora_group(3)), tiny.settings(rows=32))
  made = fake_run.plan(
    {"search.iterations": 2, "task.limit": 8}, utility=_utility, experts=experts
  )
  return loop.run(made, None)


@contextlib.contextmanager
def _compiled():
  """What is compiled inside, down to the smallest program."""
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **kwargs: compiled.append(name) if name == _EVENT else None
  )
  try:
    yield compiled
  finally:
    jax.monitoring.clear_event_listeners()


@pytest.mark.slow
@pytest.mark.parametrize(
  "quick, most", [(adapter_forms._QUICK, 16), (0, 20)], ids=["lanes", "finer lanes"]
)
def test_a_search_compiles_few_programs_and_a_second_one_none(monkeypatch, quick, most):
  monkeypatch.setattr(adapter_forms, "_QUICK", quick)
  jax.clear_caches()  # what other tests compiled counts too
  engine.reset_statistics()
  with _compiled() as programs:
    first = _search()
  assert 0 < len(programs) <= 350  # operations outside of jit are programs too
  assert engine.statistics()["programs"] <= most, "programs of few shapes"
  with _compiled() as again:
    second = _search()
  assert not again
  assert first.results["history"] == second.results["history"]
  for a, b in zip(jax.tree.leaves(first.state), jax.tree.leaves(second.state)):
    np.testing.assert_array_equal(a, b)
