"""One check for two askers: who stops at the first problem, and who wants all."""

from collections.abc import Callable
from typing import Any


def attempt(problems: list[str] | None, check: Callable, *args: Any) -> Any:
  """check(*args), or None where it fails and `problems` takes what is wrong.

  Only ValueError and OSError are problems of a user; None collects nothing: the error
  is raised.
  """
  try:
    return check(*args)
  except (ValueError, OSError) as error:
    if problems is None:
      raise
    problems += [problem for problem in said(error) if problem not in problems]
    return None


def said(error: Exception) -> list[str]:
  """What an error says: each of its `problems`, where it has several."""
  return list(getattr(error, "problems", ())) or [str(error)]
