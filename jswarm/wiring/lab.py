"""A laboratory: searches of one configuration with this or that changed, over seeds.

  config, folder -> Lab -> runs, rows, methods' rows, measurements; members -> pool_of

Every single search has a workdir of its own in the lab's folder, named after what is
changed in it and its seed; analyses share those that are alike. One that fails is a row
with its reason, and stops no other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from ml_collections import ConfigDict

from jswarm.analysis import runs, series
from jswarm.wiring import config as config_lib
from jswarm.wiring import contest, measure, methods, once, search

Row = dict[str, Any]
Variant = tuple[str, Mapping[str, Any], Mapping[str, Any]]  # name, fields, facts
NO_BASELINES = {"log.baselines": False}  # a search is tested with its own two alone


@dataclasses.dataclass
class Lab:
  """One configuration, analysed over seeds.

  Attributes:
    config: of the search. folder: of all runs; seeds: 0, 1, ...
    judge: of roles, see `measure.verdicts`; "": nobody, proxies label.
    other: the configuration of a second task, or of a second pool.
    trained: the config that made the experts, for methods that train.
    failed: what could not be run, a line each. questions: n on test, of the largest
      test that was seen.
  """

  config: ConfigDict
  folder: pathlib.Path
  seeds: int
  judge: str = ""
  other: ConfigDict | None = None
  trained: ConfigDict | None = None
  failed: list[str] = dataclasses.field(default_factory=list)
  questions: int = 0

  def run(
    self,
    variant: str,
    fields: Mapping[str, Any],
    seed: int,
    config: ConfigDict | None = None,
  ) -> runs.Run:
    """The finished search of that name, made if it is not there.

    Args:
      config: None: the lab's.
    """
    made = self.fields(fields, seed)
    run = once.finished(config or self.config, made, self.workdir(variant, seed))
    self.questions = max(self.questions, runs.questions(run))
    return run

  def row(
    self, variant: str, fields: Mapping[str, Any], seed: int, **facts: Any
  ) -> Row:
    """`runs.row` of a search, with what is varied in it; or why it failed."""
    return self.guarded(
      variant, seed, lambda: runs.row(self.run(variant, fields, seed)), facts
    )

  def rows(self, variants: Iterable[Variant]) -> list[Row]:
    """A `row` of each (variant, fields, facts) in each seed."""
    chosen = list(variants)
    return [
      self.row(variant, fields, seed, **facts)
      for seed in range(self.seeds)
      for variant, fields, facts in chosen
    ]

  def guarded(
    self,
    variant: str,
    seed: int,
    make: Callable[[], Mapping[str, Any]],
    facts: Mapping[str, Any] | None = None,
  ) -> Row:
    """The row that is made, with what it is of; one that fails is told in `failed`."""
    head = {"variant": variant, "seed": seed, **(facts or {})}
    row = once.guarded(head, lambda: {**make(), **head})
    self.failed += series.failures([row])
    return row

  def compared(self, names: Sequence[str]) -> list[Row]:
    """Rows of methods and searches, for the calls of the search."""
    known = methods.known()
    held = contest.Contest(self.config, self.folder, known, trained=self.trained)
    rows = [r for r in held.run(names, self.seeds) if r["method"] in ("fixed", *names)]
    rows = [r for r in rows if r["seed"] < self.seeds]
    self.failed += [
      f"{r['method']}, seed {r['seed']}: {r.get('failed') or r['not_applicable']}"
      for r in rows
      if "test" not in r
    ]
    sizes = [len(r["scores"]) for r in rows if "test" in r]
    self.questions = max([self.questions, *sizes])
    return rows

  def fields(self, fields: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return {**NO_BASELINES, **fields, "seed": seed}

  def workdir(self, variant: str, seed: int) -> pathlib.Path:
    return self.folder / f"{variant}-{seed}"

  def measured(
    self, variant: str, fields: Mapping[str, Any], seed: int, part: str
  ) -> dict[str, Any]:
    """A part of `measure.PARTS` of a finished search."""
    made, folder = self.fields(fields, seed), self.workdir(variant, seed)
    return measure.of_run(self.config, made, folder, part)


def on_task(config: ConfigDict, other: ConfigDict) -> ConfigDict:
  """The configuration on another one's task, in its words; pool and search stay."""
  taken = ("task.", "messages.")
  fields = config_lib.leaves(other)
  return config_lib.override(
    config, {k: v for k, v in fields.items() if k.startswith(taken)}
  )


def members(config: ConfigDict) -> list[Row]:
  """The experts of a pool as `pool.experts` takes them, each with its own base."""
  found = []
  for spec in search.chosen(config_lib.resolve(config)):
    fields = dataclasses.asdict(spec).items()
    found.append({name: value for name, value in fields if value})
  return found


def pool_of(members: Sequence[Row], chosen: Iterable[int]) -> Row:
  """Fields of a pool of some experts; a second one of a name is called name-2."""
  entries: list[Row] = []
  taken: dict[str, int] = {}
  for e in chosen:
    name = members[e]["name"]
    taken[name] = taken.get(name, 0) + 1
    suffix = f"-{taken[name]}" if taken[name] > 1 else ""
    entries.append({**members[e], "name": f"{name}{suffix}"})
  return {"pool.experts": tuple(entries)}
