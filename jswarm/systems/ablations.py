"""What each node and each edge of a system is worth: left out, all else in its place.

job -> jobs without a part -> one evaluation of all -> scores beside the whole
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jswarm.systems import scores
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.system import Job
from jswarm.tasks.base import Example


def without_node(job: Job, node: int) -> Job:
  """The system in which nobody hears a node; what spoke through it alone is gone too.

  The others stay where they are: who reads chunks by place reads the same ones.

  Raises:
    ValueError: it is the end node, or one that never runs.
  """
  if node == job.end or job.depth[node] < 0:
    raise ValueError(
      f"node {node} cannot be left out: allowed are nodes that run, but not the end"
      f" node, {job.end}, who answers."
    )
  edges = job.edges.copy()
  edges[node] = edges[:, node] = False
  return _pruned(job, edges)


def without_edge(job: Job, start: int, end: int) -> Job:
  """The system in which one node does not hear another.

  Raises:
    ValueError: there is no such edge.
  """
  if not job.edges[start, end] or job.depth[start] < 0 or job.depth[end] < 0:
    raise ValueError(f"there is no edge from node {start} to node {end}.")
  edges = job.edges.copy()
  edges[start, end] = False
  return _pruned(job, edges)


def measure(
  evaluator: Evaluator, job: Job, examples: Sequence[Example], seed: int = 0
) -> dict[str, Any]:
  """Scores a system without each of its nodes and edges; they share all equal calls.

  Returns:
    {"full", "n", "nodes": [{"node", "score", "change", "low", "high"}], "edges":
    [{"from", "to", ...}]}: change is that to the whole system, with its 95 % interval
    by a paired bootstrap of `seed`; None where nothing could be scored.
  """
  runs = job.depth >= 0
  nodes = [int(n) for n in np.flatnonzero(runs) if n != job.end]
  live = job.edges & runs[:, None] & runs
  edges = [(int(i), int(j)) for i, j in np.argwhere(live)]
  parts = [without_node(job, n) for n in nodes]
  parts += [without_edge(job, i, j) for i, j in edges]
  whole, *done = evaluator.evaluate([job, *parts], examples)
  rows = [_row(whole, each, seed) for each in done]
  return {
    "full": whole.utility,
    "n": len(examples),
    "nodes": [{"node": n, **row} for n, row in zip(nodes, rows)],
    "edges": [
      {"from": i, "to": j, **row} for (i, j), row in zip(edges, rows[len(nodes) :])
    ],
  }


def _row(whole, part, seed):
  row = {"score": part.utility, "change": None, "low": None, "high": None}
  if not np.isfinite(part.scores - whole.scores).any():
    return row
  paired = scores.paired_bootstrap(part.scores, whole.scores, seed=seed)
  return {**row, "change": paired["difference"]} | {
    bound: paired[bound] for bound in ("low", "high")
  }


def _pruned(job, edges):
  """The job with these edges: nodes that no longer reach its end do not run."""
  depth = np.full(len(edges), -1)
  active = {job.end}
  # 1. From the end backwards: who is heard, by whoever is heard?
  waiting = [job.end]
  while waiting:
    heard = np.flatnonzero(edges[:, waiting.pop()]).tolist()
    waiting += [n for n in heard if n not in active]
    active |= set(heard)
  # 2. In the order of execution each is one deeper than the deepest that it hears.
  for node in sorted(active, key=lambda n: job.depth[n]):
    heard = [n for n in np.flatnonzero(edges[:, node]) if n in active]
    depth[node] = 1 + max((depth[n] for n in heard), default=-1)
  return Job(edges, depth, job.position, job.end, job.assignment, job.weights)
