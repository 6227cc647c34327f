"""The user's own utility: `fn(examples, replies) -> scores`, checked every time."""

from collections.abc import Callable, Sequence
import functools
import importlib
import itertools
import math
from typing import Any

from absl import logging
import numpy as np

from jswarm.core import lookup
from jswarm.tasks import again
from jswarm.tasks.base import Example, ScoreFn, UtilityError

CustomFn = Callable[[list[dict[str, Any]], list[str]], Sequence[float]]


def custom_utility(
  fn: CustomFn | str, patience: again.Patience = again.PATIENCE
) -> ScoreFn:
  """A checked score function from the user's function, or "pkg.module:function".

  The function is called with X records and X replies and gives X finite floats,
  greater is better, in any range. A record is a fresh dict of the user's own
  fields; `id`, `question`, `answer`, `choices`, `where` are added where they lack.

  A function that raises `again.TryAgain`, or an error of the network that may pass, is
  called again within `patience`; what it never says is missing, NaN.

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
  return functools.partial(_score, fn, patience)


def name_of(fn: CustomFn | str) -> str:
  """How a utility is named in a record of a run."""
  if isinstance(fn, str):
    return fn
  kind = fn if hasattr(fn, "__qualname__") else type(fn)
  return f"{kind.__module__}:{kind.__qualname__}"


def _score(
  fn: CustomFn,
  patience: again.Patience,
  examples: Sequence[Example],
  replies: Sequence[str],
) -> np.ndarray:
  """float64 [X]; NaN where nothing was heard, for as long as one asks."""
  name, deadline = name_of(fn), patience.deadline()
  found = np.full(len(examples), np.nan)
  for attempt in itertools.count():
    left = np.flatnonzero(np.isnan(found)).tolist()
    asked = [examples[i] for i in left]
    try:
      scores = fn([_record(example) for example in asked], [replies[i] for i in left])
    except Exception as error:
      later = again.later(error)
      if later and later.scores is not None:
        found[left] = _known(later.scores, asked, name)
      lacking = int(np.isnan(found).sum())
      if later and not lacking:
        break
      if later and patience.waits(attempt, later.after, deadline):
        continue
      if not later or lacking == len(found):
        raise UtilityError(
          f"the utility {name} raised {type(error).__name__}: {error}"
        ) from error
      logging.warning(
        "%d of %d scores of the utility %s could not be had and are missing: %s",
        lacking,
        len(found),
        name,
        error,
      )
      break
    found[left] = _checked(scores, asked, name)
    break
  return found


def _known(
  scores: Sequence[float | None], examples: Sequence[Example], name: str
) -> np.ndarray:
  """float64 [X] of scores of which some, None, are not known yet."""
  if len(scores) != len(examples):
    _checked(scores, examples, name)  # raises
  known = [k for k, score in enumerate(scores) if score is not None]
  found = np.full(len(examples), np.nan)
  found[known] = _checked(
    [scores[k] for k in known], [examples[k] for k in known], name
  )
  return found


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
