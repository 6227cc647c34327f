"""Suite `speculate`: drafts from the prompt in the last replies of a wave, on and off.

What an inner node of a graph reads: a question and what the nodes before it said, which
its own reply often quotes. Replies end where the model ends them; they are the same.
"""

from jswarm.benchmarks import workload
from jswarm.benchmarks.harness import Contender, Options, Record, compare, interleave
from jswarm.core.types import Request
from jswarm.formats import tokenizer
from jswarm.systems import prompts
from jswarm.tasks.synthetic import stories
from jswarm.wiring import config

ROWS, BEFORE, LIMIT = (1, 4, 8), 2, 96  # of a tail; replies that a node reads; tokens


def run(options: Options) -> list[Record]:
  """By rows, in every dtype."""
  return [record for dtype in options.dtypes for record in _run(options, dtype)]


def _run(options, dtype):
  rows, limit = ((3,), 6) if options.small else (ROWS, LIMIT)
  base = workload.load(options.model, dtype, options.small)
  stops = () if options.small else tokenizer.stop_ids(base.tokenizer, options.model)
  pool = workload.full_pool(base, stops=stops)
  plain, drafts = (
    workload.serve(pool, {"engine.rows": max(rows), "engine.speculate": on})
    for on in (False, True)
  )
  requests = _inner_nodes(plain, max(rows), limit, options.seed)
  return [
    _record(options, f"{dtype}, {count} rows", plain, drafts, requests[:count])
    for count in rows
  ]


def _inner_nodes(experts, count, limit, seed):
  """Requests of nodes that read the replies of nodes before them."""
  asked = [
    story["question"]
    for story in stories.questions("dev", BEFORE * count, seed, ("arithmetic",))
  ]
  first = experts.ask([Request(0, question, limit, True) for question in asked])
  wording = config.resolve_default({}).wording
  return [
    Request(
      0,
      prompts.compose(
        wording,
        wording.middle,
        [reply.text for reply in first[i : i + BEFORE]],
        "",
        asked[i],
      ),
      limit,
      True,
    )
    for i in range(0, len(asked), BEFORE)
  ]


def _record(options, case, plain, drafts, requests):
  said, steps = {}, {}

  def ask(name, experts):
    replies, counts = workload.counted(lambda: experts.ask(requests))
    said[name] = [reply.text for reply in replies]
    steps[name] = counts["decode_steps"]
    return {"new_tokens": sum(reply.new_tokens for reply in replies)}

  timings = interleave(
    [
      Contender("speculating", lambda: ask("speculating", drafts), ours=True),
      Contender("a token a step", lambda: ask("a token a step", plain)),
    ],
    options,
    f"speculate, {case}",
  )
  same = [a == b for a, b in zip(*said.values())]
  return compare(
    "speculate",
    case,
    *timings.values(),
    unit="new token",
    count="new_tokens",
    same=("new_tokens",),
    extra={
      "equal replies": sum(same) / len(same),
      "steps": steps["speculating"],
      "steps without": steps["a token a step"],
    },
  )
