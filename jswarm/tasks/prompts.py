"""Example -> what a system, its self-check or a judge is asked.

The meaning is that of the public code, the wording is ours. The node's own
sentences and the chunks of context are added by `messages`, not here.
"""

from jswarm.tasks.base import Example

CHOOSE = "Choose the option that answers the question best."
CUE = "The answer is"
SELF_CHECK = (
  "{prompt}\nProposed answer: {reply}\nIs this proposed answer correct?"
  " Reply with one word, true or false."
)
JUDGE = (
  "Compare a response with the correct answer and say how well they agree: 1"
  ' is no agreement, 10 is complete agreement. Begin with "Rating: N/10", N a'
  " whole number from 1 to 10, then give your reason.\n\nCorrect answer:"
  " {answer}\n\nResponse: {reply}"
)

# The default sentences around a node's question; configurations may replace them.
NODE_WORDING = {
  "first": "Give your answer to the question below.",
  "middle": (
    "Give your answer to the question below. Other models answered before you: use"
    " what is right in their responses and ignore what is wrong."
  ),
  "last": (
    "Other models answered the question below before you: weigh their responses,"
    " ignore what is wrong, and give the final answer."
  ),
  "response": "Previous response {k}: {reply}",
  "question": "Question: {prompt}",
}


def choice_prompt(example: Example, *, in_context: str = "", request: str = "") -> str:
  """Instruction, question, one "X: text" line an option, a cue to answer.

  `in_context`: solved examples, which stand in place of the instruction.
  """
  lines = [in_context or CHOOSE, f"Question: {_asked(example, request)}"]
  lines += [f"{label}: {text}" for label, text in (example.choices or {}).items()]
  return "\n".join([*lines, CUE])


def plain_prompt(example: Example, *, in_context: str = "", request: str = "") -> str:
  """The question, with solved examples before and a request after it."""
  return "\n".join(filter(None, [in_context, _asked(example, request)]))


def free_prompt(example: Example, *, in_context: str = "", request: str = "") -> str:
  """The prompt of multiple choice where there are options, else the question."""
  write = choice_prompt if example.choices else plain_prompt
  return write(example, in_context=in_context, request=request)


def _asked(example: Example, request: str) -> str:
  return f"{example.question} {request}" if request else example.question


def fill(template: str, **values: str) -> str:
  """Puts values for `{name}`; other braces, also those in values, stay."""
  pieces = [template]
  for name, value in values.items():
    slot = "{" + name + "}"
    pieces = [part for piece in pieces for part in _split(piece, slot, value)]
  return "".join(pieces)


class _Filled(str):
  """Text that was put in; no later slot is looked for in it."""


def _split(piece: str, slot: str, value: str) -> list[str]:
  if isinstance(piece, _Filled) or slot not in piece:
    return [piece]
  first, *rest = piece.split(slot)
  return [first, *(text for part in rest for text in (_Filled(value), part))]


def judge_prompt(example: Example, reply: str, *, template: str = JUDGE) -> str:
  """What a judge reads; several right answers are joined by "or"."""
  gold = example.answer
  answer = gold if isinstance(gold, str) else " or ".join(gold)
  return fill(template, question=example.question, answer=answer, reply=reply)
