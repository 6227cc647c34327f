"""Suite `worlds`: what there is to find in the synthetic worlds, and what luck finds.

Of each world, on questions of its test split: the base, each expert alone, half-way
mixes of two, the soup of all, a star and a chain, many random graphs, and the hand-made
best system, which is its known ceiling. A world is a module with `FIELDS` of a search,
`EDGES` of the hand-made graph and `PARTNERS`, pairs of experts of one skill; that graph
is also given weights: mixed by the rows of `MIX`, or halfway with partners.
"""

from collections.abc import Callable, Sequence
import dataclasses
import time
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.benchmarks.harness import Options, Record
from jswarm.core import lookup
from jswarm.core.types import PyTree
from jswarm.engine import engine
from jswarm.graphs import dag as dag_lib
from jswarm.graphs import decode
from jswarm.systems import system as system_lib
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.systems.system import Job
from jswarm.systems.weights import Weights
from jswarm.tasks.synthetic import atlas, folio, relay
from jswarm.wiring import config as config_lib
from jswarm.wiring import search

# Those whose pools ship.
WORLDS: dict[str, ModuleType] = {"relay": relay, "atlas": atlas, "folio": folio}
SPACES = ("factors", "dense")
ROUNDS = 50  # random graphs that luck may choose from


@dataclasses.dataclass(frozen=True)
class Place:
  """A world that is ready to be asked.

  Attributes:
    name: of the world. evaluator: scores its systems. size: experts in its pool.
  """

  name: str
  evaluator: Evaluator
  size: int

  def score(self, jobs: Sequence[Job], split: str = "test") -> np.ndarray:
    """Utility of each job, float [len(jobs)]."""
    examples = getattr(self.evaluator.task, split)
    return np.array([e.utility for e in self.evaluator.evaluate(jobs, examples)])

  def moved(self, move: Callable[[jax.Array], jax.Array]) -> Weights:
    """Weights of which each leaf [E, ...] is `move` of what the pool came with."""
    trees: tuple[PyTree, ...] = self.evaluator.memo.first.trees
    return self.evaluator.named(jax.tree.map(move, trees))


def run(options: Options) -> list[Record]:
  """All rows of the worlds in `options.worlds`, or of every one."""
  for name in options.worlds:
    lookup.check("--world", name, WORLDS)
  rows = []
  for name in options.worlds or WORLDS:
    for space in SPACES:
      place = enter(name, options, space)
      if space == WORLDS[name].FIELDS.get("pool.space", SPACES[0]):
        rows += [*alone(place), *graphs(place, options), speed(place, options)]
      rows += mixes(place, space)
  return rows


def enter(name: str, options: Options, space: str = SPACES[0]) -> Place:
  """Loads a world; `space` is how mixes of its experts are made."""
  dev, test = (4, 24) if options.small else (50, 200)
  config = config_lib.resolve_default(
    {
      **WORLDS[name].FIELDS,
      "pool.space": space,
      "task.dev_size": dev,
      "task.test_size": test,
      "seed": options.seed,
    }
  )
  task = search.task(config)
  experts = engine.make_experts(search.pool(config), config.engine)
  memo = Memo(experts, Meter(), time.perf_counter)
  return Place(name, Evaluator(task, memo, config.wording), len(experts.names))


def alone(place: Place) -> list[Record]:
  """The base and each expert alone."""
  nothing = place.moved(jnp.zeros_like)
  (base,) = place.score([system_lib.single(0, nothing)])
  singles = place.score([system_lib.single(e) for e in range(place.size)])
  return [
    _row(place, "base", utility=base),
    _row(place, "experts alone", **_spread(singles)),
  ]


def graphs(place: Place, options: Options) -> list[Record]:
  """Star and chain, random graphs, and the hand-made best."""
  n, world = place.size, WORLDS[place.name]
  count = 4 if options.small else 2 * ROUNDS
  jobs = drawn(n, count, options.seed)
  found = place.score(jobs)
  lucky = jobs[:ROUNDS][int(np.argmax(place.score(jobs[:ROUNDS], "dev")))]
  made = dag_lib.from_edges(hand_made(place.name, n))
  together = place.moved(lambda x: _mixed(x, world))
  named = {
    "star": system_lib.make_job(decode.topology("star", n)),
    "chain": system_lib.make_job(decode.topology("chain", n)),
    f"best of {len(jobs[:ROUNDS])} random on dev": lucky,
    "hand-made": system_lib.make_job(made),
    "hand-made, mixed": system_lib.make_job(made, weights=together),
  }
  rows = [
    _row(place, name, utility=place.score([job])[0]) for name, job in named.items()
  ]
  return [_row(place, "random graphs", **_spread(found)), *rows]


def drawn(n: int, count: int, seed: int) -> list[Job]:
  """Graphs as a search draws its first ones: node i holds expert i."""
  key = jax.random.key(seed)
  adjacency = decode.init_adjacency(key, count, n)
  keys = jax.random.split(jax.random.fold_in(key, count), count)
  dags = jax.tree.map(np.asarray, decode.decode_swarm(adjacency, keys))
  return [
    system_lib.make_job(jax.tree.map(lambda x, g=g: x[g], dags)) for g in range(count)
  ]


def mixes(place: Place, space: str) -> list[Record]:
  """Half-way mixes of partners and of any two experts, and the mean of all.

  The kept share is the utility of the mixes over the mean of their parents'.
  """
  n = place.size
  singles = place.score([system_lib.single(e) for e in range(n)])
  partners = {frozenset(pair) for pair in WORLDS[place.name].PARTNERS}
  pairs, mixed = [], []
  for shift in range(1, n // 2 + 1):
    # Expert e is mixed with e + shift: all n mixes stand in one set of weights.
    weights = place.moved(lambda x, s=shift: (x + jnp.roll(x, -s, axis=0)) / 2)
    mixed += [system_lib.single(e, weights) for e in range(n)]
    pairs += [(e, (e + shift) % n) for e in range(n)]
  scores = place.score(mixed)
  parents = np.array([singles[list(pair)].mean() for pair in pairs])
  kin = np.array([frozenset(pair) in partners for pair in pairs])
  soup = place.moved(lambda x: jnp.broadcast_to(x.mean(axis=0), x.shape))
  rows = []
  for name, chosen in (("partners", kin), ("any two", np.ones_like(kin))):
    share = scores[chosen].mean() / parents[chosen].mean()
    rows.append(
      _row(place, f"mixes of {name}, {space}", **_spread(scores[chosen]), kept=share)
    )
  (utility,) = place.score([system_lib.single(0, soup)])
  return [*rows, _row(place, f"uniform soup, {space}", utility=utility)]


def speed(place: Place, options: Options) -> Record:
  """Seconds of one graph on the dev questions: nothing remembered, all compiled."""
  seconds = []
  jobs = drawn(place.size, 4, options.seed + 1)
  for job in [jobs[0], *jobs]:  # the first one warms up
    place.evaluator.memo.restore({})
    start = time.perf_counter()
    place.score([job], "dev")
    seconds.append(time.perf_counter() - start)
  questions = len(place.evaluator.task.dev)
  return _row(
    place, f"one graph on {questions} questions", seconds=np.median(seconds[1:])
  )


def _mixed(leaf, world):
  """What the experts of a hand-made system hold, expert by expert."""
  if not hasattr(world, "MIX"):
    return _with_partners(leaf, world.PARTNERS)
  return jnp.tensordot(jnp.array(world.MIX, leaf.dtype), leaf, axes=1)


def _with_partners(leaf, partners):
  """Each expert that has partners becomes the middle of itself and their mean."""
  mixed = leaf
  for e in range(len(leaf)):
    others = [sum(pair) - e for pair in partners if e in pair]
    if others:
      mixed = mixed.at[e].set((leaf[e] + leaf[jnp.array(others)].mean(axis=0)) / 2)
  return mixed


def hand_made(name: str, n: int) -> np.ndarray:
  """float64 [n, n]: the edges of a world's hand-made graph."""
  matrix = np.zeros((n, n))
  for speaker, hearer in WORLDS[name].EDGES:
    matrix[speaker, hearer] = 1
  return matrix


def _spread(values):
  return {
    "mean": values.mean(),
    "sd": values.std(),
    "least": values.min(),
    "best": values.max(),
    "count": len(values),
  }


def _row(place, ours, **extra):
  plain = {name: v if isinstance(v, int) else float(v) for name, v in extra.items()}
  return Record(suite="worlds", case=place.name, ours=ours, extra=plain)
