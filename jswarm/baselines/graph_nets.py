"""Small networks on graphs: attention, convolution, and the edges that they predict.

  features [N, D] -> attend | convolve -> node states [N, H] -> links -> logits [N, N]

Plain functions of a dict of arrays.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jswarm.core.types import PyTree

WIDTH = 16  # of node states
_TRAINING = 200  # steps of `fit`
_ADAM = optax.adam(0.01)


def init(
  rng: np.random.Generator,
  width: int,
  matrices: Sequence[str],
  vectors: Sequence[str] = (),
) -> PyTree:
  """Two layers and the links, as they begin.

  Args:
    width: of the features. matrices, vectors: of a layer, by name.
  """

  def drawn(*shape):
    return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

  layers = []
  for size in (width, WIDTH):
    layer = {name: drawn(size, WIDTH) for name in matrices}
    layers.append({**layer, **{name: drawn(WIDTH) for name in vectors}})
  return {
    "layers": layers,
    "speaks": drawn(WIDTH, WIDTH),
    "hears": drawn(WIDTH, WIDTH),
    "bias": np.float32(0),
  }


def attend(params: PyTree, features: jax.Array, edges: jax.Array) -> jax.Array:
  """float32 [N, H]: two layers in which a node attends to itself and to its neighbours.

  Args:
    params: layers of `weight` [D, H], `speaker` [H], `hearer` [H].
    features: [N, D]. edges: bool [N, N].
  """
  near = edges | edges.T | jnp.eye(len(edges), dtype=bool)
  states = features
  for layer in params["layers"]:
    sent = states @ layer["weight"]
    score = (sent @ layer["hearer"])[:, None] + (sent @ layer["speaker"])[None, :]
    score = jnp.where(near, jax.nn.leaky_relu(score, 0.2), -jnp.inf)
    states = jax.nn.elu(jax.nn.softmax(score, axis=1) @ sent)
  return states


def convolve(params: PyTree, features: jax.Array, edges: jax.Array) -> jax.Array:
  """float32 [N, H]: two layers of a node's own state and the mean of its neighbours.

  A node's own part has weights of its own, or few layers would make all nodes alike.
  """
  near = (edges | edges.T).astype(jnp.float32)
  near = near / jnp.maximum(jnp.sum(near, axis=1, keepdims=True), 1.0)
  states = features
  for layer in params["layers"]:
    states = jnp.tanh(states @ layer["own"] + near @ states @ layer["near"])
  return states


def links(params: PyTree, states: jax.Array) -> jax.Array:
  """float32 [N, N]: (W1 u_i) . (W2 u_j) + b, so that i to j is not j to i."""
  spoken, heard = states @ params["speaks"], states @ params["hears"]
  return spoken @ heard.T / jnp.sqrt(WIDTH) + params["bias"]


@jax.jit
def predict(params: PyTree, features: jax.Array, edges: jax.Array) -> jax.Array:
  """float32 [N, N]: logits of all edges, looking at a graph by attention."""
  return links(params, attend(params, features, edges))


@jax.jit
def fit(
  params: PyTree, features: jax.Array, edges: jax.Array, labels: jax.Array
) -> PyTree:
  """The params of `predict` after Adam on the labels that are no NaN.

  Args:
    features: [N, D]. edges: bool [G, N, N]. labels: float32 [G, N, N] of 0, 1, NaN.
  """
  known = ~jnp.isnan(labels)

  def loss(params):
    logits = jax.vmap(lambda e: links(params, attend(params, features, e)))(edges)
    costs = optax.sigmoid_binary_cross_entropy(logits, jnp.where(known, labels, 0.0))
    return jnp.sum(jnp.where(known, costs, 0.0)) / jnp.maximum(jnp.sum(known), 1)

  def step(carry, _):
    params, state = carry
    moves, state = _ADAM.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, moves), state), None

  begin = params, _ADAM.init(params)
  (params, _), _ = jax.lax.scan(step, begin, None, _TRAINING)
  return params
