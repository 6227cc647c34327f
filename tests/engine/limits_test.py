"""Out of memory: half as much next time, and what did not fit is not tried again."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jswarm.core.types import Candidates, Request
from jswarm.engine import batcher, engine, rectangles, schedule
from jswarm.engine import logits as logits_lib
from jswarm.engine.limits import Limits, is_out_of_memory
from tests import tiny

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


@given(
  st.lists(
    st.tuples(st.sampled_from([512, 1024, 2048]), st.integers(1, 64)), max_size=12
  )
)
@settings(max_examples=60, deadline=None)
def test_what_did_not_fit_is_never_planned_again_nor_with_longer_prompts(failed):
  limits = Limits(64, 2048)
  for length, rows in failed:
    rows = min(rows, limits.rows(length))
    if not limits.halve(length, rows, 256):
      continue
    for longer in (512, 1024, 2048):
      if longer >= length and rows > 1:
        assert limits.rows(longer) < rows
  assert limits.rows(512) >= limits.rows(1024) >= limits.rows(2048) >= 1


def test_long_prompts_that_do_not_fit_leave_short_ones_their_rows():
  limits = Limits(64, 2048)
  assert limits.halve(1024, 64, 2048)
  assert (limits.rows(1024), limits.pack(1024)) == (32, 1024)
  assert (limits.rows(512), limits.pack(512)) == (64, 2048)


def test_one_row_in_the_smallest_pack_cannot_be_halved():
  limits = Limits(1, 128)
  assert not limits.halve(512, 1, 128) and not limits.halve(512, 1, 0)


def test_only_a_device_runs_out_of_memory():
  assert is_out_of_memory(FULL)
  assert not is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL: other"))
  assert not is_out_of_memory(ValueError("RESOURCE_EXHAUSTED"))


def _small(monkeypatch, most):
  """Lanes opened by length; with more than most[length] memory runs out on the way."""
  true, opened = batcher.Batcher._decode, []

  def decode(self, stream, *rest):
    length = self._length
    if not opened or opened[-1] != (length, stream.count):
      opened.append((length, stream.count))
    if stream.count > most.get(length, 1000):
      raise FULL
    return true(self, stream, *rest)

  monkeypatch.setattr(batcher.Batcher, "_decode", decode)
  return opened


def _asked():
  """40 short prompts and 12 long ones, each its own."""
  monkey = [f"{i} " + "x" * (60 if i % 13 >= 10 else 8) for i in range(52)]
  return [Request(i % 3, text, 3 + i % 5) for i, text in enumerate(monkey)]


@pytest.mark.slow
def test_replies_are_those_of_a_run_that_began_with_the_rows_that_fit(monkeypatch):
  monkeypatch.setattr(schedule, "_LONG", 32)
  requests = _asked()
  said = lambda rows: engine.make_experts(
    tiny.pool(tiny.lora_group(3)), tiny.settings(rows=rows)
  )
  fitting = said(3).ask(requests)
  opened = _small(monkeypatch, {32: 1000, 64: 3})
  engine.reset_statistics()
  experts = said(32)
  assert experts.ask(requests) == fitting  # texts and tokens, each once, in order
  failed = [size for size in opened if size[0] == 64 and size[1] > 3]
  assert failed and len(set(failed)) == len(failed)  # no size failed twice
  halved = engine.statistics()["halved"]
  assert halved == len(failed)
  assert engine.statistics()["rows"] == len(requests)  # none was counted twice
  opened.clear()
  assert experts.ask(requests) == fitting
  assert engine.statistics()["halved"] == halved  # what fits is remembered
  assert max(n for length, n in opened if length == 64) <= 3
  assert max(n for length, n in opened if length == 32) > 3  # and short ones are free


@pytest.mark.slow
def test_scores_are_those_of_smaller_rectangles_where_memory_runs_out(monkeypatch):
  asked = [Candidates(i % 3, f"prompt {i}", (" a", " bb")) for i in range(12)]
  score = lambda: engine.make_experts(
    tiny.pool(tiny.lora_group(3)), tiny.settings(form="grouped")
  )
  plain = score().score(asked)
  true, sizes = rectangles.batch, []

  def batch(source, weights, rows, size):
    sizes.append(size)
    if size > 4:
      raise FULL
    return true(source, weights, rows, size)

  monkeypatch.setattr(rectangles, "batch", batch)
  experts = score()
  for _ in range(2):
    found = experts.score(asked)
    for a, b in zip(plain, found, strict=True):
      for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
  failed = [size for size in sizes if size > 4]
  assert failed and len(set(failed)) == len(failed)


def test_a_rectangle_of_one_row_that_does_not_fit_is_an_error(monkeypatch):
  def batch(*arguments):
    raise FULL

  monkeypatch.setattr(rectangles, "batch", batch)
  experts = engine.make_experts(tiny.pool(tiny.lora_group(2)), tiny.settings())
  with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
    experts.score([Candidates(0, "a", ("b",))])


def _fused(monkeypatch, most=1000, breaks_at=-1):
  """Twice the logits of three rows of each of three experts at three steps, rows of the
  prefills that were tried, and of the steps, of which `breaks_at` has no room."""
  true, tried, steps = rectangles.batch, [], []

  def batch(source, weights, rows, size):
    tried.append(size)
    if size > most:
      raise FULL
    return true(source, weights, rows, size)

  step = logits_lib._step

  def stepped(*arguments):
    steps.append(len(arguments[-1]))
    if len(steps) - 1 == breaks_at:
      raise FULL
    return step(*arguments)

  experts = engine.make_experts(
    tiny.pool(tiny.lora_group(3)), tiny.settings(form="grouped")
  )
  asked = [Request(i % 3, f"prompt {i}" + "x" * (7 * i), 3) for i in range(9)]
  with monkeypatch.context() as patch:
    patch.setattr(rectangles, "batch", batch)
    patch.setattr(logits_lib, "_step", stepped)
    for again in range(2):
      found, state = experts.logits.prefill(asked)
      said = [np.stack(found)]
      for t in range(3):
        found, state = experts.logits.step(state, [65 + t + i for i in range(9)])
        said.append(np.stack(found))
      tried += ["again"] * (not again)
  return np.stack(said), tried, steps


@pytest.mark.slow
def test_logits_are_those_of_fewer_rows_where_memory_runs_out(monkeypatch):
  plain, tried, _ = _fused(monkeypatch)
  assert tried == [9, "again", 9]
  found, tried, _ = _fused(monkeypatch, most=3)
  # No size failed twice, no row is lost, and what fits is remembered.
  assert tried == [9, 4, 2, 2, 2, 2, 1, "again", 2, 2, 2, 2, 1]
  np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)
  found, tried, steps = _fused(monkeypatch, breaks_at=1)
  assert tried == [9, "again", 4, 4, 1]
  assert steps[:5] == [9, 9, 4, 5, 4], "the step is made in halves, as are later ones"
  np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-5)


def test_logits_of_one_row_that_do_not_fit_are_an_error(monkeypatch):
  def batch(*arguments):
    raise FULL

  monkeypatch.setattr(rectangles, "batch", batch)
  experts = engine.make_experts(tiny.pool(tiny.lora_group(2)), tiny.settings())
  with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
    experts.logits.prefill([Request(0, "a", 2)])
