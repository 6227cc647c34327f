"""Edges predicted by a small graph network: attention on the system, or one a question.

  graphs and f, or questions -> graph_nets -> edge logits [N, N] -> graph

Nodes are the experts and one that decides.
"""

from collections.abc import Hashable, Sequence
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines import decisions, edge_policy, graph_nets
from jswarm.baselines.base import Found, Setting
from jswarm.baselines.graph_nets import WIDTH
from jswarm.core.digests import digest
from jswarm.core.types import PyTree, Request
from jswarm.swarm import problem as problem_lib
from jswarm.systems.answerer import Answering
from jswarm.systems.prompts import Question, Terms
from jswarm.systems.weights import Weights

_ATTENTION = (("weight",), ("speaker", "hearer"))  # of a layer of `graph_nets.attend`


def learned_edges(setting: Setting) -> Found:
  """A graph network that says which edges a system should have.

  "paper": a graph attention network (Velickovic et al., arXiv 1710.10903) with random
  node features. Random graphs are scored on dev; of each edge of each it learns
  whether f was above the mean of the graphs without that edge. Then all edges are
  predicted, on the graph that was best on dev. Options: `graphs` (20), `decision`.

  "original": as G-Designer (Zhang et al., arXiv 2410.11782) with a graph of its own for
  each question: a graph convolution over a chain of the experts, REINFORCE on what
  edges came to. Nodes are described by the hidden states of a profile and of the
  question where the pool has them (`Experts.hidden`); else by chance, and all questions
  have one graph. Logits are directed and not rescaled; all layers are trained. Options:
  `steps` (10), `batch` (4), `rate` (.1), `baseline`, `sparsity` (.1, the factor of the
  mean probability of an edge), `profiles` (a text an expert; its name).
  """
  if setting.variant == "original":
    return _designed(setting)
  return _predicted(setting)


def raises(edges: np.ndarray, utility: np.ndarray) -> np.ndarray:
  """float32 [G, N, N]: of an edge of graph g, is f_g above the mean without that edge?

  Where every graph has the edge, above the mean of all. NaN: no edge, or no utility.

  Args:
    edges: bool [G, N, N]. utility: f, float [G].
  """
  known = ~np.isnan(utility)
  without = ~edges & known[:, None, None]
  sums = np.where(without, np.nan_to_num(utility)[:, None, None], 0.0).sum(0)
  count = without.sum(0)
  overall = utility[known].mean() if known.any() else 0.0
  bar = np.where(count > 0, sums / np.maximum(count, 1), overall)
  label = (utility[:, None, None] > bar).astype(np.float32)
  return np.where(edges & known[:, None, None], label, np.nan).astype(np.float32)


class Net(NamedTuple):
  """A trained network of the "original", and what describes its nodes.

  Attributes:
    params: of `graph_nets.convolve` and `links`. profiles: float32 [N, W].
    reader: the expert whose hidden states describe questions; -1: nobody's do.
    centre: float32 [D], the mean state of dev questions. projection: float32 [D, W].
  """

  params: PyTree
  profiles: np.ndarray
  reader: int
  centre: np.ndarray
  projection: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Designer:
  """Answers each question by a graph that a network draws up for it.

  Attributes:
    net: the network. setting: whose pool, and whose decision.
    allowed: bool [N, N], edges at all.
  """

  net: Net
  setting: Setting
  allowed: np.ndarray

  @property
  def weights(self) -> Weights | None:
    return self.setting.first

  @functools.cached_property
  def _name(self):
    return digest(tuple(self.net))

  def members(self) -> Sequence[int]:
    return [*range(len(self.setting.experts.names)), self.setting.by_dev[0]]

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self._name, self.setting.option("decision", "")

  def answer(self, question: Question, terms: Terms) -> Answering:
    graph = decisions.answerer(self.setting, self.edges(question.prompt))
    return (yield from graph.answer(question, terms))

  def edges(self, prompt: str) -> np.ndarray:
    """bool [N, N]: the graph for this question."""
    features = _features(self.setting, self.net, [prompt])
    logits = logits_of(self.net.params, features)[0]
    return np.asarray(edge_policy.keep(logits, self.allowed))


@jax.jit
def logits_of(params: PyTree, features: jax.Array) -> jax.Array:
  """float32 [B, N, N] of features [B, N, D], over a chain of the nodes."""
  chain = jnp.eye(features.shape[1], k=1, dtype=bool)
  return jax.vmap(
    lambda f: graph_nets.links(params, graph_nets.convolve(params, f, chain))
  )(features)


def density(params: PyTree, logits: jax.Array) -> jax.Array:
  """The mean probability of an edge, so that few stay."""
  del params
  return jnp.mean(jax.nn.sigmoid(logits))


def _predicted(setting):
  allowed = decisions.allowed(setting)
  rng = np.random.default_rng(setting.seed)
  # 1. Random graphs, scored.
  count = setting.option("graphs", 20)
  even = np.zeros((count, *allowed.shape), np.float32)
  edges = edge_policy.sample(rng, even, allowed).taken
  jobs = [decisions.answerer(setting, one) for one in edges]
  reserve = len(allowed) * len(setting.problem.examples)
  bought = decisions.affordable(setting, jobs, reserve)
  utility = np.full(count, np.nan)
  if bought:
    utility[: len(bought)] = [e.utility for e in setting.score(bought)]
  # 2. The network learns which edges stood in better graphs.
  features = rng.normal(size=(len(allowed), WIDTH)).astype(np.float32)
  params = graph_nets.init(rng, WIDTH, *_ATTENTION)
  params = graph_nets.fit(params, features, edges, raises(edges, utility))
  # 3. And says which edges of all there should be, looking at the best of them.
  best = problem_lib.argmax(utility)
  logits = graph_nets.predict(params, features, edges[best])
  kept = edge_policy.keep(logits, allowed)
  return decisions.found(
    setting,
    decisions.answerer(setting, kept),
    edges=decisions.described(setting, kept),
    graphs=len(bought),
  )


def _designed(setting):
  allowed, examples = decisions.allowed(setting), setting.problem.examples
  prompts = [setting.problem.evaluator.task.prompt(e) for e in examples]
  net = _untrained(setting, prompts)
  params, _, steps = edge_policy.reinforce(
    np.random.default_rng(setting.seed),
    net.params,
    logits_of,
    _features(setting, net, prompts),
    allowed,
    decisions.on_questions(
      setting,
      lambda edges: decisions.answerer(setting, edges),
      reserve=len(allowed) * len(examples),
    ),
    decisions.training(
      setting,
      steps=10,
      penalty=density,
      strength=setting.option("sparsity", 0.1),
    ),
  )
  designer = Designer(net._replace(params=params), setting, allowed)
  return decisions.found(
    setting, designer, steps=steps, hidden=net.reader >= 0, name=designer._name[:8]
  )


def _untrained(setting, prompts):
  """A `Net` as it begins: nodes described by hidden states, or by chance."""
  names, rng = setting.experts.names, np.random.default_rng(setting.seed)
  params = graph_nets.init(rng, 2 * WIDTH, ("own", "near"))
  profiles = [*setting.option("profiles", names), "reads all others and decides"]
  if setting.experts.hidden is None:
    drawn = rng.normal(size=(len(profiles), WIDTH)).astype(np.float32)
    nobody = np.zeros((0, WIDTH), np.float32)
    return Net(params, drawn, -1, nobody[:, 0], nobody)
  reader = setting.by_dev[0]
  said, asked = _hidden(setting, reader, profiles), _hidden(setting, reader, prompts)
  projection = rng.normal(size=(said.shape[1], WIDTH)).astype(np.float32)
  return Net(
    params, _scaled(said - said.mean(0), projection), reader, asked.mean(0), projection
  )


def _features(setting, net, prompts):
  """float32 [X, N, 2 W]: each node's profile beside the question."""
  asked = np.zeros((len(prompts), WIDTH), np.float32)
  if net.reader >= 0:
    states = _hidden(setting, net.reader, prompts)
    asked = _scaled(states - net.centre, net.projection)
  shape = (len(prompts), len(net.profiles), WIDTH)
  sides = (net.profiles[None], asked[:, None])
  return np.concatenate([np.broadcast_to(side, shape) for side in sides], axis=2)


def _hidden(setting, reader, texts):
  """float32 [len(texts), D]; prefills, which are not counted as calls."""
  experts = setting.problem.evaluator.memo.on(setting.first)
  room = experts.room(reader, 1)
  fitted = [experts.clip(reader, text, room) for text in texts]
  return np.asarray(experts.hidden([Request(reader, text, 1) for text in fitted]))


def _scaled(states, projection):
  """float32 [X, W]: projected directions; states of any size are of one size."""
  size = np.linalg.norm(states, axis=1, keepdims=True)
  return (states / np.where(size > 0, size, 1.0)) @ projection
