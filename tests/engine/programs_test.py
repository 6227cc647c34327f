"""A deep base on CPU: small programs in a Python loop instead of one large one."""

import pytest

from jswarm.core.types import Request
from jswarm.engine import engine, programs
from tests import tiny

REQUESTS = [
  Request(i % 3, "a prompt " + "of some words " * (i % 4), 3 + 5 * (i % 3), False)
  for i in range(20)
]


def _said(**fields):
  pool = tiny.pool(tiny.lora_group(3))
  return engine.make_experts(pool, tiny.settings(**fields)).ask(REQUESTS)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "group"), [("grouped", 1), ("masked", 2)])
def test_a_deep_base_says_what_it_says_in_one_program(monkeypatch, form, group):
  whole = _said(form=form)
  assert len({reply.text for reply in whole}) > 5
  monkeypatch.setattr(programs, "SHALLOW", 1)
  monkeypatch.setattr(programs, "_GROUP", group)
  steps = []
  monkeypatch.setattr(
    programs, "_steps", lambda *a, f=programs._steps: steps.append(1) or f(*a)
  )
  programs.function.cache_clear()
  assert _said(form=form) == whole
  assert steps


@pytest.mark.parametrize(
  ("layers", "group"), [(30, 5), (18, 3), (28, 4), (26, 2), (17, 1)]
)
def test_groups_of_layers_divide_them(layers, group):
  assert programs.group_of(layers) == group
