"""Device programs are lowered for devices that are not here."""

import jax
import jax.numpy as jnp
import pytest

from jswarm.benchmarks import lowering
from jswarm.benchmarks.lowering import Program


@pytest.mark.slow
def test_a_decode_and_a_move_are_lowered_for_cuda_and_tpu():
  found = lowering.in_child(small=True, only="decode masked bfloat16")
  found |= lowering.in_child(small=True, only="ask adapters")
  names = "decode masked bfloat16", "ask adapters"
  assert found == {f"{p}, {n}": "" for n in names for p in ("cuda", "tpu")}


def test_what_cannot_be_lowered_is_told():
  def there(x):
    return jax.lax.with_sharding_constraint(x, "nowhere")

  error = lowering.lower(Program(there, (jnp.ones(2),)), "cuda")
  assert error and "Error" in error


def test_modules_are_told_the_other_device_and_then_this_one_again():
  with lowering._as_on("tpu"):
    assert jax.default_backend() == "tpu"
  assert jax.default_backend() == "cpu"


def test_every_kind_form_and_dtype_has_a_program():
  names = " ".join(lowering.all_programs(small=True))
  for kind in ("prefill", "prefill after a prefix", "decode"):
    for form in ("grouped", "masked", "merged"):
      for dtype in ("float32", "bfloat16"):
        assert f"{kind} {form} {dtype}" in names
  for name in ("leap", "take", "grow", "decode int8", "ask graphs", "roll back graphs"):
    assert name in names


@pytest.mark.slow
def test_all_programs_are_lowered_for_cuda_and_tpu():
  wrong = {name: error for name, error in lowering.in_child().items() if error}
  assert not wrong
