"""Runs all graphs of a swarm together: graphs -> messages -> replies.

A job is one DAG with an expert on each node. `run` executes every job on every
example in lockstep waves: wave w holds all nodes of depth w, so the number of
device calls is the depth of the deepest graph, whatever the number of graphs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from absl import logging
import numpy as np

from jswarm.core.types import Experts, Request
from jswarm.systems.prompts import Question, Wording, _prompts
from jswarm.systems.system import Job


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
