"""Runs an answerer once on the same weights: evaluate -> system_memo -> waves -> memo.

A memo answers every call that was made before, but its prompts must be written
first, wave after wave. What a whole system says depends on its identity alone (of a
graph its executed nodes), so here it is looked up by that: in a search that moves no
weights, adjacencies decode to the same few graphs over and over.

Nothing that is recorded can tell a hit from a run: calls are counted wave by wave as
if all had been asked, replies are kept just as long as the memo keeps those they
were made of, and scores are given anew.
"""

from collections import Counter
from collections.abc import Sequence
import itertools
from typing import NamedTuple

from jswarm.systems import waves
from jswarm.systems.memo import Memo
from jswarm.systems.prompts import Terms


class _Known(NamedTuple):
  """What an item said. versions: of its experts; asked: its asks in each wave."""

  reply: str
  versions: frozenset[str]
  asked: tuple[int, ...]


class SystemMemo:
  """Final replies of answerers on the weights that `memo` still remembers."""

  def __init__(self, memo: Memo):
    self._memo = memo
    self._known: dict[tuple, _Known] = {}
    memo.watch(self._forget)

  def run(self, items: Sequence[waves.Item], terms: Terms) -> list[str]:
    """The reply of each item, as `waves.run` gives it.

    New calls reach the pool in the order in which they would without this memo.
    """
    # 1. Equal items are one: how many does each new one stand for?
    keys = [self._key(item, terms) for item in items]
    todo: dict[tuple, waves.Item] = {}
    for key, item in zip(keys, items):
      if key not in self._known:
        todo.setdefault(key, item)
    stands_for = Counter(key for key in keys if key in todo)
    # 2. Calls of the others, wave by wave, count with those of the same wave.
    hits = _calls_a_wave([self._known[key].asked for key in keys if key in self._known])

    def on_wave(asked: list[int]) -> None:
      copies = (n * (stands_for[key] - 1) for key, n in zip(todo, asked))
      self._memo.count(sum(copies) + next(hits, 0))

    done = waves.run(list(todo.values()), terms, self._memo.ask, on_wave)
    for calls in hits:
      self._memo.count(calls)
    # 3. What was said is known from now on.
    for key, item, answered in zip(todo, todo.values(), done):
      on = item.answerer.weights or self._memo.first
      self._known[key] = _Known(
        answered.reply,
        frozenset(on.versions[e] for e in item.answerer.members()),
        tuple(len(asks) for asks in answered.asks),
      )
    return [self._known[key].reply for key in keys]

  def _key(self, item, terms):
    """All that a reply depends on."""
    answerer, question = item
    on = answerer.weights or self._memo.first
    return (
      answerer.identity(question, terms),
      frozenset((e, on.versions[e]) for e in answerer.members()),
      question,
      terms.wording,
      terms.limit,
      terms.chat,
    )

  def _forget(self, held):
    """Drops what was said on weights of which a version is not in `held`."""
    self._known = {
      key: known for key, known in self._known.items() if known.versions <= held
    }


def _calls_a_wave(asked):
  """Sums over items of their asks in each wave, waves in order."""
  return iter([sum(wave) for wave in itertools.zip_longest(*asked, fillvalue=0)])
