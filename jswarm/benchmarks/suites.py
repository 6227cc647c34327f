"""All suites by name."""

from collections.abc import Callable

from jswarm.benchmarks import compile as compile_suite
from jswarm.benchmarks import (
  credit,
  decode,
  experts,
  generate,
  methods,
  pso,
  scaling,
  search,
  speculate,
  worlds,
)
from jswarm.benchmarks.harness import Options, Record

SUITES: dict[str, Callable[[Options], list[Record]]] = {
  "generate": generate.run,
  "experts": experts.run,
  "search": search.run,
  "speculate": speculate.run,
  "pso": pso.run,
  "decode": decode.run,
  "scaling": scaling.run,
  "compile": compile_suite.run,
  "worlds": worlds.run,
  "methods": methods.run,
  "credit": credit.run,
}


def chosen(names: list[str]) -> list[str]:
  """The suites that `names` mean, "all" for every one; ValueError lists the known."""
  unknown = sorted(set(names) - {"all", *SUITES})
  if unknown or not names:
    raise ValueError(f"unknown suite {unknown}: allowed are all, {', '.join(SUITES)}.")
  return [name for name in SUITES if name in names or "all" in names]
