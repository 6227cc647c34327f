"""A node's prompt: instruction, context, the replies it reads, the question; fitted."""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import numpy as np

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
  questions: Sequence[Question], experts: Experts, wording: Wording, limit: int
) -> None:
  """Raises ValueError for the first question that an expert's context cannot hold."""
  for expert in range(len(experts.names)):
    room = experts.room(expert, limit)
    for question in questions:
      bare = compose(wording, wording.last, (), "", question.prompt)
      if len(bare.encode()) > room:
        _left(bare, room, expert, question, experts)


def _prompts(job, node, said, questions, experts, wording, limit):
  """[(prompt, was it cut)] of one node for all questions."""
  before = np.flatnonzero(job.edges[:, node] & (job.depth >= 0))
  if node == job.end and len(before):
    instruction = wording.last
  else:
    instruction = wording.middle if len(before) else wording.first
  expert = job.assignment[node]
  place = job.position[node] if wording.chunks_by == "position" else node
  room = experts.room(expert, limit)
  prompts = []
  for x, question in enumerate(questions):
    replies = [said[int(p)][x] for p in before]
    chunk = question.chunks[place] if question.chunks else ""
    prompts.append(
      _fit(wording, instruction, replies, chunk, question, expert, experts, room)
    )
  return prompts


def _fit(wording, instruction, replies, chunk, question, expert, experts, room):
  """The prompt within `room` tokens: replies are clipped first, then the chunk."""
  clipped = replies
  if wording.reply_tokens:
    clipped = [_clip(experts, expert, r, wording.reply_tokens) for r in replies]
  prompt = compose(wording, instruction, clipped, chunk, question.prompt)
  # No tokenizer writes more tokens than bytes, so short prompts need no count.
  if len(prompt.encode()) <= room or experts.count(expert, prompt) <= room:
    return prompt, clipped != replies
  bare = compose(wording, instruction, [""] * len(replies), "", question.prompt)
  left = _left(bare, room, expert, question, experts)
  chunk = _clip(experts, expert, chunk, left // 2 if replies else left)
  used = experts.count(expert, chunk) if chunk else 0
  # Joining pieces can cost a token at each seam.
  share = max(0, left - used - len(replies) - 1) // max(1, len(replies))
  while True:
    clipped = [_clip(experts, expert, r, share) for r in clipped]
    prompt = compose(wording, instruction, clipped, chunk, question.prompt)
    if experts.count(expert, prompt) <= room or (share == 0 and not chunk):
      return prompt, True
    share, chunk = share * 3 // 4, chunk if share else chunk[: len(chunk) * 3 // 4]


def _clip(experts, expert, text, tokens):
  if len(text.encode()) <= tokens:
    return text
  return experts.clip(expert, text, tokens)


def _left(bare, room, expert, question, experts):
  """Tokens that remain beside the bare prompt; an error if there are none."""
  needed = experts.count(expert, bare)
  if needed > room:
    raise ValueError(
      f"{question.where or 'a question'} takes {needed} tokens of expert"
      f" {experts.names[expert]!r}, whose context leaves {room} for a prompt: raise"
      " engine.max_prompt_tokens, lower task.limit, or drop the example."
    )
  return room - needed
