"""The best single expert under another instruction: what wording alone buys."""

from collections.abc import Hashable, Sequence
import dataclasses

from jswarm.baselines.base import Found, Setting
from jswarm.systems.answerer import Answering, Ask
from jswarm.systems.prompts import Question, Terms, node_prompt
from jswarm.systems.weights import Weights

CHAIN_OF_THOUGHT = (
  "Answer the question below. Think step by step: write the steps one after the other,"
  " each on what the step before it found, and end with your answer."
)
GRAPH_OF_THOUGHT = (
  "Answer the question below. First divide it into smaller questions and say which of"
  " them need the answers of others. Answer each, those that need nothing first;"
  " combine what you found, correct what does not agree, and end with your answer."
)


@dataclasses.dataclass(frozen=True)
class Instructed:
  """One expert, asked as the first node of a graph, under an instruction of its own."""

  expert: int
  instruction: str
  weights: Weights | None = None

  def members(self) -> Sequence[int]:
    return (self.expert,)

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.expert, self.instruction

  def answer(self, question: Question, terms: Terms) -> Answering:
    chunk = question.chunks[0] if question.chunks else ""
    prompt, cut = node_prompt(question, [], chunk, self.instruction, self.expert, terms)
    (reply,) = yield [Ask(self.expert, prompt, cut=cut)]
    return reply


def chain_of_thought(setting: Setting) -> Found:
  """Asked to think step by step (Wei et al., arXiv 2201.11903).

  Options: `instruction`, the wording. Its steps are in `task.limit` tokens too.
  """
  return _instructed(setting, CHAIN_OF_THOUGHT)


def graph_of_thought(setting: Setting) -> Found:
  """Asked to divide, answer and combine (Besta et al., arXiv 2308.09687), in one call.

  Options as of `chain_of_thought`.
  """
  return _instructed(setting, GRAPH_OF_THOUGHT)


def _instructed(setting, instruction):
  expert, told = setting.by_dev[0], setting.option("instruction", instruction)
  answerer = Instructed(expert, told, setting.first)
  notes = {"expert": setting.experts.names[expert], "instruction": told}
  return Found(answerer, setting.dev(answerer), notes=notes)
