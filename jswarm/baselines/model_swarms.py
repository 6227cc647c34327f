"""Model Swarms: a particle swarm of single models; the best of them answers.

  experts -> crossover -> particles [P, ...] -> pso.ask -> score each alone -> pso.tell

Feng et al., arXiv 2410.11163. The swarm is that of the search (`swarm.pso`), over the
weights of one model instead of those of a system.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines import soups
from jswarm.baselines.base import Found, Setting, best_of
from jswarm.swarm import motion, pso
from jswarm.systems import system

PARTICLES, MOVES = 20, 50
RULES = motion.Settings(patience=10, restart_share=0.5)

_ask = jax.jit(pso.ask, static_argnames=("settings",))
_start = jax.jit(pso.start, static_argnames=("settings",))
_draw_scored = jax.jit(motion.draw_scored, static_argnums=(1, 2))


def model_swarms(setting: Setting) -> Found:
  """The best model that a swarm of them comes by.

  The experts of a group are particles; others are crossed of two of them,
  t x_a + (1 - t) x_b, and may be parents themselves. "paper": t is uniform in (0, 1);
  "original": in (0, 2), as in the authors' code. Of several groups each has an equal
  share of the calls.

  Options: `particles` (20, fewer where the calls do not reach), `moves` (50, at most),
  `swarm`, a `motion.Settings` (patience 10, restart after 5; dropout_k and dropout_n
  are here).
  """
  groups = range(len(setting.experts.groups))
  left = lambda: setting.calls - setting.spent
  found = []
  for done, group in enumerate(groups):
    share = left() // (len(groups) - done) if setting.calls else 0
    found.append(_swarm(setting, group, share))
  return best_of(found)


def crossed(
  rng: np.random.Generator, experts: int, particles: int, reach: float
) -> np.ndarray:
  """float32 [P, E]: of which experts each particle is made.

  The first rows are the experts. The others are t a + (1 - t) b of two rows before
  them, t uniform in (0, reach).
  """
  rows = list(np.eye(experts, dtype=np.float32))
  while len(rows) < particles:
    a, b = rng.choice(len(rows), 2, replace=False)
    t = rng.uniform(0, reach)
    rows.append((t * rows[a] + (1 - t) * rows[b]).astype(np.float32))
  return np.stack(rows[:particles])


def _swarm(setting, group, calls) -> Found:
  members = setting.experts.groups[group]
  rules, cost = setting.option("swarm", RULES), len(setting.problem.examples)
  before = setting.spent
  bought = lambda: (calls - setting.spent + before) // cost if calls else 10**9
  # 1. The experts have been scored; as many more as the calls buy are crossed of them.
  more = max(0, setting.option("particles", PARTICLES) - len(members))
  size = len(members) + min(more, bought())
  reach = 1.0 if setting.variant == "paper" else 2.0
  rng = np.random.default_rng([setting.seed, group])
  rows = crossed(rng, len(members), size, reach)
  tree = soups.combined(jnp.asarray(rows), setting.first.trees[group])
  score = functools.partial(_scored, setting, group)
  utility = score(tree, np.arange(size) >= len(members))
  utility[: len(members)] = setting.singles[list(members)]
  # 2. Move and score, until the calls, the moves or its patience are spent.
  key = jax.random.fold_in(setting.key(), group)
  state = _start(jax.random.fold_in(key, 0), tree, utility, settings=rules)
  moves = 0
  while moves < setting.option("moves", MOVES) and bought() > 0:
    move_key, drop_key = jax.random.split(jax.random.fold_in(key, moves + 1))
    state, moves = _ask(move_key, state, settings=rules), moves + 1
    drawn = np.asarray(_draw_scored(drop_key, size, rules))
    scored = np.logical_and(drawn, np.cumsum(drawn) <= bought())
    utility = jnp.asarray(score(state.position, scored))
    state = pso.tell(state, utility, jnp.asarray(scored))
    if bool(pso.exhausted(state, rules)):
      break
  # 3. The best of all times.
  best = jax.tree.map(lambda x: x[None], state.swarm_best_position)
  ((expert, weights),) = soups.placed(setting, group, best)
  dev = float(state.swarm_best_utility)
  notes = {"particles": size, "moves": moves}
  return Found(system.single(expert, weights), dev, notes=notes)


def _scored(setting, group, particles, chosen):
  """float32 [P]: dev utility of the chosen particles, NaN of the others."""
  utility = np.full(len(chosen), np.nan, np.float32)
  if chosen.any():
    standing = soups.placed(setting, group, particles)
    jobs = [system.single(*standing[i]) for i in np.flatnonzero(chosen)]
    utility[chosen] = [e.utility for e in setting.score(jobs)]
  return utility
