"""What each node of a system was asked and said, out of a memo: nobody is asked again.

a job that was evaluated, its examples -> rows of traces.jsonl
"""

from collections.abc import Sequence
from typing import Any

from absl import logging

from jswarm.core.types import Reply, Request
from jswarm.systems import waves
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.system import Job
from jswarm.tasks import votes
from jswarm.tasks.base import Example

MOST_BYTES = 32 << 20  # of prompts and replies; questions behind that have no trace


def rows(
  evaluator: Evaluator, job: Job, examples: Sequence[Example]
) -> list[dict[str, Any]]:
  """A row a question, JSON-able: the question, its answer, and each node in order.

  Args:
    evaluator: whose memo was asked all of it, see `Memo.recall`.
    job: a graph that was evaluated on the examples. Of a task with a second question
      its first one is told.
    examples: those that were asked, in order.

  Returns:
    [{"index", "id", "question", "gold", "nodes": [{"node", "expert", "heard",
    "prompt", "reply", "answers", "tokens": [prompt, new]}]}] of the first examples, as
    many as `MOST_BYTES` holds; none where the memo has forgotten a call. "answers": can
    an answer be read from the reply? Of free text any is one.
  """
  told: dict[Request, Reply] = {}
  read = votes.reader(evaluator.task, examples)
  free = read is votes.nothing
  answers = lambda question, reply: free or read(question, reply) is not None

  def recall(requests, weights):
    replies = evaluator.memo.recall(requests, weights)
    told.update(zip(requests, replies))
    return replies

  questions = evaluator.questions(examples)
  try:
    done = waves.run(waves.grid([job], [questions]), evaluator.terms, recall)
  except KeyError:
    logging.warning("calls of the final test are not at hand: no traces are kept.")
    return []
  found, size = [], 0
  for index, (question, answered) in enumerate(zip(questions, done)):
    nodes = _nodes(evaluator, job, answered, told)
    for node in nodes:
      node["answers"] = answers(question, node["reply"])
    size += sum(len(node["prompt"]) + len(node["reply"]) for node in nodes)
    if size > MOST_BYTES:
      logging.info("traces are kept of %d of %d questions.", index, len(examples))
      break
    asked = _asked(examples[index], question.prompt)
    found.append({"index": index, **asked, "nodes": nodes})
  return found


def _nodes(evaluator, job, answered, told):
  """What each node was asked and said, in order; `told`: the whole replies."""
  names, terms = evaluator.memo.experts.names, evaluator.terms
  heard = {node: before for wave in job.waves for node, before in wave}
  nodes = []
  for asks, said in zip(answered.asks, answered.said):
    for ask, reply in zip(asks, said):
      whole = told[Request(ask.expert, ask.prompt, terms.limit, terms.chat, ask.draw)]
      nodes.append(
        {
          "node": ask.node,
          "expert": names[ask.expert],
          "heard": heard[ask.node],
          "prompt": ask.prompt,
          "reply": reply,
          "tokens": [whole.prompt_tokens, whole.new_tokens],
        }
      )
  return nodes


def _asked(example, prompt):
  gold = example.answer
  return {
    "id": example.id,
    "question": prompt,
    "gold": list(gold) if isinstance(gold, tuple) else gold,
  }
