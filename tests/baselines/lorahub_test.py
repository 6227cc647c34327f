"""LoraHub: one-hot weights are an expert, and the search lowers the loss."""

import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.baselines import lorahub, methods, soups
from jswarm.baselines.base import NotApplicable
from tests import fakes
from tests.baselines.settings import dev_of, setting

GOAL = np.array([0.3, 0.5, 0.1])


def _pool(num=4, fields=()):
  """`fakes.numeric`, in which an answer is as likely as the weights are near a goal."""
  experts, _ = fakes.numeric(num=num, **dict(fields))
  held = {"rows": np.asarray(experts.weights[0]["w"])}
  seen = []

  def install(weights):
    held["rows"] = np.asarray(weights[0]["w"])
    experts.install(weights)

  def score(candidates):
    seen.extend(candidates)
    far = [((held["rows"][c.expert] - GOAL) ** 2).sum() for c in candidates]
    return [[np.array([-1.0, -f], np.float32)] for f in far]

  return experts._replace(install=install, score=score), seen


def test_one_hot_weights_are_that_expert():
  made = setting(_pool()[0])
  for expert, mix in enumerate(np.eye(4)):
    assert dev_of(made, soups.mixed(made, 0, mix)) == made.singles[expert]
  eye = soups.combined(jnp.eye(4), made.first.trees[0])
  np.testing.assert_array_equal(eye["w"], made.first.trees[0]["w"])


def test_the_loss_is_the_mean_entropy_of_an_answer_and_the_size_of_the_weights():
  made = setting(_pool()[0])
  mixes = np.array([[0, 0, 0, 0], [0, 1.0, 0, 0], [1.5, -0.5, 0, 0]])
  found = lorahub.loss(made, 0, mixes, [("p", " a"), ("q", " b")])
  rows = mixes @ np.asarray(made.first.trees[0]["w"])
  wanted = (1 + ((rows - GOAL) ** 2).sum(1)) / 2 + 0.05 * np.abs(mixes).mean(1)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  assert made.spent == 6  # a likelihood is a call


def test_the_search_finds_lower_losses_than_any_expert_has_and_stays_in_its_bounds():
  pool, seen = _pool()
  made = setting(pool)
  found = methods.find("lorahub", made)
  weights = np.array(list(found.notes["weights"].values()))
  assert (np.abs(weights) <= 1.5).all() and found.notes["trials"] == 40
  asked = [(c.prompt, c.completions[0]) for c in seen[:5]]
  eye = lorahub.loss(made, 0, np.eye(4), asked)
  assert found.notes["loss"] < eye.min()
  assert len(seen) == 40 * 5 + 4 * 5
  assert found.dev == pytest.approx(dev_of(made, found.answerer))


def test_prompts_are_those_of_a_single_expert_and_answers_the_gold_ones():
  pool, seen = _pool()
  made = setting(pool, options={"trials": 1})
  lorahub.lorahub(made)
  golds = {e.question: e.answer for e in made.problem.examples}
  for candidates in seen:
    (question,) = [q for q in golds if q in candidates.prompt]
    assert candidates.completions[0].strip() == golds[question]


def test_calls_that_are_left_bound_the_trials():
  made = setting(_pool()[0], calls=60)
  found = lorahub.lorahub(made)
  assert found.notes["trials"] == 12 and made.spent <= 60 and np.isnan(found.dev)


def test_examples_without_answers_make_it_not_applicable():
  made = setting(_pool()[0])
  first = made.problem.examples[0]
  object.__setattr__(first, "answer", "")
  with pytest.raises(NotApplicable, match="gold answers.*has not"):
    lorahub.lorahub(made)
