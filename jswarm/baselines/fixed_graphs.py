"""Chain and star: graphs by hand, in the best of some orders of the experts."""

from collections.abc import Callable, Sequence

import numpy as np

from jswarm.baselines.base import Found, Setting
from jswarm.graphs import topologies
from jswarm.graphs.dag import Dag
from jswarm.systems import system

ORDERS = 20  # as in the paper


def chain(setting: Setting) -> Found:
  """A line of all experts.

  "paper": the best on dev of 20 random orders (option `orders`). "original": by dev
  utility, the best expert last.
  """
  return _best_order(setting, topologies.chain, setting.by_dev[::-1])


def star(setting: Setting) -> Found:
  """One hub hears all others.

  "paper": one expert speaks to eight, and those to one (1-8-1), the best on dev of 20
  random orders. "original": all others speak to the best expert on dev.
  """
  if setting.variant == "paper":
    return _best_order(setting, topologies.broadcast, ())
  return _best_order(setting, topologies.star, setting.by_dev[::-1])


def _best_order(
  setting: Setting, topology: Callable[[int], Dag], by_dev: Sequence[int]
) -> Found:
  orders = [by_dev]
  if setting.variant == "paper":
    rng = np.random.default_rng(setting.seed)
    size, tried = len(setting.experts.names), setting.option("orders", ORDERS)
    orders = [tuple(rng.permutation(size).tolist()) for _ in range(tried)]
    cost = size * len(setting.problem.examples)
    affordable = max(1, (setting.calls - setting.spent) // cost)
    orders = orders[:affordable] if setting.calls else orders
  dag = topology(len(setting.experts.names))
  jobs = [system.make_job(dag, order, setting.first) for order in orders]
  index, dev = setting.best(jobs)
  names = [setting.experts.names[e] for e in orders[index]]
  return Found(jobs[index], dev, notes={"order": names})
