"""A prompt for an answerer whose instructions are long: everything is made to fit."""

from collections.abc import Sequence

from jswarm.systems.answerer import Ask
from jswarm.systems.prompts import Question, Terms, compose, node_prompt

_SEAMS = 2  # tokens


def ask(
  node: int,
  expert: int,
  instruction: str,
  replies: Sequence[str],
  question: Question,
  terms: Terms,
) -> Ask:
  """What a node asks; where a context is small the instruction is cut too.

  A pool is checked for the sentences of a graph alone, which are short. What is left
  beside the question goes to the instruction, half of it where there are replies; the
  last replies are left out where not even their labels fit.

  Args:
    node: it reads the chunk of its number, where there are chunks.
    instruction: in place of those of the wording. replies: what it reads.

  Raises:
    ValueError: the question alone does not fit.
  """
  experts, kept = terms.experts, list(replies)
  room = experts.room(expert, terms.limit)

  def left():
    labels = [""] * len(kept)
    bare = compose(terms.wording, "", labels, "", question.prompt)
    return room - experts.count(expert, bare)

  # 1. Labels of replies, before their words.
  while kept and left() < 0:
    kept.pop()
  # 2. The instruction. Pieces that are joined may cost a token at each seam.
  share = max(0, (left() // 2 if replies else left()) - _SEAMS)
  words = instruction
  if len(words.encode()) > share:
    words = experts.clip(expert, words, share)
  chunks = question.chunks
  chunk = chunks[node % len(chunks)] if chunks else ""
  prompt, cut = node_prompt(question, kept, chunk, words, expert, terms)
  shortened = words != instruction or len(kept) < len(replies)
  return Ask(expert, prompt, node, cut or shortened)
