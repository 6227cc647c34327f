"""Accelerators keep layers stacked; a CPU unstacks them. Both say the same."""

import pytest

from jswarm.core.types import Request
from jswarm.engine import engine, resident
from tests import tiny

WORDS = "one two three four five six seven eight nine ten one two three four".split()


@pytest.fixture
def stacked(monkeypatch):
  monkeypatch.setattr(resident.Resident, "_layout", lambda self, params: params)


def _requests(count):
  """Short and long prompts, replies of many lengths: lanes are refilled and moved."""
  return [
    Request(
      i % 3,
      " ".join(WORDS[i % 4 : i % 4 + 1 + i % 11]) * (1 + 3 * (i % 17 == 0)),
      3 + i % 9,
    )
    for i in range(count)
  ]


def _said(group, requests, **fields):
  experts = engine.make_experts(tiny.pool(group), tiny.settings(**fields))
  return [reply.text for reply in experts.ask(requests)]


@pytest.mark.parametrize(
  "form", ["grouped", pytest.param("masked", marks=pytest.mark.slow)]
)
def test_stacked_layers_say_what_unstacked_ones_say(form, request):
  requests = _requests(24)
  expected = _said(tiny.lora_group(3), requests, form=form, rows=8)
  request.getfixturevalue("stacked")
  assert _said(tiny.lora_group(3), requests, form=form, rows=8) == expected


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"form": "merged"}, {"rows": 32}, {"int8": True}])
def test_stacked_layers_are_merged_moved_and_rounded_alike(fields, request):
  requests = _requests(40)
  expected = _said(tiny.lora_group(3), requests, **fields)
  request.getfixturevalue("stacked")
  assert _said(tiny.lora_group(3), requests, **fields) == expected
