"""Runs all graphs of a swarm together: graphs -> messages -> replies.

A job is one DAG with an expert on each node. `run` executes every job on every
example in lockstep waves: wave w holds all nodes of depth w, so the number of
device calls is the depth of the deepest graph, whatever the number of graphs.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from absl import logging
import numpy as np

from jswarm.core.types import Experts, Request
from jswarm.tasks.prompts import fill


class Job(NamedTuple):
  """One multi-LLM system to execute. All arrays live on the host.

  Attributes:
    edges: bool [N, N]; edges[i, j]: what node i says is given to node j.
    depth: int [N]; wave in which the node runs, -1 for a node that never runs.
    position: int [N]; place of the node in the topological order.
    end: the node whose reply is the system's.
    assignment: int [N]; the expert that each node holds.
  """

  edges: np.ndarray
  depth: np.ndarray
  position: np.ndarray
  end: int
  assignment: tuple[int, ...]


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


class Transcript(NamedTuple):
  """What all jobs said.

  Attributes:
    replies: replies[job][x], the end node's reply to example x.
    said: said[job][node][x], or None for a node that never ran.
    calls: node executions, before identical ones are shared.
    cuts: prompts in which a reply or a chunk was shortened to fit.
  """

  replies: list[list[str]]
  said: list[list[list[str] | None]]
  calls: int
  cuts: int


def make_job(dag, assignment: Sequence[int] | None = None) -> Job:
  """A host job from a `decode.Dag`; node i holds expert i unless told otherwise."""
  edges = np.asarray(dag.edges, bool)
  order = np.asarray(dag.order)
  position = np.empty(len(order), int)
  position[order] = np.arange(len(order))
  holders = range(len(edges)) if assignment is None else assignment
  return Job(
    edges, np.asarray(dag.depth), position, int(dag.end), tuple(int(e) for e in holders)
  )


def single(expert: int) -> Job:
  """The system of one expert alone; it reads the first node's prompt."""
  zero = np.zeros(1, int)
  return Job(np.zeros((1, 1), bool), zero, zero, 0, (expert,))


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


def run(
  jobs: Sequence[Job],
  questions: Sequence[Sequence[Question]],
  experts: Experts,
  wording: Wording,
  *,
  limit: int,
  chat: bool,
) -> Transcript:
  """Executes every job on its questions.

  Args:
    jobs: the systems; jobs may share nodes, prompts and experts at no cost where
      `experts.ask` shares identical requests.
    questions: [len(jobs)][X], what each job is asked.
    experts: the pool; only `ask`, `count`, `clip` and `room` are used.
    wording: sentences and budgets.
    limit: most new tokens of a reply.
    chat: wrap prompts in the chat template.

  Returns:
    A `Transcript`; `replies` is [len(jobs)][X].

  Raises:
    ValueError: a question alone does not fit an expert's context.
  """
  said = [[None] * len(job.edges) for job in jobs]
  calls = cuts = 0
  for wave in range(1 + max((int(job.depth.max()) for job in jobs), default=-1)):
    turns = [
      (j, int(n))
      for j, job in enumerate(jobs)
      for n in np.flatnonzero(job.depth == wave)
    ]
    requests = []
    for j, node in turns:
      prompts = _prompts(jobs[j], node, said[j], questions[j], experts, wording, limit)
      cuts += sum(cut for _, cut in prompts)
      requests += [
        Request(jobs[j].assignment[node], prompt, limit, chat) for prompt, _ in prompts
      ]
    texts = iter(reply.text for reply in experts.ask(requests))
    for j, node in turns:
      said[j][node] = [next(texts) for _ in questions[j]]
    calls += len(requests)
  if cuts:
    logging.info(
      "%d of %d prompts had replies or context shortened to fit.", cuts, calls
    )
  return Transcript([said[j][job.end] for j, job in enumerate(jobs)], said, calls, cuts)


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
