"""LoraHub: weights of the experts of a group, found without gradients.

  weights [E_group] -> sum_e w_e x_e -> loss of gold answers -> CMA-ES

Huang et al., arXiv 2307.13269. Factor by factor, as published, where that is the space
in which the pool moves; sums of dense updates otherwise.
"""

from collections.abc import Sequence

import cmaes
import jax.numpy as jnp
import numpy as np

from jswarm.baselines import soups
from jswarm.baselines.base import Found, NotApplicable, Setting, best_of
from jswarm.core.types import Candidates
from jswarm.systems import prompts
from jswarm.systems.system import Job

BOUND = 1.5  # of each weight, on either side
SHOTS, TRIALS = 5, 40
PENALTY = 0.05  # times the mean size of a weight
_SIGMA = 0.5  # of the first draws


def lorahub(setting: Setting) -> Found:
  """The combination whose loss is least on a few dev examples.

  Loss: mean cross entropy of the gold answer's tokens given the prompt of a single
  expert, mean over the examples, plus 0.05 mean |w|. (The published code divides the
  mean by the examples once more, which makes the penalty five times as heavy.) One
  likelihood counts as one call. Of several groups the one that is best on dev answers.
  It is made for adapters: of whole models, which are no updates of a base, hardly any
  combination says anything.

  Options: `shots` (5), `trials` (40), the evaluations of the loss.

  Raises:
    NotApplicable: the examples name no answer.
  """
  found = [_searched(setting, group) for group in range(len(setting.experts.groups))]
  return best_of([Found(job, setting.dev(job), notes=notes) for job, notes in found])


def loss(
  setting: Setting, group: int, mixes: np.ndarray, asked: Sequence[tuple[str, str]]
) -> np.ndarray:
  """float64 [P]: of each row of mixes [P, E_group] on (prompt, gold answer) pairs."""
  particles = soups.combined(
    jnp.asarray(mixes, jnp.float32), setting.first.trees[group]
  )
  chat = setting.problem.evaluator.task.chat
  candidates, weights = [], []
  for expert, standing in soups.placed(setting, group, particles):
    for prompt, answer in asked:
      candidates.append(Candidates(expert, prompt, (answer,), chat))
      weights.append(standing)
  scores = setting.problem.evaluator.memo.score(candidates, weights)
  entropy = np.array([-np.mean(found[0], dtype=float) for found in scores])
  entropy = entropy.reshape(len(mixes), len(asked)).mean(1)
  return entropy + PENALTY * np.abs(mixes).mean(1)


def _searched(setting, group) -> tuple[Job, dict]:
  """(the best combination of a group, what was chosen)."""
  members = setting.experts.groups[group]
  asked = _examples(setting, members[0], setting.option("shots", SHOTS))
  trials = setting.option("trials", TRIALS)
  if setting.calls:
    trials = min(trials, (setting.calls - setting.spent) // len(asked))
  # 1. All weights 0, the base, is where the search begins.
  best = np.zeros(len(members))
  least = loss(setting, group, best[None], asked)[0] if trials > 0 else np.inf
  left = trials - 1
  bounds = np.tile([-BOUND, BOUND], (len(members), 1))
  search = cmaes.CMA(best, _SIGMA, bounds, seed=setting.seed)
  # 2. Generation by generation; the last may be cut short, and is not told then.
  while left > 0:
    drawn = np.array([search.ask() for _ in range(search.population_size)])[:left]
    losses = loss(setting, group, drawn, asked)
    left -= len(drawn)
    if losses.min() < least:
      best, least = drawn[losses.argmin()], losses.min()
    if len(drawn) == search.population_size:
      search.tell(list(zip(drawn, losses)))
  names = [setting.experts.names[e] for e in members]
  weights = dict(zip(names, best.round(4).tolist()))
  notes = {"weights": weights, "loss": float(least), "trials": max(trials, 0)}
  return soups.mixed(setting, group, best), notes


def _examples(setting, expert, shots):
  """(prompt, answer) of some dev examples, which the seed draws."""
  evaluator, examples = setting.problem.evaluator, setting.problem.examples
  rng = np.random.default_rng(setting.seed)
  chosen = [examples[i] for i in rng.permutation(len(examples))[:shots]]
  terms, asked = evaluator.terms, []
  for example, question in zip(chosen, evaluator.questions(chosen)):
    gold = example.answer if isinstance(example.answer, str) else example.answer[0]
    if not gold.strip():
      raise NotApplicable(f"lorahub needs gold answers, which {example.where} has not.")
    chunk = question.chunks[0] if question.chunks else ""
    prompt, _ = prompts.node_prompt(
      question, [], chunk, terms.wording.first, expert, terms
    )
    asked.append((prompt, gold if terms.chat else f" {gold}"))
  return asked
