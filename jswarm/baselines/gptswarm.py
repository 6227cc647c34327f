"""GPTSwarm: which edges a graph of agents has, learnt (Zhuge et al., arXiv 2402.16823).

Nodes are the experts and one that decides; any expert may speak to any other one.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines import decisions, edge_policy
from jswarm.baselines.base import Found, Setting

_LEAST = 0.05  # no edge is ever certain while graphs are drawn


def gptswarm(setting: Setting) -> Found:
  """Learns the probability of each edge; those above one half are the graph.

  "original": REINFORCE on the edges' logits, each graph on a dev question of its own.
  Options: `steps` (200), `batch` (4), `rate` (.1, of Adam), `baseline` (False, as
  published; True: each utility less the mean of the others), `decision`.

  "paper": without gradients. Graphs are drawn and scored on dev, adjacencies are
  interpolated by their f to the probabilities of the next ones, and the best on dev of
  all that were scored answers. Options: `rounds` (10), `graphs` (10 a round).
  """
  if setting.variant == "original":
    return _learnt(setting)
  return _interpolated(setting)


@jax.jit
def logits_of(params: jax.Array, features: jax.Array) -> jax.Array:
  """The same logits [N, N] for every question."""
  return jnp.broadcast_to(params, (len(features), *params.shape))


def interpolate(edges: np.ndarray, utility: np.ndarray) -> np.ndarray:
  """float32 [N, N]: sum_g w_g A_g, the probability of each edge.

  w is a softmax over the standardised utilities, doubled, so that it does not depend on
  their unit; a graph without a utility has no weight.

  Args:
    edges: A, bool [G, N, N]. utility: f, float [G].
  """
  known = ~np.isnan(utility)
  if not known.any():
    return np.full(edges.shape[1:], 0.5, np.float32)
  values = utility[known]
  spread = values.std()
  scaled = 2 * (values - values.max()) / (spread if spread > 0 else 1.0)
  weights = np.exp(scaled) / np.exp(scaled).sum()
  return np.tensordot(weights, edges[known], axes=1).astype(np.float32)


def _learnt(setting):
  allowed, examples = decisions.allowed(setting), setting.problem.examples
  logits, _, steps = edge_policy.reinforce(
    np.random.default_rng(setting.seed),
    np.zeros(allowed.shape, np.float32),
    logits_of,
    np.zeros(len(examples), np.float32),
    allowed,
    decisions.on_questions(
      setting,
      lambda edges: decisions.answerer(setting, edges),
      reserve=len(allowed) * len(examples),
    ),
    decisions.training(setting, steps=200),
  )
  edges = edge_policy.keep(logits, allowed)
  return decisions.found(
    setting,
    decisions.answerer(setting, edges),
    edges=decisions.described(setting, edges),
    steps=steps,
  )


def _interpolated(setting):
  allowed, size = decisions.allowed(setting), setting.option("graphs", 10)
  reserve = len(allowed) * len(setting.problem.examples)
  probability = np.full(allowed.shape, 0.5, np.float32)
  rng = np.random.default_rng(setting.seed)
  seen: list[tuple[np.ndarray, float]] = []
  for _ in range(setting.option("rounds", 10)):
    # 1. Graphs by the probabilities that all earlier ones came to.
    drawn = _drawn(rng, size, probability, allowed)
    jobs = [decisions.answerer(setting, edges) for edges in drawn]
    jobs = decisions.affordable(setting, jobs, reserve)
    # 2. Their utilities on dev.
    if jobs:
      found = setting.score(jobs)
      seen += [(edges, e.utility) for edges, e in zip(drawn, found)]
    if len(jobs) < size:
      break
    # 3. Adjacencies interpolated by f.
    probability = interpolate(*map(np.array, zip(*seen)))
  # 4. The interpolation as a graph, and the best of all.
  logits = np.log(np.maximum(probability, 1e-6)) - np.log1p(-probability + 1e-6)
  mean = edge_policy.keep(logits, allowed)
  last = decisions.found(setting, decisions.answerer(setting, mean))
  seen.append((mean, last.dev))
  edges, dev = max(seen, key=lambda s: -np.inf if np.isnan(s[1]) else s[1])
  notes = {"edges": decisions.described(setting, edges), "graphs": len(seen)}
  return Found(decisions.answerer(setting, edges), dev, notes=notes)


def _drawn(rng, size, probability, allowed):
  """bool [G, N, N]: graphs whose edges have about these probabilities [N, N]."""
  kept = np.clip(probability, _LEAST, 1 - _LEAST)
  logits = np.log(kept / (1 - kept))
  tiled = np.broadcast_to(logits, (size, *logits.shape))
  return edge_policy.sample(rng, tiled, allowed).taken
