"""Suite `methods`: what each way to search finds in a world, beside what luck finds.

  VARIANTS (config fields) x seeds -> run.loop -> dev, test, swarm means, spread

All variants of a step score the same number of systems, on the same dev questions of a
seed; the test questions choose nothing. The pool is loaded once and asked each
identical call once, so that a variant costs what it asks that none before it asked.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from absl import logging
import numpy as np
from scipy import stats

from jswarm.benchmarks import worlds
from jswarm.benchmarks.harness import Options, Record
from jswarm.core import lookup
from jswarm.core.types import Experts, Reply, Request
from jswarm.engine import engine
from jswarm.run import loop
from jswarm.wiring import config as config_lib
from jswarm.wiring import search
from jswarm.wiring.defaults import get_config

PSO = {"role.method": "pso"}
IMPRINT = {**PSO, "search.imprint": True}
ROLE: dict[str, dict[str, Any]] = {
  "random": {"role.method": "random"},
  "pso": PSO,
  "pso greedy": {**PSO, "graph.top_p": 0.0},
  "pso p to 0": {**PSO, "graph.anneal": 10},
  "pso own noise": {**PSO, "graph.noise": "particle"},
  "pso standard": {**PSO, "graph.preferences": "standard"},
  "pso imprint": IMPRINT,
  "pso imprint no repulsion": {**IMPRINT, "role.repel": 0.0},
  "evolution": {"role.method": "evolution"},
}
WEIGHT: dict[str, dict[str, Any]] = {
  "random replace": {"weight.method": "random", "search.credit": "replace"},
  "pso jfk": {"weight.method": "pso", "search.credit": "jfk"},
  "pso replace": {"weight.method": "pso", "search.credit": "replace"},
  "evolution jfk": {"weight.method": "evolution", "search.credit": "jfk"},
  "evolution replace": {"weight.method": "evolution", "search.credit": "replace"},
}
BOTH: dict[str, dict[str, Any]] = {
  "random": {**ROLE["random"], **WEIGHT["random replace"]},
  "as_published": {"search.mode": "as_published"},
  "paper": {"search.mode": "paper"},
  "fixed": {},
}
STEPS = {"role": ROLE, "weight": WEIGHT, "both": BOTH}


@dataclasses.dataclass
class Shared:
  """A pool that is asked each call once, as long as its first weights stand."""

  experts: Experts

  def __post_init__(self):
    self._first, self._standing = self.experts.weights, True
    self._known: dict[Request, Reply] = {}

  def served(self) -> Experts:
    """The pool for one search: it begins on its first weights."""
    self._install(self._first)
    return self.experts._replace(ask=self._ask, install=self._install)

  def _install(self, weights):
    self.experts.install(weights)
    self._standing = weights is self._first

  def _ask(self, requests: Sequence[Request]) -> list[Reply]:
    if not self._standing:
      return self.experts.ask(requests)
    new = list(dict.fromkeys(r for r in requests if r not in self._known))
    self._known.update(zip(new, self.experts.ask(new) if new else []))
    return [self._known[r] for r in requests]


def run(options: Options) -> list[Record]:
  """A row a variant of each world and step that `options` name, or of all."""
  rows = []
  for name in options.worlds or worlds.WORLDS:
    lookup.check("--world", name, worlds.WORLDS)
    for step in options.steps or STEPS:
      lookup.check("--steps", step, STEPS)
      rows += compared(name, step, options)
  return rows


def compared(name: str, step: str, options: Options) -> list[Record]:
  """A row a variant, all or those of `options`; each but the first is compared with it,
  seed by seed."""
  shared, rows, chance = None, [], None
  for variant in options.variants or STEPS[step]:
    lookup.check("--variant", variant, STEPS[step])
    changes, found = STEPS[step][variant], []
    for seed in range(options.seeds):
      config = _config(name, step, changes, seed, options)
      if shared is None:
        resolved = config_lib.resolve(config)
        shared = Shared(engine.make_experts(search.pool(resolved), resolved.engine))
      found.append(_searched(config, shared))
      logging.info("%s, %s, %s, seed %d: %s", name, step, variant, seed, found[-1])
    table = {key: np.array([f[key] for f in found]) for key in found[0]}
    chance = table["test"] if chance is None else chance
    rows.append(_row(name, step, variant, table, chance))
  return rows


def _config(name, step, changes: Mapping[str, Any], seed: int, options: Options):
  small = {"search.graphs": 3, "search.assignments": 10, "search.iterations": 1}
  sizes = {"task.dev_size": 4 if options.small else 50}
  sizes["task.test_size"] = 6 if options.small else 300
  fields = {
    **worlds.WORLDS[name].FIELDS,
    "search.steps": step,
    "search.iterations": 20,
    "role.patience": 99,  # all go on as long
    "weight.patience": 99,
    "seed": seed,
    **sizes,
    **(small if options.small else {}),
    **changes,
  }
  return config_lib.override(get_config(), fields)


def _searched(config, shared: Shared) -> dict[str, float]:
  """What one search found, as numbers."""
  results = loop.run(search.plan(config, experts=shared.served()), None).results
  history = results["history"]
  step = "role" if "role/mean" in history[-1] else "weight"
  means = [row[f"{step}/mean"] for row in history if f"{step}/mean" in row]
  inherited = [r["role/heritability"] for r in history if "role/heritability" in r]
  return {
    "dev": results["dev"]["system"],
    "test": results["test"]["system"]["score"],
    "single": results["test"]["best_single"]["score"],
    "mean_start": means[0],
    "mean_end": means[-1],
    "heritability": float(np.mean(inherited)) if inherited else float("nan"),
  }


def _row(name, step, variant, table, chance) -> Record:
  values = {key: float(np.nanmean(column)) for key, column in table.items()}
  gap = table["test"] - chance
  if len(gap) > 1 and gap.any():
    test = stats.wilcoxon(gap, alternative="greater")
    values |= {"p_over_chance": float(test.pvalue), "wins": int((gap > 0).sum())}
  values |= {"sd": float(table["test"].std()), "seeds": len(gap)}
  known = {key: value for key, value in values.items() if value == value}
  return Record(suite="methods", case=f"{name}, {step}", ours=variant, extra=known)
