"""The user's own utility: `fn(examples, replies) -> scores`, checked every time."""

from collections.abc import Callable, Sequence
import functools
import importlib
import math
from typing import Any

import numpy as np

from jswarm.core import lookup
from jswarm.tasks.base import Example, ScoreFn, UtilityError

CustomFn = Callable[[list[dict[str, Any]], list[str]], Sequence[float]]


def custom_utility(fn: CustomFn | str) -> ScoreFn:
  """A checked score function from the user's function, or "pkg.module:function".

  The function is called with X records and X replies and gives X finite floats,
  greater is better, in any range. A record is a fresh dict of the user's own
  fields; `id`, `question`, `answer`, `choices`, `where` are added where they lack.

  Raises:
    ValueError: the string names nothing that can be imported and called.
  """
  if isinstance(fn, str):
    fn = imported(fn)
  if not callable(fn):
    raise ValueError(
      f"utility is {fn!r}; allowed are a function (examples, replies)"
      ' -> scores and a string "pkg.module:function".'
    )
  return functools.partial(_score, fn)


def name_of(fn: CustomFn | str) -> str:
  """How a utility is named in a record of a run."""
  if isinstance(fn, str):
    return fn
  kind = fn if hasattr(fn, "__qualname__") else type(fn)
  return f"{kind.__module__}:{kind.__qualname__}"


def _score(
  fn: CustomFn, examples: Sequence[Example], replies: Sequence[str]
) -> np.ndarray:
  records = [_record(example) for example in examples]
  try:
    scores = fn(records, list(replies))
  except Exception as error:
    raise UtilityError(
      f"the utility {name_of(fn)} raised {type(error).__name__}: {error}"
    ) from error
  return _checked(scores, examples, name_of(fn))


def _record(example: Example) -> dict[str, Any]:
  known = {
    "id": example.id,
    "question": example.question,
    "answer": example.answer,
    "choices": example.choices,
    "where": example.where,
  }
  return {**known, **example.record}


def _checked(scores: Any, examples: Sequence[Example], name: str) -> np.ndarray:
  """float64 [X], or a `UtilityError` that names what was found."""
  allowed = (
    f"allowed is a list or array of {len(examples)} finite numbers, one an"
    " example, in their order."
  )
  if scores is None or isinstance(scores, (str, bytes, dict, set)):
    found = "nothing (None)" if scores is None else f"a {type(scores).__name__}"
    raise UtilityError(f"the utility {name} gave {found}; {allowed}")
  try:
    items = list(scores)
  except TypeError as error:
    raise UtilityError(
      f"the utility {name} gave a single {type(scores).__name__}; {allowed}"
    ) from error
  if len(items) != len(examples):
    raise UtilityError(f"the utility {name} gave {len(items)} scores; {allowed}")
  values = [_number(item) for item in items]
  bad = [k for k, v in enumerate(values) if v is None or not math.isfinite(v)]
  if bad:
    first = examples[bad[0]]
    raise UtilityError(
      f"the utility {name} gave {len(bad)} of {len(items)} scores that are not"
      f" finite numbers, the first {items[bad[0]]!r} for {first.where} (id"
      f" {first.id}); {allowed}"
    )
  return np.array(values, np.float64)


def _number(item: Any) -> float | None:
  """A number or an array of one; strings are not numbers, whatever they spell."""
  if isinstance(item, (str, bytes)):
    return None
  try:
    return float(item)
  except (TypeError, ValueError, OverflowError):
    return None


def imported(spec: str, what: str = "utility") -> Callable:
  """The function that "pkg.module:function" names; `what` it is, for the message.

  Raises:
    ValueError: the module or the function is not there.
  """
  module_name, colon, function = spec.partition(":")
  if not (module_name and colon and function):
    raise ValueError(f'{what} is {spec!r}; allowed is "pkg.module:function".')
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    missing = error.name or module_name
    whose = (
      "there is no such module; check the spelling and that its folder is on PYTHONPATH"
      if module_name.startswith(missing)
      else f"which {module_name} imports; install it"
    )
    raise ValueError(f"{what} {spec!r}: no module {missing!r}, {whose}.") from error
  except Exception as error:
    raise ValueError(
      f"{what} {spec!r}: importing {module_name} raised {type(error).__name__}: {error}"
    ) from error
  fn = functools.reduce(
    lambda at, part: getattr(at, part, None), function.split("."), module
  )
  if not callable(fn):
    near = lookup.near(function, dir(module))
    hint = f"; {near}" if near else "."
    raise ValueError(
      f"{what} {spec!r}: {module_name} has no function {function!r}{hint}"
    )
  return fn
