"""Tasks: data + prompt + score. `load_task` is the door."""

from jswarm.tasks.base import DataError, Example, FollowUp, Judge, Task, UtilityError
from jswarm.tasks.custom import custom_utility, imported
from jswarm.tasks.kinds import KINDS, PARSERS
from jswarm.tasks.load import load_task
from jswarm.tasks.published import TASKS

__all__ = [
  "KINDS",
  "PARSERS",
  "TASKS",
  "DataError",
  "Example",
  "FollowUp",
  "Judge",
  "Task",
  "UtilityError",
  "custom_utility",
  "imported",
  "load_task",
]
