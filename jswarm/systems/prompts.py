"""A node's prompt: instruction, context, the replies it reads, the question; fitted."""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from jswarm.core.problems import attempt
from jswarm.core.types import Experts
from jswarm.tasks.prompts import fill


class Question(NamedTuple):
  """What a system is asked; `chunks` of context, one for each node, or none."""

  prompt: str
  chunks: tuple[str, ...] | None = None
  where: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wording:
  """The sentences around a question, all replaceable (algorithm of the paper,
  own words). An empty instruction leaves its line out.

  Attributes:
    first: instruction of a node without predecessors.
    middle: instruction of an inner node.
    last: instruction of the end node.
    response: one line a predecessor; `{k}` counts from 1, `{reply}` its words.
    question: the line of the question, `{prompt}`.
    chunks_by: "position": a node reads the chunk of its place in the topological
      order (as published), "node": the chunk of its own index.
    reply_tokens: most tokens quoted of each predecessor; 0: an equal share of
      what the context leaves.
  """

  first: str
  middle: str
  last: str
  response: str
  question: str
  chunks_by: str = "position"
  reply_tokens: int = 0

  def __post_init__(self):
    if self.chunks_by not in ("position", "node"):
      raise ValueError(
        f"messages.chunks_by={self.chunks_by!r}: allowed are 'position', 'node'."
      )
    for field, slots in (("response", ("{k}", "{reply}")), ("question", ("{prompt}",))):
      missing = [s for s in slots if s not in getattr(self, field)]
      if missing:
        raise ValueError(
          f"messages.{field}={getattr(self, field)!r} lacks {' and '.join(missing)};"
          " write it where the text is to stand."
        )
    if self.reply_tokens < 0:
      raise ValueError(f"messages.reply_tokens={self.reply_tokens}: allowed is >= 0.")


@dataclasses.dataclass(frozen=True)
class Terms:
  """What all answers of one evaluation have in common.

  Attributes:
    experts: the pool: names, `count`, `clip`, `room`, and where it has them `score`,
      `logits` and `hidden`. Replies are asked for by `yield` (see `answerer`), which
      shares, keeps and counts them; never by `experts.ask`.
    wording: the sentences around a question.
    limit: most new tokens of a reply; chat: prompts stand in the chat template.
  """

  experts: Experts
  wording: Wording
  limit: int
  chat: bool


def compose(
  wording: Wording, instruction: str, replies: Sequence[str], chunk: str, prompt: str
) -> str:
  """One node's prompt: instruction, context, numbered replies, question."""
  # Newlines of a reply would end its numbered line early.
  quoted = [
    fill(wording.response, k=str(k), reply=" ".join(reply.split("\n")))
    for k, reply in enumerate(replies, 1)
  ]
  lines = [instruction, chunk, *quoted, fill(wording.question, prompt=prompt)]
  return "\n".join(line for line in lines if line)


def check_room(
  questions: Sequence[Question],
  experts: Experts,
  wording: Wording,
  limit: int,
  problems: list[str] | None = None,
) -> None:
  """Raises ValueError for the first question that an expert's context cannot hold.

  `problems`: takes the messages for all of them instead.
  """
  for expert in range(len(experts.names)):
    room = experts.room(expert, limit)
    asked = questions
    if questions and room <= 0 < experts.room(expert, 1):
      # A shorter reply is what helps: the longest question says how short, for all.
      asked = [max(questions, key=lambda question: len(question.prompt))]
    for question in asked:
      bare = compose(wording, wording.last, (), "", question.prompt)
      if len(bare.encode()) > room:
        attempt(problems, _left, bare, limit, expert, question, experts)


def node_prompt(
  question: Question,
  replies: Sequence[str],
  chunk: str,
  instruction: str,
  expert: int,
  terms: Terms,
) -> tuple[str, bool]:
  """What a node is asked, within the context of the expert that it holds.

  Args:
    question: of the system.
    replies: what the node hears, in the order in which they are numbered.
    chunk: the context that it reads; may be empty.
    instruction: its line of the wording.
    expert: who is asked; its tokenizer counts.
    terms: of the evaluation.

  Returns:
    (prompt, was something shortened): replies are clipped first, then the chunk.

  Raises:
    ValueError: the question alone does not fit.
  """
  experts, wording = terms.experts, terms.wording
  room = experts.room(expert, terms.limit)
  # 1. No reply is quoted beyond its own limit.
  clipped = list(replies)
  if wording.reply_tokens:
    clipped = [_clip(experts, expert, r, wording.reply_tokens) for r in replies]
  # 2. Nearly all prompts fit. No tokenizer writes more tokens than bytes, so short ones
  #    need no count.
  prompt = compose(wording, instruction, clipped, chunk, question.prompt)
  if len(prompt.encode()) <= room or experts.count(expert, prompt) <= room:
    return prompt, clipped != list(replies)
  # 3. What is left beside the question: half for the chunk, the rest for the replies in
  #    equal shares. Joining pieces can cost a token at each seam.
  bare = compose(wording, instruction, [""] * len(replies), "", question.prompt)
  left = _left(bare, terms.limit, expert, question, experts)
  chunk = _clip(experts, expert, chunk, left // 2 if replies else left)
  used = experts.count(expert, chunk) if chunk else 0
  share = max(0, left - used - len(replies) - 1) // max(1, len(replies))
  # 4. Seams may cost more than that: shares shrink until it fits, then the chunk does.
  while True:
    clipped = [_clip(experts, expert, r, share) for r in clipped]
    prompt = compose(wording, instruction, clipped, chunk, question.prompt)
    if experts.count(expert, prompt) <= room or (share == 0 and not chunk):
      return prompt, True
    if not share:
      chunk = chunk[: len(chunk) * 3 // 4]
    share = share * 3 // 4


def _clip(experts, expert, text, tokens):
  if len(text.encode()) <= tokens:
    return text
  return experts.clip(expert, text, tokens)


def _left(bare, limit, expert, question, experts):
  """Tokens that remain beside the bare prompt; an error if there are none."""
  room, needed = experts.room(expert, limit), experts.count(expert, bare)
  if needed > room:
    raise ValueError(
      f"{question.where or 'a question'} takes {needed} tokens of expert"
      f" {experts.names[expert]!r}, whose context leaves {max(room, 0)} for a prompt"
      f" beside a reply of {limit}: {_remedy(needed, room, limit, expert, experts)}."
    )
  return room - needed


def _remedy(needed, room, limit, expert, experts):
  """What to change where a prompt does not fit: the field that leaves so little."""
  most = experts.room(expert, 1)  # beside the shortest reply
  if most == room:  # the reply does not matter
    return "raise engine.max_prompt_tokens, or drop the example"
  if needed <= most:
    lower = f"lower task.limit to {limit - (needed - room)} or less"
    if room <= 0:
      return f"{lower}; task.limit={limit} leaves no room for any prompt"
    return f"{lower}, or drop the example"
  return "take an expert of a longer context, or drop the example"
