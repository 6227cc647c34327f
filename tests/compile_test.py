"""A whole search compiles few programs, and none of them twice."""

import jax
import jax.monitoring
import numpy as np
import pytest

from jswarm import engine, run
from tests import fake_run, tiny

_EVENT = "/jax/core/compile/backend_compile_duration"


def _utility(examples, replies):
  return [float(len(set(reply))) for reply in replies]


def _search():
  experts = engine.make_experts(tiny.pool(tiny.lora_group(3)), tiny.settings(rows=32))
  made = fake_run.plan({"search.iterations": 2, "task.limit": 8}, utility=_utility,
                       experts=experts)
  return run.run(made, None)


@pytest.mark.slow
def test_a_search_compiles_few_programs_and_a_second_one_none():
  engine.reset_statistics()
  first = _search()
  assert engine.statistics()["programs"] <= 16, "prefills and decodes of few shapes"
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
      lambda name, seconds, **kwargs: compiled.append(name) if name == _EVENT else None)
  try:
    second = _search()
  finally:
    jax.monitoring.clear_event_listeners()
  assert not compiled
  assert first.results["history"] == second.results["history"]
  for a, b in zip(jax.tree.leaves(first.state), jax.tree.leaves(second.state)):
    np.testing.assert_array_equal(a, b)
