"""A name that is not among the known ones: the same words wherever one is looked up."""

from collections.abc import Iterable
import difflib
from typing import Any

_CUTOFF = 0.5  # of difflib's ratio: "graphs" still finds "search.graphs"


def near(name: Any, known: Iterable[str]) -> str:
  """'did you mean a or b?' of at most three names like this one, or ''."""
  found = difflib.get_close_matches(str(name), list(known), 3, _CUTOFF)
  return f"did you mean {' or '.join(found)}?" if found else ""


def unknown(what: str, name: Any, known: Iterable[str]) -> str:
  """The message for an unknown name: what it names, all known ones, those like it."""
  known = list(known)
  hint = near(name, known)
  return (
    f"unknown {what} {name!r}; allowed are {', '.join(known)}."
    f"{' ' if hint else ''}{hint[:1].upper()}{hint[1:]}"
  )


def check(where: str, value: Any, allowed: Iterable[str]) -> None:
  """Raises ValueError, naming the field, unless its value is one of the allowed."""
  allowed = list(allowed)
  if value not in allowed:
    raise ValueError(f"{where}={value!r}: allowed are {', '.join(allowed)}.")
