"""A run and its configuration -> what each part of its system is worth, beside it."""

import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from jswarm.core.files import write_json
from jswarm.systems import ablations
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, system

FILE = "ablations.json"


def measure(workdir: str | os.PathLike, config: ConfigDict) -> dict[str, Any]:
  """Scores the saved system of a run on dev without each node and edge; writes them.

  Args:
    workdir: of the finished run. config: of its search.

  Returns:
    What `systems.ablations.measure` gives; it is also in ablations.json.

  Raises:
    ValueError: no finished run, or another configuration than that of the search.
  """
  folder = pathlib.Path(workdir)
  resolved = config_lib.resolve(config)
  task = search.task(resolved)
  judge = search.judge(resolved, task, alone=True)
  found = system.load_system(folder / "best")
  scored = search.defining(resolved, task)
  system.check(folder / "best", found.description, resolved, task, scored)
  memo = Memo(found.experts)
  rates = judge(memo) if judge else None
  evaluator = Evaluator(task, memo, found.wording, rates)
  measured = ablations.measure(evaluator, found.job, task.dev, resolved.seed)
  write_json(folder / FILE, measured)
  return measured
