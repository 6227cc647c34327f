"""Searches and methods on one pool, for one budget of calls: the rows of a comparison.

  config, seeds -> search (its calls are the budget) -> methods -> rows.jsonl

Every row is on disk as soon as it is there; the same command goes on behind the last
one. A method that fails is a row with its reason, and never stops the others.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from absl import logging
from ml_collections import ConfigDict
import numpy as np

from jswarm.core import files, lookup
from jswarm.systems import scores
from jswarm.wiring import config as config_lib
from jswarm.wiring import methods, once

# Searches by name: what they change in a configuration. The first sets the budget.
SEARCHES: dict[str, dict[str, Any]] = {
  "fixed": {},
  "paper": {"search.mode": "paper"},
  "as_published": {"search.mode": "as_published"},
  "role_only": {"search.steps": "role"},
  "weight_only": {"search.steps": "weight"},
}
ROWS = "rows.jsonl"


@dataclasses.dataclass
class Contest:
  """One configuration, compared over seeds.

  Attributes:
    config: of the search. folder: of rows.jsonl and the searches' workdirs.
    known: methods by name. variant: of all methods.
    trained: the config that made the experts, for methods that train.
  """

  config: ConfigDict
  folder: pathlib.Path
  known: Mapping[str, Any]
  variant: str = "paper"
  trained: ConfigDict | None = None

  def run(self, names: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """All rows, old and new.

    Args:
      names: of `SEARCHES` and methods; "fixed" is always among them. seeds: 0, 1, ...

    Raises:
      ValueError: an unknown name, or rows of another configuration in the folder.
    """
    for name in names:
      lookup.check("--methods", name, [*SEARCHES, *self.known])
    once.claim(self.folder, self.config, "--out", variant=self.variant)
    rows = self.rows()
    done = {(row["method"], row["seed"]) for row in rows}
    for seed in range(seeds):
      todo = [n for n in dict.fromkeys(["fixed", *names]) if (n, seed) not in done]
      for row in self._of_seed(seed, todo, rows):
        rows.append(row)
        with (self.folder / ROWS).open("a", encoding="utf-8") as file:
          file.write(json.dumps(files.clean(row)) + "\n")
        logging.info("seed %d, %s: %s", seed, row["method"], _told(row))
    return rows

  def rows(self) -> list[dict[str, Any]]:
    """What is on disk; a line that was cut short by a kill is left out."""
    path, found = self.folder / ROWS, []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
      try:
        found.append(json.loads(line))
      except ValueError:
        logging.warning("%s: a line is cut short; its method runs again.", path)
    if path.exists():  # else the next row would be written behind half a line
      files.write_jsonl(path, found)
    return found

  def _of_seed(self, seed, todo, rows) -> Iterator[dict[str, Any]]:
    if not todo:
      return
    config = config_lib.override(self.config, {"seed": seed})
    # 1. The searches, each in a workdir of its own.
    budget = _budget(rows, seed)
    for name in [n for n in todo if n in SEARCHES]:
      row = self._guarded(name, seed, lambda n=name: self._searched(config, n, seed))
      budget = row.get("calls", budget) if name == "fixed" else budget
      yield row
    # 2. The methods, on one pool that is loaded for all of them.
    others = [n for n in todo if n not in SEARCHES]
    if others:
      bench = methods.bench(config, trained=self.trained)
      for name in others:
        yield self._guarded(
          name,
          seed,
          lambda n=name: bench.row(
            n, bench.setting(seed, budget, self.variant), self.known
          ),
        )

  def _searched(self, config, name, seed) -> dict[str, Any]:
    workdir = str(self.folder / f"{name}-{seed}")
    # Star, chain, a vote and random search are rows of their own here.
    fields = {**SEARCHES[name], "log.baselines": False}
    result = once.searched(config, fields, workdir)
    tested, history = result.tested["system"], result.results["history"]
    return {
      "method": name,
      "variant": "",
      "seed": seed,
      "dev": result.results["dev"]["system"],
      "test": scores.summary(tested.scores),
      "scores": tested.scores.tolist(),
      "error": tested.error,
      "calls": history[-1]["calls"],
      "calls_test": _asked(result),
      "curve": [(row["calls"], row["best"]) for row in history],
      "notes": {"edges": result.results["system"]["edges"]},
    }

  def _guarded(self, name, seed, make) -> dict[str, Any]:
    head = {"method": name, "variant": self.variant, "seed": seed}
    return once.guarded(head, make)


def _budget(rows, seed):
  """Calls of the fixed search of a seed that is done already; 0: none is."""
  of_seed = [r for r in rows if r["seed"] == seed and r["method"] == "fixed"]
  return of_seed[0].get("calls", 0) if of_seed else 0


def _asked(result) -> int:
  """Calls that the found system needs for all test questions: one a node that runs."""
  nodes = int(np.asarray(result.system.graph.dag.active).sum())
  return nodes * len(result.tested["system"].scores)


def _told(row):
  reason = row.get("not_applicable") or row.get("failed")
  return reason or f"dev {row['dev']}, test {row['test']['score']}"
