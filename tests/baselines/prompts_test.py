"""Instructions of one expert: the words that it is told, and nothing else."""

import pytest

from jswarm.baselines import prompts
from tests import fakes
from tests.baselines.settings import dev_of, setting


@pytest.mark.parametrize(
  "method, words",
  [
    (prompts.chain_of_thought, "step by step"),
    (prompts.graph_of_thought, "smaller questions"),
  ],
)
def test_the_best_expert_is_asked_with_the_wording_and_one_call_a_question(
  method, words
):
  experts, asked = fakes.numeric()
  made = setting(experts)
  asked.clear()
  found = method(made)
  assert made.spent == len(asked) == 5
  assert all(r.expert == made.by_dev[0] and words in r.prompt for r in asked)
  assert found.dev == dev_of(made, found.answerer)


def test_under_the_instruction_of_the_task_it_is_the_best_single_expert():
  experts, asked = fakes.numeric()
  made = setting(experts)
  first = made.problem.evaluator.wording.first
  made.options = {"instruction": first}
  asked.clear()
  assert prompts.chain_of_thought(made).dev == made.singles.max()
  assert not asked  # the very prompts of the expert alone: the memo has them
