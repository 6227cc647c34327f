"""Runs a system once on the same weights: utility -> dag_cache -> messages.

A memo answers every call that was made before, but its prompts must be written
first, wave after wave. What a whole system says depends on its executed nodes alone,
so here it is looked up by those: in a search that moves no weights, adjacencies
decode to the same few graphs over and over.

Nothing that is recorded can tell a hit from a run: calls are counted wave by wave as
if all had been asked, replies are kept just as long as the memo keeps those they
were made of, and scores are given anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jswarm.core.types import Experts
from jswarm.systems import prompts, system
from jswarm.systems import waves as waves_lib
from jswarm.systems.memo import Memo


class _Key(NamedTuple):
  """All that a reply depends on beside the question."""

  edges: bytes  # among executed nodes
  depth: bytes
  position: bytes  # empty where no node reads a chunk by it
  end: int
  assignment: tuple[int, ...]  # -1 for a node that never runs
  versions: frozenset[tuple[int, str]]  # (expert, digest of its weights)
  wording: prompts.Wording
  limit: int
  chat: bool


class DagCache:
  """Final replies of systems on the weights that `memo` still remembers."""

  def __init__(self, memo: Memo):
    self._memo = memo
    self._said: dict[_Key, dict[prompts.Question, str]] = {}
    memo.watch(self._forget)

  def run(
    self,
    jobs: Sequence[system.Job],
    questions: Sequence[Sequence[prompts.Question]],
    experts: Experts,
    wording: prompts.Wording,
    *,
    limit: int,
    chat: bool,
  ) -> list[list[str]]:
    """The `replies` of `waves.run`; `experts` is the record of the memo.

    New calls reach the pool in the order in which they would without a cache.
    """
    keys = [
      self._key(job, asked, wording, limit, chat) for job, asked in zip(jobs, questions)
    ]
    todo = self._missing(keys, jobs, questions)
    waves = iter(_calls_a_wave(jobs, questions))

    def ask(requests):
      replies = experts.ask(requests)
      self._memo.count(next(waves) - len(requests))
      return replies

    said = waves_lib.run(
      list(todo.values()),
      [asked for _, asked in todo],
      experts._replace(ask=ask),
      wording,
      limit=limit,
      chat=chat,
    )
    for calls in waves:
      self._memo.count(calls)
    for (key, asked), replies in zip(todo, said.replies):
      self._said.setdefault(key, {}).update(zip(asked, replies))
    return [[self._said[key][q] for q in asked] for key, asked in zip(keys, questions)]

  def _missing(self, keys, jobs, questions):
    """{(key, questions that it was never asked): a job}; equal ones are one."""
    todo = {}
    for key, job, asked in zip(keys, jobs, questions):
      known = self._said.get(key, {})
      new = tuple(question for question in asked if question not in known)
      if new:
        todo.setdefault((key, new), job)
    return todo

  def _key(self, job, asked, wording, limit, chat):
    runs = job.depth >= 0
    placed = wording.chunks_by == "position" and any(q.chunks for q in asked)
    holders = tuple(e if r else -1 for e, r in zip(job.assignment, runs))
    installed = self._memo.installed
    return _Key(
      (job.edges & runs[:, None] & runs).tobytes(),
      job.depth.tobytes(),
      job.position[runs].tobytes() if placed else b"",
      job.end,
      holders,
      frozenset((e, installed[e]) for e in holders if e >= 0),
      wording,
      limit,
      chat,
    )

  def _forget(self, held):
    """Drops what was said on weights of which a digest is not in `held`."""
    self._said = {
      key: said
      for key, said in self._said.items()
      if {version for _, version in key.versions} <= held
    }


def _calls_a_wave(jobs, questions):
  """Node executions of each wave, were all jobs run."""
  waves = np.zeros(1 + max((int(job.depth.max()) for job in jobs), default=-1), int)
  for job, asked in zip(jobs, questions):
    np.add.at(waves, job.depth[job.depth >= 0], len(asked))
  return waves.tolist()
