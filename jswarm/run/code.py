"""What a run's numbers depend on beside its fields: code, as text that can be compared.

  utility (a function) -> Code: its source, what it calls, what it closes over
  readers of replies   -> a digest

A run that goes on with another text is refused with the difference, see `workdir`.
"""

import ast
from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import hashlib
import importlib
import inspect
import pathlib
import sys
import sysconfig
import textwrap
import types
from typing import Any

import jax
import numpy as np

from jswarm.tasks import kinds
from jswarm.tasks.base import Task

_LONG = 200  # characters of a value that are shown; of longer ones a digest
_SIMPLE = (type(None), bool, int, float, complex, str, bytes)


@dataclasses.dataclass(frozen=True)
class Code:
  """A function as far as it can be told from its text.

  Attributes:
    lines: source of the function and of all code of the user's own that it reaches,
      and the values that it reads from outside.
    unknown: what it reads and of which nobody can say whether it is the same again.
  """

  lines: tuple[str, ...]
  unknown: tuple[str, ...]


def describe(fn: Callable) -> Code:
  """The code of a function; the same text means the same behaviour, but for `unknown`.

  Libraries (what is installed, and jswarm itself) are named, not read.
  """
  seen: dict[int, Any] = {}  # what was told, kept so that no id is used twice
  lines: list[str] = []
  unknown: list[str] = []
  _tell(_name(fn), fn, seen, lines, unknown)
  return Code(tuple(lines), tuple(unknown))


def scoring(task: Task, config: Mapping[str, Any]) -> dict[str, Any]:
  """How replies are asked for and read, to be kept with a system that was found so.

  `config`: of the run, with its `code.` fields. Of a utility's text a digest: the
  system may go to others, the text need not.
  """
  found = {
    "task.kind": task.kind,
    "task.parser": task.spec["parser"],
    "task.limit": task.limit,
    "task.chat": task.chat,
  }
  if "code.readers" in config:
    found["code.readers"] = config["code.readers"]
  if "code.utility" in config:
    text = "\n".join(config["code.utility"])
    found["code.utility"] = hashlib.sha256(text.encode()).hexdigest()[:32]
  return found


@functools.cache
def readers() -> str:
  """Digest of what finds answers in replies, comments and docstrings aside."""
  waiting, found = [kinds.__name__], {}
  while waiting:
    module = waiting.pop()
    if module in found:
      continue
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    found[module] = _shape(tree)
    waiting += _imported(tree, kinds.__name__.rpartition(".")[0])
  text = "\n".join(f"{module} {found[module]}" for module in sorted(found))
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def _imported(tree, room) -> Iterator[str]:
  """Modules of a room that a file of it imports."""
  for node in ast.walk(tree):
    if not isinstance(node, ast.ImportFrom):
      continue
    home = node.module or ""
    if home == room:
      yield from (f"{room}.{alias.name}" for alias in node.names)
    elif home.startswith(f"{room}."):
      yield home


def _shape(node) -> str:
  """A syntax tree as text, of the same words in every version of Python."""
  if isinstance(node, list):
    return f"[{' '.join(map(_shape, node))}]"
  if not isinstance(node, ast.AST):
    return repr(node)
  fields = []
  for name, value in ast.iter_fields(node):
    if name == "body" and isinstance(value, list):
      value = [each for each in value if not _is_text(each)]
    if value is not None and value != [] and name != "ctx":
      fields.append(f"{name}={_shape(value)}")
  return f"{type(node).__name__}({' '.join(fields)})"


def _is_text(node):
  """A docstring, or another constant that nobody reads."""
  return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _tell(name, value, seen, lines, unknown):
  """Writes what a value is; nothing of it is written twice."""
  if isinstance(value, _SIMPLE):
    lines.append(f"{name} = {_short(repr(value))}")
    return
  if id(value) in seen:
    return
  seen[id(value)] = value
  more = functools.partial(_tell, seen=seen, lines=lines, unknown=unknown)
  if isinstance(value, types.ModuleType):
    if _is_own(value.__name__):
      _tell_source(name, value, lines, unknown)
    return
  if isinstance(value, (np.ndarray, np.generic, jax.Array)):
    array = np.asarray(value)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    lines.append(f"{name} = array {array.dtype}{array.shape} {digest}")
  elif isinstance(value, functools.partial):
    more(f"{name}.func", value.func)
    more(f"{name}.args", value.args)
    more(f"{name}.keywords", value.keywords)
  elif isinstance(value, types.MethodType):
    more(f"{name}.__func__", value.__func__)
    more(f"{name}.__self__", value.__self__)
  elif isinstance(value, types.FunctionType):
    _tell_function(name, value, lines, unknown, more)
  elif isinstance(value, type):
    if _is_own(value.__module__):
      _tell_source(name, value, lines, unknown)
      for method in filter(inspect.isfunction, vars(value).values()):
        _tell_globals(method, more)
  elif inspect.isbuiltin(value):
    lines.append(f"{name} is {value.__module__}.{value.__qualname__}")
  elif isinstance(value, dict):
    for key in sorted(value, key=repr):
      more(f"{name}[{key!r}]", value[key])
  elif isinstance(value, (list, tuple)):
    lines.append(f"{name}: {type(value).__name__} of {len(value)}")
    for i, item in enumerate(value):
      more(f"{name}[{i}]", item)
  elif isinstance(value, (set, frozenset)):
    more(name, sorted(map(repr, value)))
  elif wrapped := getattr(value, "__wrapped__", None):
    more(name, wrapped)
  elif _is_own(type(value).__module__) and hasattr(value, "__dict__"):
    more(f"{name}.__class__", type(value))
    more(f"{name}.__dict__", dict(vars(value)))
  else:
    unknown.append(f"{name}, a {type(value).__module__}.{type(value).__qualname__}")


def _tell_function(name, fn, lines, unknown, more):
  """Its text, the values that it closes over, and what it reads of its module."""
  if not _is_own(fn.__module__):
    lines.append(f"{name} is {fn.__module__}.{fn.__qualname__}")
    return
  _tell_source(name, fn, lines, unknown)
  if wrapped := getattr(fn, "__wrapped__", None):
    more(f"{name}.__wrapped__", wrapped)
  for where in (fn.__defaults__, fn.__kwdefaults__):
    if where:
      more(f"{name}, defaults", where)
  for variable, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
    try:
      more(f"{name}, {variable}", cell.cell_contents)
    except ValueError:  # not filled yet
      unknown.append(f"{name}, {variable}")
  _tell_globals(fn, more)


def _tell_globals(fn, more):
  for variable in sorted(_names(fn.__code__)):
    if variable in fn.__globals__:
      more(f"{fn.__module__}.{variable}", fn.__globals__[variable])


def _tell_source(name, value, lines, unknown):
  try:
    text = inspect.getsource(value)
  except (OSError, TypeError):  # made in a shell, or in C
    unknown.append(f"{name}, whose source is not there")
    return
  lines.append(f"# {name}")
  lines.extend(line.rstrip() for line in textwrap.dedent(text).splitlines())


def _names(code) -> set[str]:
  """What a function and the functions within it look up by name."""
  found = set(code.co_names)
  for constant in code.co_consts:
    if isinstance(constant, types.CodeType):
      found |= _names(constant)
  return found


def _name(fn):
  kind = fn if hasattr(fn, "__qualname__") else type(fn)
  return f"{kind.__module__}.{kind.__qualname__}"


def _is_own(module: str | None) -> bool:
  """Is it code of the user's, not of a library?"""
  top = (module or "builtins").partition(".")[0]
  if top in ("jswarm", "builtins"):
    return False
  loaded = sys.modules.get(top)
  if top == "__main__" or loaded is None:
    return True
  file = getattr(loaded, "__file__", None)
  places = [file] if file else list(getattr(loaded, "__path__", ()))
  paths = [pathlib.Path(place).resolve() for place in places]
  # Without a place it is a part of the interpreter.
  return bool(paths) and not any(
    path.is_relative_to(home) for path in paths for home in _installed()
  )


@functools.cache
def _installed():
  names = ("stdlib", "platstdlib", "purelib", "platlib")
  return tuple(pathlib.Path(sysconfig.get_path(n)).resolve() for n in names)


def _short(text):
  if len(text) <= _LONG:
    return text
  digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
  return f"{text[:_LONG]}... ({len(text)} characters, {digest})"
