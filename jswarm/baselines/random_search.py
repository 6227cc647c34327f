"""What luck finds for the same calls: random graphs, or random mixes of the experts."""

import functools

import jax
import numpy as np

from jswarm.baselines import soups
from jswarm.baselines.base import Found, Setting
from jswarm.graphs import decode
from jswarm.swarm import proposals
from jswarm.systems.system import Job

CALLS = 10_000  # where no budget is given: about a hundred graphs on ten questions
_AT_ONCE = 10


def random_graphs(setting: Setting) -> Found:
  """The best on dev of as many random graphs as the calls buy; expert i on node i.

  They are drawn as a search draws its first ones. Options: `graph`, the
  `decode.Settings` of a search (top-p .8 and one edge a node by default).
  """
  settings = setting.option("graph", decode.Settings(top_p=0.8))
  draw = functools.partial(_graphs, setting, settings)
  return _best(setting, draw)


def random_weights(setting: Setting) -> Found:
  """The best on dev of as many random mixes of the experts as the calls buy.

  Mixes are uniform on the simplex of a group's experts, and stand alone; of several
  groups each is tried in turn.
  """

  def draw(turn: int) -> list[Job]:
    rng = np.random.default_rng([setting.seed, turn])
    group = turn % len(setting.experts.groups)
    members = len(setting.experts.groups[group])
    mixes = rng.dirichlet(np.ones(members), _AT_ONCE)
    return [soups.mixed(setting, group, mix) for mix in mixes]

  return _best(setting, draw)


def _graphs(setting, settings, turn):
  """Ten random graphs, on weights as they came."""
  key, nodes = jax.random.fold_in(setting.key(), turn), len(setting.experts.names)
  return proposals.drawn(key, _AT_ONCE, nodes, settings, setting.first)


def _best(setting, draw):
  """Draws until the calls are spent; `draw(turn)` gives some systems each time."""
  calls = setting.calls or CALLS
  # The first one is scored whatever it costs: somebody has to answer.
  best, *rest = draw(0)
  _, dev = setting.best([best])
  tried, turn = 1, 0
  while rest := _affordable(rest, calls - setting.spent, len(setting.problem.examples)):
    index, utility = setting.best(rest)
    if np.isnan(dev) or utility > dev:
      best, dev = rest[index], utility
    tried, turn = tried + len(rest), turn + 1
    rest = draw(turn)
  return Found(best, dev, notes={"tried": tried})


def _affordable(jobs, calls, examples):
  """The jobs that so many calls buy, in order."""
  bought = []
  for job in jobs:
    calls -= len(job.members()) * examples
    if calls >= 0:
      bought.append(job)
  return bought
