"""Analyses by name: gathered, made numbers of, and written.

  names, config -> Lab -> GATHER[name] -> analyses.write -> NAME.json, NAME.svg, NAME.md

The same command goes on where it was killed: a search that is finished is read, not run
again.
"""

import dataclasses
import pathlib
from typing import Any

from absl import logging

from jswarm.analysis import analyses
from jswarm.core import lookup
from jswarm.wiring import config as config_lib
from jswarm.wiring import once
from jswarm.wiring.gather import GATHER
from jswarm.wiring.lab import Lab

NEED_OTHER = ("mixed", "transfer")  # a second configuration


def names(wanted: str) -> list[str]:
  """The analyses that are wanted: "all", or some by comma.

  Raises:
    ValueError: an unknown one; lists the known ones.
  """
  if wanted == "all":
    return list(GATHER)
  found = [name.strip() for name in wanted.split(",")]
  for name in found:
    lookup.check("--analysis", name, ["all", *GATHER])
  return found


def run(wanted: str, lab: Lab) -> dict[str, dict[str, Any]]:
  """{name: what its JSON holds} of the analyses that are wanted, written in the lab's
  folder; of "all" those that need a second configuration are left out without one.

  Raises:
    ValueError: an unknown analysis, or the folder is of another configuration.
  """
  chosen = names(wanted)
  once.claim(pathlib.Path(lab.folder), lab.config, "--workdir", variant="paper")
  if wanted == "all" and lab.other is None:
    logging.warning("without --other: %s are left out.", ", ".join(NEED_OTHER))
    chosen = [name for name in chosen if name not in NEED_OTHER]
  if len(chosen) == 1:
    return {chosen[0]: one(chosen[0], lab)}
  found = {}
  for name in chosen:  # one that fails stops no other
    told = once.guarded({"analysis": name}, lambda: one(name, lab))
    if isinstance(told["failed"], str):
      told = {**told, "findings": "not made.", "failed": [told["failed"]]}
    found[name] = told
  return found


def one(name: str, lab: Lab) -> dict[str, Any]:
  """One analysis, written; what of it failed is told in it."""
  fresh = dataclasses.replace(lab, failed=[], questions=0)
  gathered = GATHER[name](fresh)
  told = analyses.write(
    name,
    {
      **gathered,
      "seeds_run": list(range(lab.seeds)),
      "questions": fresh.questions,
      "config": config_lib.changed(lab.config),
      "failed": list(dict.fromkeys(fresh.failed)),
    },
    lab.folder,
  )
  logging.info("%s: %s", name, told["findings"])
  return told
