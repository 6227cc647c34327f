"""All methods by name: the one place to add a method to, and the one way to run one."""

from collections.abc import Mapping
import dataclasses

from jswarm.baselines import (
  agent_prune,
  agentverse,
  best_single,
  data_merge,
  fixed_graphs,
  gptswarm,
  learned_edges,
  lorahub,
  macnet,
  merges,
  meta_agent,
  model_swarms,
  pack_of_llms,
  prompts,
  random_search,
  soups,
  votes,
)
from jswarm.baselines.base import Found, Method, NotApplicable, Setting, lacking
from jswarm.core import lookup

BOTH = ("paper", "original")

METHODS: dict[str, Method] = {
  "best_single": Method(best_single.best_single, "trivial"),
  "prediction_merge": Method(votes.prediction_merge, "trivial"),
  "data_merge": Method(data_merge.data_merge, "static weights", ("train",)),
  "uniform_soup": Method(soups.uniform_soup, "static weights", ("mixable",)),
  "dare_ties": Method(merges.dare_ties, "static weights", ("deltas",)),
  "greedy_soup": Method(soups.greedy_soup, "dynamic weights", ("mixable",)),
  "pack_of_llms": Method(pack_of_llms.pack_of_llms, "dynamic weights", ("logits",)),
  "lorahub": Method(lorahub.lorahub, "dynamic weights", ("mixable", "score")),
  "model_swarms": Method(
    model_swarms.model_swarms, "dynamic weights", ("mixable",), BOTH
  ),
  "chain": Method(fixed_graphs.chain, "static roles", variants=BOTH),
  "star": Method(fixed_graphs.star, "static roles", variants=BOTH),
  "gptswarm": Method(gptswarm.gptswarm, "dynamic roles", variants=BOTH),
  "agent_prune": Method(agent_prune.agent_prune, "dynamic roles", variants=BOTH),
  "learned_edges": Method(learned_edges.learned_edges, "dynamic roles", variants=BOTH),
  "agentverse": Method(agentverse.agentverse, "dynamic roles"),
  "macnet": Method(macnet.macnet, "dynamic roles"),
  "meta_agent": Method(meta_agent.meta_agent, "dynamic roles"),
  "random_graphs": Method(random_search.random_graphs, "control"),
  "random_weights": Method(random_search.random_weights, "control", ("mixable",)),
  "self_consistency": Method(votes.self_consistency, "control", ("sampling",)),
  "chain_of_thought": Method(prompts.chain_of_thought, "control"),
  "graph_of_thought": Method(prompts.graph_of_thought, "control"),
}


def find(name: str, setting: Setting, methods: Mapping[str, Method] = METHODS) -> Found:
  """Runs a method of that name.

  A variant that the method does not tell apart is its only one.

  Raises:
    NotApplicable: the pool or the task lacks what it needs.
    ValueError: no such method, or variant.
  """
  lookup.check("baseline", name, methods)
  method = methods[name]
  lookup.check("variant", setting.variant, BOTH)
  if setting.variant not in method.variants:
    setting = dataclasses.replace(setting, variant=method.variants[0])
  if lacks := lacking(method, setting):
    raise NotApplicable(f"{name} needs {' and '.join(lacks)}, which this pool has not.")
  return method.find(setting)
