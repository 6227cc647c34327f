"""The text of a utility holds all that its numbers depend on, or names the rest."""

import functools
import importlib
import sys
import textwrap

import numpy as np
import pytest

from jswarm.run import code


@pytest.fixture
def module(tmp_path, monkeypatch):
  """module(text): it, imported as `own_utility`; earlier ones are forgotten."""
  monkeypatch.syspath_prepend(str(tmp_path))

  def make(text, name="own_utility"):
    for old in [m for m in sys.modules if m.startswith("own_")]:
      del sys.modules[old]
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    importlib.invalidate_caches()
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
      import linecache

      linecache.clearcache()
      return importlib.import_module(name)
    finally:
      sys.dont_write_bytecode = before

  yield make
  for old in [m for m in sys.modules if m.startswith("own_")]:
    del sys.modules[old]


TEXT = """
import functools
import numpy as np

WEIGHT = 2.0
TABLE = {"a": [1, 2], "b": (3,)}
UNUSED = 1

def helper(x):
  return x * WEIGHT

class Scale:
  factor = 3

  def of(self, x):
    return helper(x) * self.factor

def utility(examples, replies, scale=Scale()):
  add = lambda x: x + TABLE["a"][0]
  return [np.float64(add(scale.of(len(r)))) for r in replies]

def closed(bonus):
  def inner(examples, replies):
    return [bonus for _ in replies]
  return inner

def unrelated():
  return 5
"""


def _text(fn):
  told = code.describe(fn)
  return "\n".join(told.lines), told.unknown


def test_the_same_code_is_the_same_text(module):
  first = _text(module(TEXT).utility)
  assert _text(module(TEXT).utility) == first and not first[1]


@pytest.mark.parametrize(
  "change",
  [
    ("WEIGHT = 2.0", "WEIGHT = 2.5"),
    ("return x * WEIGHT", "return x * WEIGHT + 1"),
    ('{"a": [1, 2]', '{"a": [1, 3]'),
    ("factor = 3", "factor = 4"),
    ("self.factor", "self.factor ** 2"),
    ("x + TABLE", "x - TABLE"),
  ],
)
def test_whatever_the_utility_reaches_changes_its_text(module, change):
  assert _text(module(TEXT).utility) != _text(module(TEXT.replace(*change)).utility)


@pytest.mark.parametrize("change", [("return 5", "return 6"), ("UNUSED = 1", "X = 1")])
def test_what_it_does_not_reach_does_not(module, change):
  assert _text(module(TEXT).utility) == _text(module(TEXT.replace(*change)).utility)


def test_values_that_a_closure_holds_are_told(module):
  made = module(TEXT)
  assert _text(made.closed(1)) == _text(made.closed(1)) != _text(made.closed(2))
  arrays = [_text(made.closed(np.arange(3.0) + n)) for n in (0, 0, 1)]
  assert arrays[0] == arrays[1] != arrays[2] and not arrays[0][1]


def test_partials_methods_and_callable_objects_are_followed(module):
  made = module(TEXT)
  scale = made.Scale()
  texts = [
    _text(functools.partial(made.utility, scale=1)),
    _text(functools.partial(made.utility, scale=2)),
    _text(scale.of),
  ]
  scale.factor = 9
  texts.append(_text(scale.of))
  assert len(set(texts)) == 4 and "def helper" in texts[2][0]


def test_a_module_of_ones_own_that_is_used_whole_is_told_whole(module):
  using = "import own_other\n\ndef utility(e, r):\n  return own_other.score(r)\n"
  texts = []
  for n in (1, 2):
    module(f"def score(r):\n  return {n}\n", "own_other")
    importlib.invalidate_caches()
    other = sys.modules["own_other"]
    made = module(using.replace("import own_other", "own_other = None"))
    made.own_other = other
    sys.modules["own_other"] = other
    texts.append(_text(made.utility)[0])
  assert texts[0] != texts[1] and "return 1" in texts[0]


def test_what_cannot_be_compared_is_named(module):
  made = module(TEXT)
  _, unknown = _text(made.closed(iter([1])))
  assert len(unknown) == 1 and "bonus, a builtins.list_iterator" in unknown[0]
  space = {}
  exec("def utility(e, r): return 1", {"__name__": "own_made"}, space)
  _, unknown = _text(space["utility"])
  assert unknown == ("own_made.utility, whose source is not there",)


def test_libraries_are_named_and_not_read():
  text, unknown = _text(functools.partial(np.mean, axis=0))
  assert len(text) < 200 and not unknown


def test_recursive_functions_and_values_end(module):
  made = module("LOOP = []\n\ndef utility(e, r):\n  return utility(e, r) or LOOP\n")
  made.LOOP.append(made.LOOP)
  assert "def utility" in _text(made.utility)[0]


def test_the_readers_digest_is_of_code_and_not_of_comments(monkeypatch):
  first = code.readers()
  true = code.inspect.getsource

  def changed(text, new):
    code.readers.cache_clear()
    monkeypatch.setattr(code.inspect, "getsource", lambda m: true(m).replace(text, new))
    return code.readers()

  same = changed("  # ", "  # well, ")
  other = changed("return", "return not")
  monkeypatch.undo()
  code.readers.cache_clear()
  assert first == same != other and code.readers() == first
