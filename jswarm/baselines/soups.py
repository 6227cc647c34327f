"""Averages of experts: one model in place of many, at the cost of one.

  groups -> mixes [E_group] -> weights -> single

A group is what shares a base, and only within a group is anything averaged; of several
groups the one whose soup is best on dev answers.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines.base import Found, Setting, best_of
from jswarm.core.types import PyTree
from jswarm.systems import system
from jswarm.systems.system import Job
from jswarm.systems.weights import Weights


def mixed(setting: Setting, group: int, mix: Sequence[float] | np.ndarray) -> Job:
  """The system of one expert whose weights are sum_e mix[e] x_e of its group.

  In the space in which the pool moves: factor by factor, or dense updates. Averages are
  taken in float32; every member of the group gets the same weights, and the first one
  answers.
  """
  one = combined(jnp.asarray(mix, jnp.float32)[None], setting.first.trees[group])
  (place,) = placed(setting, group, one)
  return system.single(*place)


def placed(
  setting: Setting, group: int, particles: PyTree
) -> list[tuple[int, Weights]]:
  """Where each of some particles answers: (expert, weights).

  As many of them as the group has experts stand beside each other in one `Weights`.

  Args:
    particles: leaves [P, ...], of the shape of one expert of the group.
  """
  members = setting.experts.groups[group]
  count = len(jax.tree.leaves(particles)[0])
  found = []
  for first in range(0, count, len(members)):
    rows = np.arange(first, first + len(members))
    rows = jnp.asarray(np.where(rows < count, rows, 0))
    trees = list(setting.first.trees)
    trees[group] = jax.tree.map(lambda x, rows=rows: x[rows], particles)
    weights = setting.problem.evaluator.named(tuple(trees))
    found += [(member, weights) for member in members]
  return found[:count]


@jax.jit
def combined(mixes: jax.Array, tree: PyTree) -> PyTree:
  """Particles [P, ...], each a sum by its row of mixes [P, E_group], in float32."""
  mean = lambda x: jnp.tensordot(mixes, x.astype(jnp.float32), axes=1).astype(x.dtype)
  return jax.tree.map(mean, tree)


def uniform_soup(setting: Setting) -> Found:
  """The mean of all experts of a group (Wortsman et al., arXiv 2203.05482)."""
  groups = setting.experts.groups
  soups = [mixed(setting, g, np.full(len(m), 1 / len(m))) for g, m in enumerate(groups)]
  index, dev = setting.best(soups)
  names = [setting.experts.names[e] for e in groups[index]]
  return Found(soups[index], dev, notes={"experts": names})


def greedy_soup(setting: Setting) -> Found:
  """Experts join one by one, the best on dev first, where the mean gets better.

  An expert stays if the mean with it is strictly better on dev (arXiv 2203.05482,
  Recipe 1). E - 1 soups are scored in a group of E.
  """
  found = [_greedy(setting, group) for group in range(len(setting.experts.groups))]
  return best_of(found)


def _greedy(setting, group):
  members = setting.experts.groups[group]
  order = [e for e in setting.by_dev if e in members]
  chosen, dev = [order[0]], float(setting.singles[order[0]])
  answerer = system.single(order[0], setting.first)
  for expert in order[1:]:
    if not setting.left(len(setting.problem.examples)):
      break
    soup = [*chosen, expert]
    mix = [(member in soup) / len(soup) for member in members]
    candidate = mixed(setting, group, mix)
    _, utility = setting.best([candidate])
    if utility > dev:
      chosen, dev, answerer = soup, utility, candidate
  names = [setting.experts.names[e] for e in chosen]
  return Found(answerer, dev, notes={"experts": names})
