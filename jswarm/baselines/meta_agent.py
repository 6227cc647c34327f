"""Meta-Agent: a model proposes graphs, sees what they score, and proposes again.

  archive -> prompt -> reply -> JSON -> checked graph -> dev -> archive

After ADAS (Hu et al., arXiv 2408.08435), whose meta agent writes programs. Here it
writes graphs, as JSON that is checked; nothing that a model wrote is ever run.
"""

import json
from typing import Any, NamedTuple

import numpy as np

from jswarm.baselines import decisions
from jswarm.baselines.base import Found, Setting
from jswarm.core import lookup
from jswarm.core.types import Request
from jswarm.graphs import dag, topologies
from jswarm.systems import system
from jswarm.systems.system import Job

GENERATIONS, REFLECTIONS, RETRIES = 30, 2, 3
TOKENS = 512  # of a proposal
_SHOWN = 12  # archived graphs, the best ones, that a prompt tells of

_SCHEMA = (
  'Reply with one JSON object and nothing else: {"thought": "why", "name": "a name",'
  ' "edges": [[from, to], ...], "end": node}. Nodes are the numbers of the experts. An'
  " edge [i, j] gives the answer of expert i to expert j. The end node gives the final"
  " answer. There is no cycle, the end speaks to nobody, and from every node that is"
  " used a path leads to the end. Experts may be left out."
)
_REFLECT = (  # rounds beyond these repeat the last
  "Look at your proposal again: is it new, is it without a cycle, does every node reach"
  " the end? Correct what is wrong.",
  "Improve it once more where you can, and write it down cleanly.",
)


class Proposal(NamedTuple):
  """A graph as JSON tells of it: edges as pairs of nodes, and the node that answers."""

  name: str
  edges: tuple[tuple[int, int], ...]
  end: int

  def job(self, setting: Setting) -> Job:
    """Expert i on node i; nodes that do not reach the end are not executed."""
    matrix = np.zeros((len(setting.experts.names),) * 2, bool)
    if self.edges:
      matrix[tuple(np.transpose(self.edges))] = True
    return system.make_job(dag.from_edges(matrix, self.end), weights=setting.first)


class Tried(NamedTuple):
  """A proposal and its dev utility."""

  proposal: Proposal
  dev: float

  def line(self) -> str:
    name, edges, end = self.proposal
    graph = json.dumps({"edges": [list(edge) for edge in edges], "end": end})
    return f"{self.dev:.4f} {graph} {name}"


def meta_agent(setting: Setting) -> Found:
  """The best on dev of the graphs that a model proposes, and of four to begin with.

  It begins with the chain, the star, the complete graph and the best expert alone, and
  is told, in each generation, of the best graphs so far with their dev utilities. A
  proposal is reflected on twice; one that is no valid graph goes back with the reason,
  up to three times. What is still invalid then is counted as failed, and does not count
  as a generation; there are at most twice as many tries as generations.

  Options:
    meta: who proposes: the name of an expert (the best one on dev), whose calls are
      counted as all others; or a function `requests -> replies`, an endpoint or another
      local model, whose calls stand in the notes.
    generations (30), reflections (2), retries (3), meta_tokens (512, of a reply).
    profiles: a text an expert, for the prompt.
  """
  meta, archive = _Meta(setting), _seeds(setting)
  wanted = setting.option("generations", GENERATIONS)
  cost = meta.most + len(setting.experts.names) * len(setting.problem.examples)
  made, failed = 0, 0
  while made < wanted and made + failed < 2 * wanted and setting.left(cost):
    # 1. A proposal, reflected on and corrected.
    proposal = _proposed(setting, meta, archive, made + failed + 1)
    if proposal is None:
      failed += 1
      continue
    # 2. Its utility on dev.
    made += 1
    _, dev = setting.best([proposal.job(setting)])
    archive.append(Tried(proposal, dev))
  best = _by_dev(archive)[0]
  name, edges, end = best.proposal
  notes = {
    "name": name,
    "edges": [list(edge) for edge in edges],
    "end": end,
    "generations": made,
    "failed": failed,
    "meta_calls": meta.calls,
  }
  return Found(best.proposal.job(setting), best.dev, notes=notes)


def read(reply: str, size: int) -> Proposal:
  """The graph that a reply holds, of nodes 0 .. size - 1.

  Raises:
    ValueError: no JSON object with edges, or what is wrong with the graph; for the
      model that wrote it.
  """
  said = _first_object(reply)
  # 1. The schema.
  edges: Any = said["edges"]
  end: Any = said.get("end")
  is_node = lambda x: type(x) is int and 0 <= x < size  # True is no node
  pairs = isinstance(edges, list) and all(
    isinstance(e, list) and len(e) == 2 and all(map(is_node, e)) for e in edges
  )
  if not pairs or not is_node(end):
    raise ValueError(
      f"edges have to be pairs [i, j] and end a number, all nodes of 0..{size - 1}."
    )
  # 2. Without a cycle, and the end speaks to nobody.
  matrix = np.zeros((size, size), bool)
  for i, j in edges:
    matrix[i, j] = True
  graph = dag.from_edges(matrix, end)
  # 3. Who has an edge reaches the end.
  used = matrix.any(0) | matrix.any(1)
  lost = np.flatnonzero(used & ~np.asarray(graph.active)).tolist()
  if lost:
    raise ValueError(f"from the nodes {lost} no path leads to the end {end}.")
  known = sorted({(i, j) for i, j in edges})
  return Proposal(str(said.get("name", "unnamed"))[:80], tuple(known), end)


def _first_object(reply):
  """The first JSON object of a reply that has edges."""
  decoder, start = json.JSONDecoder(), reply.find("{")
  while start >= 0:
    try:
      said, _ = decoder.raw_decode(reply, start)
    except (ValueError, RecursionError):  # no JSON, or brackets without end
      said = None
    if isinstance(said, dict) and "edges" in said:
      return said
    start = reply.find("{", start + 1)
  raise ValueError('the reply holds no JSON object with "edges" and "end".')


class _Meta:
  """Who proposes.

  Attributes:
    calls: made so far. most: of those that a generation takes, how many are counted as
      calls of the pool at most.
  """

  def __init__(self, setting: Setting):
    names, self._experts = setting.experts.names, setting.experts
    chosen = setting.option("meta", names[setting.by_dev[0]])
    self.reflections = setting.option("reflections", REFLECTIONS)
    self.retries = setting.option("retries", RETRIES)
    self.calls, self._limit = 0, setting.option("meta_tokens", TOKENS)
    self._expert, self._outside = 0, callable(chosen)
    if self._outside:
      self._ask, self._chat, self.most = chosen, True, 0
      return
    lookup.check("meta", chosen, names)
    self._expert = names.index(chosen)
    self._ask = setting.problem.evaluator.memo.ask
    self._chat = setting.problem.evaluator.task.chat
    self.most = 1 + self.reflections + self.retries
    # A small context leaves at least half of itself to the prompt.
    while self._limit > 1 and self._room < self._limit:
      self._limit //= 2

  @property
  def _room(self):
    return self._experts.room(self._expert, self._limit)

  def fits(self, prompt: str) -> bool:
    if self._outside:
      return True
    return self._experts.count(self._expert, prompt) <= self._room

  def say(self, prompt: str) -> str:
    """Its reply; nothing if none came. What does not fit is cut at its end."""
    self.calls += 1
    if not self.fits(prompt):
      prompt = self._experts.clip(self._expert, prompt, self._room)
    request = Request(self._expert, prompt, self._limit, self._chat)
    (reply,) = self._ask([request])
    return getattr(reply, "text", "")  # an endpoint may say why there is none


def _proposed(setting, meta, archive, number):
  """A valid graph that is new, or None; what came of the last reflection is taken."""
  known = {(t.proposal.edges, t.proposal.end) for t in archive}

  def checked(said):
    found = read(said, len(setting.experts.names))
    if (found.edges, found.end) in known:
      raise ValueError("this graph is among those that were scored: propose another.")
    return found

  write = lambda tail: _prompt(setting, meta, archive, number, tail)
  said, valid, why = meta.say(write("")), None, ""
  # 1. Reflections. One that spoils a proposal does not undo it.
  for turn in range(meta.reflections + 1):
    try:
      valid = checked(said)
    except ValueError as error:
      why = str(error)
    if turn < meta.reflections:
      question = _REFLECT[min(turn, len(_REFLECT) - 1)]
      said = meta.say(write(f"Your proposal: {said}\n{question}"))
  # 2. Retries, with what is wrong.
  for _ in range(0 if valid else meta.retries):
    said = meta.say(write(f"Your proposal: {said}\nIt is refused: {why}\nCorrect it."))
    try:
      return checked(said)
    except ValueError as error:
      why = str(error)
  return valid


def _prompt(setting, meta, archive, number, tail):
  """What the meta model is told; of the archive as many of the best as fit."""
  names, task = setting.experts.names, setting.problem.evaluator.task
  profiles = setting.option("profiles", names)
  experts = [
    f"{i}: {profile} (alone {dev:.4f})"
    for i, (profile, dev) in enumerate(zip(profiles, setting.singles, strict=True))
  ]
  question = task.prompt(setting.problem.examples[0])
  shown = _by_dev(archive)[:_SHOWN]
  while True:
    lines = [
      "Design a graph of language models that answers questions like the one below"
      " together. A model reads the question and what those said that speak to it."
      " The aim is the highest mean score.",
      f"Question: {question}",
      "Experts, by their number:",
      *experts,
      "Graphs that were scored, the best first:",
      *[tried.line() for tried in shown],
      f"Propose graph number {number}, new and promising.",
      _SCHEMA,
      tail,
    ]
    prompt = "\n".join(line for line in lines if line)
    if not shown or meta.fits(prompt):
      return prompt
    shown = shown[:-1]


def _by_dev(archive):
  """The best first; of equal ones the earlier, what has no utility last."""
  return sorted(archive, key=lambda t: np.inf if np.isnan(t.dev) else -t.dev)


def _seeds(setting):
  """The best expert alone, and as many of three graphs by hand as the calls buy."""
  size, best = len(setting.experts.names), setting.by_dev[0]
  alone = Tried(Proposal("best single", (), best), float(setting.singles[best]))
  graphs = {
    "chain": topologies.chain(size),
    "star": topologies.star(size, hub=best),
    "complete": topologies.complete(size),
  }
  proposals = []
  for name, graph in graphs.items() if size > 1 else ():
    edges = tuple((int(i), int(j)) for i, j in np.argwhere(np.asarray(graph.edges)))
    proposals.append(Proposal(name, edges, int(graph.end)))
  bought = decisions.affordable(setting, [p.job(setting) for p in proposals])
  found = setting.score(bought) if bought else []
  return [alone, *(Tried(p, e.utility) for p, e in zip(proposals, found))]
