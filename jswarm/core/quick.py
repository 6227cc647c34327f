"""Programs that are compiled soon rather than well: all that is small beside a model.

Most of what XLA does for a CPU program is LLVM's optimisation, at its highest level
unless told otherwise. Decoding ten graphs takes 6.7 s to compile with it and 2.0 s
without, and then less than a millisecond to run either way.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax

_SOON = {"xla_backend_optimization_level": 1}  # of 0 to 3; 0 also runs slower


def jit(function: Callable, **facts: Any) -> Callable:
  """`jax.jit` that compiles soon where the default backend is a CPU.

  Inside of another jit or vmap it is plain `jax.jit`: the outermost decides.

  Args:
    facts: what `jax.jit` takes beside the function, such as `static_argnums`.
  """
  plain = jax.jit(function, **facts)

  @functools.cache  # not before the first call: to ask for the backend starts it
  def outermost():
    if jax.default_backend() != "cpu":
      return plain
    return jax.jit(function, compiler_options=_SOON, **facts)

  @functools.wraps(function)
  def call(*args, **kwargs):
    leaves = jax.tree.leaves((args, kwargs))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    return (plain if traced else outermost())(*args, **kwargs)

  return call
