"""What is compiled soon says the same, and is plain jit inside of another program."""

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import quick


def _twice(x, times):
  return x * times


def test_it_says_what_jit_says_and_keeps_its_name():
  made = quick.jit(_twice, static_argnums=1)
  np.testing.assert_array_equal(made(jnp.arange(3), 2), [0, 2, 4])
  assert made.__name__ == "_twice"


def test_inside_of_jit_vmap_and_shapes_the_outermost_decides():
  made = quick.jit(_twice, static_argnums=1)
  outer = jax.jit(lambda x: made(x, 3) + 1)
  np.testing.assert_array_equal(outer(jnp.arange(3)), [1, 4, 7])
  np.testing.assert_array_equal(
    jax.vmap(lambda x: made(x, 3))(jnp.arange(3)), [0, 3, 6]
  )
  assert jax.eval_shape(lambda x: made(x, 3), jnp.arange(3)).shape == (3,)


def test_a_cpu_compiles_it_with_less_effort_than_other_programs(monkeypatch):
  asked = []
  jit = jax.jit
  monkeypatch.setattr(
    jax, "jit", lambda f, **facts: asked.append(facts) or jit(f, **facts)
  )
  made = quick.jit(lambda x: x + 1)
  assert asked == [{}]  # nothing is decided before the first call
  assert made(1) == 2
  assert asked[1]["compiler_options"] == {"xla_backend_optimization_level": 1}
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  other = quick.jit(lambda x: x + 1)
  assert other(1) == 2
  assert [facts for facts in asked[2:] if facts] == []
