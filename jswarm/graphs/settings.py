"""How an adjacency becomes a graph: the settings of `decode`, which checks them."""

import dataclasses

import numpy as np

from jswarm.core import lookup

EDGE_MODES = ("single", "multi", "independent")
PREFERENCES = ("raw", "standard")
NOISES = ("fresh", "particle")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How an adjacency becomes a graph.

  Attributes:
    top_p: p; nodes and edges are drawn from the smallest set of candidates whose
      probabilities add up to p. 0: always the most probable one (the public code's
      default; the paper says 0.8).
    anneal: moves over which p falls to 0 in a straight line; 0: p stays.
    edge_mode: "single": a node speaks to one node; "independent": to each earlier
      node v with probability softmax(a_uv), so that some speak to nobody (the paper,
      read literally); "multi": the same, and to the most probable if none was drawn.
    threshold: tau; smaller entries are no edges. 0: every entry may be an edge.
    as_published: like the public code, draw by the softmax of the selected
      probabilities (nearly uniform) instead of renormalising them.
    noise: a particle's draws are "fresh" at every move, or the "particle" keeps its
      own (common random numbers), so that a small move is a small change.
    preferences: entries and row sums are logits as they are ("raw", the paper), or
      "standard": each with mean 0 and deviation 1 / `temperature` among its rivals,
      and the end node by the diagonal, a preference of its own.
  """

  top_p: float = 0.8
  anneal: int = 0
  edge_mode: str = "single"
  threshold: float = 0.0
  as_published: bool = False
  noise: str = "fresh"
  preferences: str = "raw"
  temperature: float = 0.5

  def __post_init__(self):
    if not 0 <= self.top_p <= 1:
      raise ValueError(f"graph.top_p={self.top_p}: allowed is 0 (greedy) to 1.")
    if self.anneal < 0:
      raise ValueError(f"graph.anneal={self.anneal}: allowed is 0 (never) or more.")
    for field, allowed in (
      ("edge_mode", EDGE_MODES),
      ("noise", NOISES),
      ("preferences", PREFERENCES),
    ):
      lookup.check(f"graph.{field}", getattr(self, field), allowed)
    if not 0 < self.temperature < np.inf:
      raise ValueError(
        f"graph.temperature={self.temperature}: allowed is a positive number."
      )
    if not 0 <= self.threshold < np.inf:
      raise ValueError(
        f"graph.threshold={self.threshold}: allowed is 0 (no threshold)"
        " or a positive number."
      )

  @property
  def random(self) -> bool:
    """Does decoding need a key?"""
    return self.top_p > 0 or self.edge_mode != "single"
