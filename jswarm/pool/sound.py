"""Experts that are refused before their weights are read, and the pool without them.

what users write -> each entry alone -> `Sound`, or why an expert is left out
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jswarm.core.problems import attempt
from jswarm.formats import chat_template
from jswarm.pool import load
from jswarm.pool.specs import Spec, parse_specs

Entry = str | Mapping[str, str]


class Sound(NamedTuple):
  """What is left of a pool.

  Attributes:
    experts: the entries that are right, as they were written.
    checked: what `load.check_pool` has found of them.
    skipped: {name, or the entry where it has none: what is wrong with it}.
  """

  experts: tuple[Entry, ...]
  checked: load.Checked
  skipped: dict[str, str]


def sound(
  experts: Sequence[Entry],
  base: str = "",
  allow_pickle: bool = False,
  today: str = chat_template.TODAY,
  thinking: bool | None = None,
) -> Sound:
  """The experts that can be loaded; arguments as of `parse_specs` and `check_pool`.

  Raises:
    ValueError: not one is left, with what is wrong with each; or what no expert alone
      is to blame for: a list that is none, an empty one, two experts of one name.
  """
  if not experts or isinstance(experts, (str, Mapping)):
    parse_specs(experts, base)
  # 1. All at once: bases are checked once, and mostly nothing is wrong.
  problems: list[str] = []
  specs = attempt(problems, parse_specs, experts, base) or []
  checked = load.check_pool(specs, allow_pickle, today, thinking, problems)
  if not problems:
    return Sound(tuple(experts), checked, {})
  # 2. Each alone, to know whom to blame.
  kept, skipped = [], {}
  for entry in experts:
    problems = []
    (spec,) = attempt(problems, parse_specs, [entry], base) or [None]
    if spec and not problems:
      load.check_pool([spec], allow_pickle, today, thinking, problems)
    if problems:
      skipped[_name(entry, spec)] = "; ".join(problems)
    else:
      kept.append(entry)
  if not kept:
    reasons = "".join(f"\n  {name}: {why}" for name, why in skipped.items())
    raise ValueError(f"no expert of the pool can be used:{reasons}")
  checked = load.check_pool(parse_specs(kept, base), allow_pickle, today, thinking)
  return Sound(tuple(kept), checked, skipped)


def _name(entry: Entry, spec: Spec | None) -> str:
  if spec:
    return spec.name
  return entry if isinstance(entry, str) else str(dict(entry))
