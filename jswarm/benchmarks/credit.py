"""Suite `credit`: how well each way to credit experts knows who has gained.

  weights move -> credits on dev (jfk at several M, replace) beside the truth on test

The truth of a move is, expert by expert, what the hand-made system of a world scores
with that expert alone on its new weights, on the test questions. A credit is as good as
its rank correlation with that, and as what its better half, taken together, gains for
every system that it has scored.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jswarm.benchmarks import worlds
from jswarm.benchmarks.harness import Options, Record
from jswarm.core import lookup
from jswarm.core.types import Experts
from jswarm.graphs import dag as dag_lib
from jswarm.swarm import contribution, motion, pso, weight_moves
from jswarm.systems import system as system_lib
from jswarm.systems.weights import Mixed, Weights

ASSIGNMENTS = (10, 40)  # M: the paper's, and four times as many


class Move(NamedTuple):
  """One move of all experts' weights in a world, on its hand-made graph.

  Attributes:
    place: the world. experts: its pool. dag: the hand-made graph.
    moved: the weights after the move; before it they are those that the pool came with.
  """

  place: worlds.Place
  experts: Experts
  dag: dag_lib.Dag
  moved: Weights

  def taking(self, taken: np.ndarray) -> system_lib.Job:
    """The hand-made system with the experts `taken` [E] on their new weights."""
    first = self.place.evaluator.memo.first
    some = Mixed(first, self.moved, taken.tolist(), self.experts.groups)
    return system_lib.make_job(self.dag, weights=some)

  def gains(self, split: str) -> np.ndarray:
    """float64 [E]: what the system gains by each expert's new weights alone."""
    one = [self.taking(row) for row in np.eye(self.place.size, dtype=bool)]
    none = self.taking(np.zeros(self.place.size, bool))
    found = self.place.score([none, *one], split)
    return found[1:] - found[0]


def run(options: Options) -> list[Record]:
  """A row a credit of each world that `options` name, or of all."""
  rows = []
  for name in options.worlds or worlds.WORLDS:
    lookup.check("--world", name, worlds.WORLDS)
    moves = [_move(name, options, turn) for turn in range(options.seeds)]
    rows += _rows(name, moves, options)
  return rows


def _move(name, options, turn) -> Move:
  """The first move of a particle swarm, drawn by `turn`."""
  space = worlds.WORLDS[name].FIELDS.get("pool.space", worlds.SPACES[0])
  place = worlds.enter(name, options, space)
  experts, key = place.evaluator.memo.experts, jax.random.key(turn)
  start_key, move_key = jax.random.split(key)
  trees = []
  for group, tree in zip(experts.groups, experts.weights):
    settings = motion.Settings()
    swarm = pso.start(start_key, tree, jnp.zeros(len(group)), settings)
    trees.append(weight_moves.move(move_key, swarm, tree, settings).position)
  dag = dag_lib.from_edges(worlds.hand_made(name, place.size))
  return Move(place, experts, dag, place.evaluator.named(tuple(trees)))


def _rows(name, moves, options):
  credits = {f"jfk, M = {m}": m for m in ASSIGNMENTS[: 1 if options.small else None]}
  found = {label: [] for label in (*credits, "replace")}
  for turn, move in enumerate(moves):
    truth = move.gains("test")
    for label, count in credits.items():
      found[label].append(_judged(move, _jfk(move, count, turn), truth, count))
    gains = move.gains("dev")
    found["replace"].append(_judged(move, gains, truth, move.place.size))
  return [_row(name, label, np.array(rows)) for label, rows in found.items()]


def _jfk(move, count, turn) -> np.ndarray:
  """JFK-scores [E] of the moved weights, by `count` assignments on dev."""
  size = move.place.size
  held = contribution.draw_assignments(jax.random.key(turn), count, size, size)
  jobs = [system_lib.make_job(move.dag, z, move.moved) for z in np.asarray(held)]
  utility = move.place.score(jobs, "dev")
  return np.asarray(contribution.jfk_score(held, utility.astype(np.float32), size))


def _judged(move, credit, truth, systems) -> tuple[float, float, int]:
  """(rank correlation, gain of the better half on test, systems scored)."""
  agree = np.nan
  if np.ptp(credit) and np.ptp(truth):
    agree = float(stats.spearmanr(credit, truth).statistic)
  better = np.argsort(np.argsort(-credit)) < len(credit) // 2
  none, half = (move.taking(t) for t in (np.zeros_like(better), better))
  before, after = move.place.score([none, half])
  return agree, after - before, systems


def _row(name, label, rows) -> Record:
  agree, gain, systems = rows.T
  extra = {
    "moves": len(rows),
    "systems": int(systems[0]),
    "rank correlation": float(np.nanmean(agree)) if np.isfinite(agree).any() else 0.0,
    "gain of the better half": float(gain.mean()),
    "gain a system": float((gain / systems).mean()),
  }
  return Record(suite="credit", case=name, ours=label, extra=extra)
