"""Continuous adjacencies -> executable graphs: the paper's G-Decode.

    pso (adjacency [G, N, N]) -> decode_swarm -> Dag -> messages

Entry [i, j] is how much node i prefers to speak to node j; the diagonal is ignored.
Decoding orders the nodes, the end node first, and connects each to nodes before it,
so every result is acyclic. Pure functions; the unbatched one comes first.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import quick
from jswarm.graphs import topologies
from jswarm.graphs.dag import Dag, from_edges, make_dag
from jswarm.graphs.settings import EDGE_MODES, Settings

__all__ = (
  "EDGE_MODES",
  "TOPOLOGIES",
  "Dag",
  "Settings",
  "check_adjacency",
  "decode",
  "decode_swarm",
  "from_edges",
  "init_adjacency",
  "make_dag",
  "topology",
)

_LEAST_DEGREE = 1e-2  # 1 / out-degree stays in the range of exp


def decode(adjacency: jax.Array, key: jax.Array | None = None, **fields: Any) -> Dag:
  """One adjacency as a graph (Algorithm 2 of the paper, G-Decode).

  Total for finite input: zero, negative and huge entries and ties all decode. With
  a threshold, a node without any allowed edge stays unconnected.

  Args:
    adjacency: float [N, N].
    key: needed unless `top_p` is 0 and `edge_mode` is "single".
    fields: of `Settings`; static. Unless told otherwise, `top_p` is 0 here.

  Raises:
    ValueError: not a square matrix, an entry that is not finite (under jit nobody
      looks), an invalid setting, or a missing key.
  """
  chosen: dict[str, Any] = {"top_p": 0.0, **fields}
  settings = Settings(**chosen)
  if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
    raise ValueError(
      f"the adjacency has the shape {adjacency.shape}: allowed is"
      " [N, N]. Decode a batch with decode_swarm."
    )
  if not isinstance(adjacency, jax.core.Tracer):
    check_adjacency(adjacency)
  return _decode(adjacency, _check_key(key, settings), settings)


@functools.partial(quick.jit, static_argnames="settings")
def decode_swarm(
  adjacency: jax.Array,
  keys: jax.Array | None = None,
  settings: Settings = Settings(),
  top_p: jax.typing.ArrayLike | None = None,
) -> Dag:
  """`decode` for adjacency [G, N, N] and keys [G]; every field has a leading [G].

  `top_p`: instead of the settings' one, which may fall from move to move.
  """
  keys = _check_key(keys, settings)
  return jax.vmap(lambda a, k: _decode(a, k, settings, top_p))(adjacency, keys)


@functools.partial(quick.jit, static_argnums=(1, 2, 3))
def init_adjacency(
  key: jax.Array, num_graphs: int, num_nodes: int, diagonal: bool = False
) -> jax.Array:
  """float32 [G, N, N] from U(0, 1); graph g depends on g alone.

  The diagonal is zero unless asked for: only standard preferences read it.
  """

  def one(g):
    drawn = jax.random.uniform(jax.random.fold_in(key, g), (num_nodes, num_nodes))
    return drawn if diagonal else jnp.where(jnp.eye(num_nodes, dtype=bool), 0.0, drawn)

  return jax.vmap(one)(jnp.arange(num_graphs))


def check_adjacency(adjacency: jax.Array | np.ndarray) -> None:
  """On the host: raises ValueError unless [N, N] or [G, N, N] and finite."""
  values = np.asarray(adjacency)
  if values.ndim not in (2, 3) or values.shape[-1] != values.shape[-2]:
    raise ValueError(
      f"the adjacency has the shape {values.shape}: allowed are [N, N] and [G, N, N]."
    )
  bad = np.argwhere(~np.isfinite(values))
  if len(bad):
    *graph, i, j = bad[0].tolist()
    where = f"graph {graph[0]}, entry" if graph else "entry"
    raise ValueError(
      f"{where} [{i}, {j}] is {values[tuple(bad[0])]} ({len(bad)} such entries):"
      " allowed are finite numbers. Use a shorter role.step_length, or start from"
      " adjacencies without such entries."
    )


def _check_key(key, settings):
  if settings.random and key is None:
    raise ValueError(
      f"key is None: decoding with top_p={settings.top_p} and"
      f" edge_mode={settings.edge_mode!r} is random. Pass a key, or use"
      " top_p=0 with edge_mode='single'."
    )
  return key


@functools.partial(quick.jit, static_argnames="settings")
def _decode(adjacency, key, settings, top_p=None):
  """`decode` without checks: [N, N] -> Dag."""
  allowed = ~jnp.eye(len(adjacency), dtype=bool)
  # At 0 there is no threshold: the public code decodes negative entries too.
  if settings.threshold > 0:
    allowed &= adjacency >= settings.threshold
  # 1. How much each node, and each edge, is preferred.
  degree = _out_degree(adjacency, allowed)
  end = None
  if settings.preferences == "standard":
    end = _standard(jnp.diagonal(adjacency), settings)
    degree = _standard(degree, settings)
    adjacency = _standard(adjacency, settings, where=allowed)
  node_noise = edge_noise = None
  if settings.random:
    node_noise, edge_noise = jax.random.uniform(
      key, (2, *adjacency.shape), minval=jnp.finfo(jnp.float32).tiny
    )
  # 2. The order of the nodes, the end first.
  top_p = settings.top_p if top_p is None else top_p
  if settings.top_p > 0:
    rank = _sampled_rank(degree, end, node_noise, settings, top_p)
  else:
    rank = _greedy_rank(degree, end)
  # 3. Each node speaks to nodes before it.
  candidates = allowed & (rank[None, :] < rank[:, None])
  if settings.edge_mode == "single":
    edges = _single_edges(adjacency, candidates, edge_noise, settings, top_p)
  else:
    edges = _bernoulli_edges(adjacency, candidates, edge_noise, settings)
  return make_dag(edges, jnp.argmin(rank), rank)


def _standard(values, settings, where=None):
  """The values of the last axis as logits of mean 0, deviation 1 / temperature."""
  where = jnp.ones(values.shape, bool) if where is None else where
  mean = jnp.mean(values, axis=-1, keepdims=True, where=where)
  spread = jnp.std(values, axis=-1, keepdims=True, where=where)
  known = jnp.isfinite(spread) & (spread > 0)  # all equal, or nothing allowed
  scaled = (values - mean) / jnp.where(known, spread * settings.temperature, 1.0)
  return jnp.where(known, scaled, 0.0)


def _out_degree(adjacency, allowed):
  """Row sums; scaled down by a power of two where they could overflow."""
  values = jnp.where(allowed, adjacency, 0.0)
  huge = jnp.max(jnp.abs(values), initial=0.0) > 2.0**100
  return jnp.sum(values * jnp.where(huge, 2.0**-28, 1.0), axis=1)


def _greedy_rank(degree, end_scores):
  """int32 [N], 0 for the end node: the closed form of greedy selection.

  The end has the largest score, by default 1 / out-degree, found by order instead of by
  division: the smallest out-degree that is not negative. All others follow by falling
  out-degree. Ties go to the larger index, as in the public code.
  """
  if end_scores is None:
    able = degree >= 0
    end_scores = -jnp.where(able | ~jnp.any(able), degree, jnp.inf)
  end = _last_argmax(end_scores)
  return _position(jnp.where(jnp.arange(len(degree)) == end, jnp.inf, degree))


def _position(values):
  """int32 [N]: place of each value when they fall; ties: the last one comes first.

  Counted, which for a few dozen nodes is several times faster than to sort.
  """
  node = jnp.arange(len(values))
  larger = values[None, :] > values[:, None]
  tied = (values[None, :] == values[:, None]) & (node[None, :] > node[:, None])
  return jnp.sum(larger | tied, axis=1, dtype=jnp.int32)


def _sampled_rank(degree, end_scores, noise, settings, top_p):
  """int32 [N]: the node's turn when nodes are drawn one after the other.

  `noise` [N, N] holds U(0, 1) for each turn and node; `end_scores` [N], None: 1 /
  degree.
  """
  if end_scores is None:
    sign = jnp.where(degree >= 0, 1.0, -1.0)
    end_scores = sign / jnp.maximum(jnp.abs(degree), _LEAST_DEGREE)
  node = jnp.arange(len(degree))

  def draw(rank, turn):
    scores = jnp.where(turn == 0, end_scores, degree)
    drawn = _top_p(noise[turn], scores, rank < 0, settings, top_p)
    return jnp.where(node == drawn, turn, rank), None

  return jax.lax.scan(draw, jnp.full_like(node, -1), node)[0]


def _single_edges(adjacency, candidates, noise, settings, top_p):
  """bool [N, N]: one edge a row that has a candidate."""
  nodes = jnp.arange(len(adjacency))
  if settings.top_p > 0:
    drawn = jax.vmap(lambda u, a, c: _top_p(u, a, c, settings, top_p))(
      noise, adjacency, candidates
    )
  else:
    drawn = jax.vmap(_last_argmax)(jnp.where(candidates, adjacency, -jnp.inf))
  return (drawn[:, None] == nodes[None, :]) & candidates


def _bernoulli_edges(adjacency, candidates, noise, settings):
  """bool [N, N]: each candidate by its own probability; "multi": at least one a row."""
  probability = jax.vmap(_softmax)(adjacency, candidates)
  drawn = (noise < probability) & candidates
  if settings.edge_mode == "independent":
    return drawn
  best = jax.vmap(_last_argmax)(jnp.where(candidates, adjacency, -jnp.inf))
  forced = best[:, None] == jnp.arange(len(adjacency))[None, :]
  return jnp.where(jnp.any(drawn, axis=1, keepdims=True), drawn, forced) & candidates


def _top_p(noise, scores, mask, settings, top_p):
  """int32 []: an index in `mask`, by top-p over softmax(scores).

  `noise` [N] from U(0, 1) decides (Gumbel-max): its first number is that of the most
  probable candidate.
  """
  probability = _softmax(scores, mask)
  place = _position(jnp.where(mask, scores, -jnp.inf))
  before = jnp.sum(jnp.where(place[None, :] < place[:, None], probability, 0.0), axis=1)
  if settings.as_published:
    # The public code adds candidates until their mass exceeds p, then takes the
    # softmax of probabilities, which are no logits.
    kept, logits = before <= top_p, probability
  else:
    kept, logits = (before < top_p) | (place == 0), jnp.log(probability)
  gumbel = -jnp.log(-jnp.log(noise))[place]
  return jnp.argmax(jnp.where(kept & mask, logits + gumbel, -jnp.inf))


def _softmax(scores, mask):
  """Softmax over `mask`; zeros outside, and everywhere if the mask is empty."""
  scores = jnp.where(mask, scores, -jnp.inf)
  largest = jnp.max(scores)
  weight = jnp.exp(scores - jnp.where(jnp.isfinite(largest), largest, 0.0))
  return weight / jnp.maximum(jnp.sum(weight), 1.0)  # the largest weighs 1


def _last_argmax(values):
  """Index of the largest value; of the last one, if several tie."""
  return len(values) - 1 - jnp.argmax(jnp.flip(values))


def random(n: int, key: jax.Array) -> Dag:
  """The greedy decode of a uniformly random adjacency."""
  if key is None:
    raise ValueError("key is None: the random topology needs a key.")
  return _random(key, n)


@functools.partial(quick.jit, static_argnums=1)
def _random(key, n):
  return decode(init_adjacency(key, 1, n)[0])


TOPOLOGIES: dict[str, Callable[..., Dag]] = {
  "chain": topologies.chain,
  "star": topologies.star,
  "complete": topologies.complete,
  "random": random,
  "layered": topologies.layered,
  "tree": topologies.tree,
  "broadcast": topologies.broadcast,
}


def topology(name: str, n: int, key: jax.Array | None = None) -> Dag:
  """The topology of that name over n nodes; an unknown name lists the known ones."""
  if name not in TOPOLOGIES:
    raise ValueError(f"unknown topology {name!r}: known are {', '.join(TOPOLOGIES)}.")
  return TOPOLOGIES[name](n, key)
