"""The public code's ways, written anew: what its users have, as a baseline.

`walk` asks graph by graph and node by node, `move` updates a particle through files,
`decode` draws a graph in a loop over its nodes.
"""

from collections.abc import Callable, Mapping, Sequence
import os

import numpy as np
import safetensors.numpy

from jswarm.systems import prompts as prompts_lib
from jswarm.systems import system

BATCH = 10  # most examples that one model is given at a time
AskFn = Callable[[int, list[str]], None]


def walk(
  job: system.Job,
  questions: Sequence[str],
  wording: prompts_lib.Wording,
  said: Mapping[tuple[int, str], str],
  ask: AskFn,
) -> int:
  """Executes one graph, one node after the other in topological order.

  Args:
    said: (expert, prompt) -> what is taken for the reply, whatever `ask` gets: so
      every contender reads the same prompts.
    ask: `ask(expert, prompts)` is the work; at most `BATCH` prompts.

  Returns:
    Node executions.

  Raises:
    ValueError: a prompt was never asked in the run that `said` records.
  """
  replies: dict[int, list[str]] = {}
  for node in np.argsort(job.position).tolist():
    before = [replies[p] for p in np.flatnonzero(job.edges[:, node]).tolist()]
    instruction = (
      wording.first
      if not before
      else wording.last
      if node == job.end
      else wording.middle
    )
    prompts = [
      prompts_lib.compose(wording, instruction, [r[x] for r in before], "", q)
      for x, q in enumerate(questions)
    ]
    expert = job.assignment[node]
    for i in range(0, len(prompts), BATCH):
      ask(expert, prompts[i : i + BATCH])
    replies[node] = [_recorded(said, expert, prompt) for prompt in prompts]
  return len(replies) * len(questions)


def _recorded(said, expert, prompt):
  if (expert, prompt) not in said:
    raise ValueError(
      f"expert {expert} was never asked {prompt[:80]!r}...: the two"
      " calling orders would not do the same work."
    )
  return said[expert, prompt]


def move(
  folder: str, particle: str, coefficients: Sequence[float], step_length: float
) -> None:
  """One particle of a swarm moves; its files are written anew.

  Every term is a merge of adapter files that is saved, to be loaded by the next: own
  best - x, swarm best - x, x - swarm worst, then the velocity of four, then x.

  Args:
    folder: with swarm_best.safetensors and swarm_worst.safetensors, and below
      `particle` now, velocity and best.
  """
  own = lambda name: os.path.join(folder, particle, f"{name}.safetensors")
  shared = lambda name: os.path.join(folder, f"{name}.safetensors")
  merge((1, -1), (own("best"), own("now")), own("to_best"))
  merge((1, -1), (shared("swarm_best"), own("now")), own("to_swarm_best"))
  merge((-1, 1), (shared("swarm_worst"), own("now")), own("from_swarm_worst"))
  terms = ("velocity", "to_best", "to_swarm_best", "from_swarm_worst")
  merge(coefficients, [own(term) for term in terms], own("velocity"))
  merge((1, step_length), (own("now"), own("velocity")), own("now"))


def merge(weights: Sequence[float], sources: Sequence[str], target: str) -> None:
  """Writes the weighted sum of safetensors files of the same names and shapes."""
  loaded = [safetensors.numpy.load_file(source) for source in sources]
  total = {}
  for weight, tensors in zip(weights, loaded, strict=True):
    for name, tensor in tensors.items():
      scaled = np.float32(weight) * tensor
      total[name] = total[name] + scaled if name in total else scaled
  safetensors.numpy.save_file(total, target)


def decode(adjacency: np.ndarray, top_p: float, rng: np.random.Generator) -> np.ndarray:
  """bool [N, N]: one edge a node, drawn node by node; 0 is "no edge"."""
  degree = adjacency.sum(axis=1)
  edges = np.zeros(adjacency.shape, bool)
  there = [_draw(_softmax(1 / degree), top_p, rng)]
  while len(there) < len(degree):
    rest = degree.copy()
    rest[there] = 0
    node = _draw(_softmax(rest), top_p, rng)
    row = np.zeros(len(degree))
    row[there] = adjacency[node, there]
    edges[node, _draw(_softmax(row), top_p, rng)] = True
    there.append(node)
  return edges


def _softmax(scores):
  weight = np.where(scores == 0, 0.0, np.exp(scores))
  return weight / weight.sum()


def _draw(probability, top_p, rng):
  """Of the likeliest, until they exceed p; by the softmax of their probabilities."""
  kept, mass = [], 0.0
  pairs = zip(probability.tolist(), range(len(probability)))
  for p, index in sorted(pairs, reverse=True):
    kept.append(index)
    mass += p
    if mass > top_p:
      break
  return int(rng.choice(kept, p=_softmax(probability[kept])))
