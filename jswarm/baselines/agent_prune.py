"""Agent-Prune: which messages of a crowd can be left out (Zhang et al., 2410.02506)."""

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines import decisions, edge_policy
from jswarm.baselines.base import Found, Setting
from jswarm.core.types import PyTree
from jswarm.graphs import dag
from jswarm.systems import system

DEGREES = (0.0, 0.25, 0.5, 0.75)  # shares of edges that are removed


def agent_prune(setting: Setting) -> Found:
  """Removes edges; the fewer remain, the fewer calls and the shorter the prompts.

  "paper": random graphs of the experts with random weights on their edges; of each the
  lowest are removed by several degrees, all are scored, and the best on dev over runs
  and degrees answers. Options: `runs` (20), `degrees`.

  "original": experts speak in `rounds` (2). Spatial edges lead to others in the same
  round, temporal ones from the last round to this one; both are masked matrices of
  logits, the same in every round, learnt by REINFORCE; then the lowest are masked, and
  of the others those above one half stay. Who decides hears all experts of the last
  round. Options: `steps` (10), `batch` (4), `rate` (.1), `baseline`, `decision`;
  `prune` (.25), the share that is masked, at the end (one-shot), or each time that
  `prune_every` (0) steps are made; `nuclear` (0), the factor of the nuclear norm of the
  spatial probabilities, .1 in the article, in no public code.
  """
  if setting.variant == "original":
    return _learnt(setting)
  return _best_of_pruned(setting)


def spread(spatial: np.ndarray, temporal: np.ndarray, rounds: int) -> np.ndarray:
  """Edges of one round [E, E] as edges of all [K * E + 1, K * E + 1], no decision yet.

  Both may be numbers or bool.
  """
  size = len(spatial)
  whole = np.zeros((rounds * size + 1,) * 2, np.asarray(spatial).dtype)
  for k in range(rounds):
    here = slice(k * size, (k + 1) * size)
    whole[here, here] = spatial
    if k:
      whole[slice((k - 1) * size, k * size), here] = temporal
  return whole


def heard_by_all(edges: np.ndarray, size: int) -> np.ndarray:
  """The same edges, and one from each of the `size` nodes of the last round to the end.

  Everybody is read, so everybody speaks.
  """
  whole = np.array(edges)
  whole[-1 - size : -1, -1] = True
  return whole


@jax.jit
def logits_of(params: PyTree, features: jax.Array) -> jax.Array:
  """Logits of all rounds [B, N, N], of `spatial` and `temporal` [E, E] and `where`.

  `features` [B, 2, N, N] are indices: 1 + the place in the flat matrices, 0: nowhere.
  """
  flat = lambda x: jnp.concatenate([jnp.zeros(1), x.ravel()])
  spatial = flat(params["spatial"])[features[:, 0]]
  return spatial + flat(params["temporal"])[features[:, 1]]


def nuclear_norm(params: PyTree, logits: jax.Array) -> jax.Array:
  """Sum of the singular values of the spatial probabilities."""
  del logits
  probability = jax.nn.sigmoid(params["spatial"])
  return jnp.sum(jnp.linalg.svd(probability, compute_uv=False))


def pruned(values: np.ndarray, mask: np.ndarray, share: float) -> np.ndarray:
  """The mask [E, E] without the lowest values: a share of it, one at least."""
  left = int(mask.sum())
  removed = min(left, max(1, round(share * left)))
  lowest = np.argsort(np.where(mask, values, np.inf), axis=None, kind="stable")
  kept = mask.copy()
  kept.flat[lowest[:removed]] = False
  return kept


def _learnt(setting):
  size, rounds = len(setting.experts.names), setting.option("rounds", 2)
  share, every = setting.option("prune", 0.25), setting.option("prune_every", 0)
  nuclear, examples = setting.option("nuclear", 0.0), setting.problem.examples
  # An expert does hear itself of the last round, as in the public code.
  masks = {
    "spatial": ~np.eye(size, dtype=bool),
    "temporal": np.ones((size, size), bool),
  }

  def prune(params):
    for name, mask in masks.items():
      masks[name] = pruned(np.asarray(params[name]), mask, share)
    return spread(masks["spatial"], masks["temporal"], rounds)

  def revise(step, params, allowed):
    return prune(params) if every and step % every == 0 else allowed

  def answerer_of(edges):
    return decisions.answerer(setting, heard_by_all(edges, size))

  # 1. Which messages help.
  where = _places(size, rounds)
  params, _, steps = edge_policy.reinforce(
    np.random.default_rng(setting.seed),
    {name: np.zeros((size, size), np.float32) for name in masks},
    logits_of,
    np.broadcast_to(where, (len(examples), *where.shape)),
    spread(masks["spatial"], masks["temporal"], rounds),
    decisions.on_questions(
      setting, answerer_of, reserve=(rounds * size + 1) * len(examples)
    ),
    decisions.training(
      setting,
      steps=10,
      penalty=nuclear_norm if nuclear else edge_policy.no_penalty,
      strength=nuclear,
    ),
    revise,
  )
  # 2. The lowest are cut, and of the others those that were likely stay.
  if not every:
    prune(params)
  spatial = edge_policy.keep(params["spatial"], masks["spatial"])
  temporal = (np.asarray(params["temporal"]) > 0) & masks["temporal"]
  return decisions.found(
    setting,
    answerer_of(spread(spatial, temporal, rounds)),
    spatial=_named(setting, spatial),
    temporal=_named(setting, temporal),
    steps=steps,
  )


def _places(size, rounds):
  """The features of `logits_of` [2, N, N]."""
  places = 1 + np.arange(size * size).reshape(size, size)
  nowhere = np.zeros_like(places)
  return np.stack([spread(places, nowhere, rounds), spread(nowhere, places, rounds)])


def _best_of_pruned(setting):
  degrees = setting.option("degrees", DEGREES)
  jobs, shares = [], []
  for run in range(setting.option("runs", 20)):
    edges, weights, end = _random(np.random.default_rng([setting.seed, run]), setting)
    for degree in degrees:
      kept = pruned(weights, edges, degree) if degree else edges
      graph = dag.from_edges(kept, end)
      jobs.append(system.make_job(graph, weights=setting.first))
      shares.append(degree)
  # The first one answers whatever there is to spend.
  bought = decisions.affordable(setting, jobs)
  if not bought:
    return Found(jobs[0], notes={"graphs": 0})
  index, dev = setting.best(bought)
  notes = {
    "graphs": len(bought),
    "pruned": shares[index],
    "edges": _named(setting, jobs[index].edges),
  }
  return Found(bought[index], dev, notes=notes)


def _random(rng, setting):
  """(edges [E, E], their weights [E, E], end): pairs of a random order by chance."""
  size = len(setting.experts.names)
  place = rng.permutation(size)
  later = place[:, None] < place[None, :]
  edges = later & (rng.random((size, size)) < 0.5)
  end = int(np.argmax(place))
  # Somebody speaks to the end, and nobody is silent: what is pruned is a whole system.
  edges[:, end] |= later[:, end] & ~edges.any(1)
  return edges, rng.random((size, size)), end


def _named(setting, edges):
  names = setting.experts.names
  return [f"{names[i]} > {names[j]}" for i, j in np.argwhere(edges)]
