"""The twelve published tasks: what differs from the defaults of their kind.

Their data are not part of this package: the public code of the paper has them as
one JSON file a task. Sizes there, limits and chat templates as in its evaluate.py.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """Settings of one published task.

  Attributes:
    kind: one of `kinds.KINDS`.
    limit: most new tokens of a reply.
    chat: wrap prompts in the chat template.
    context: every example has chunks of context.
    in_context: the file has an `icl_prompt`.
    request: sentence after the question.
    tail_words: as published, only these last words of a reply are searched.
    size: examples in (dev, test) of the published file; None: not known.
  """

  kind: str
  limit: int
  chat: bool
  context: bool = False
  in_context: bool = False
  request: str = ""
  tail_words: int | None = None
  size: tuple[int, int] | None = None


def _choice(dev, test, **other):
  return Published(
    kind="multiple_choice", limit=50, chat=False, size=(dev, test), **other
  )


TASKS = {
  "abkg": _choice(50, 120),
  "com2": _choice(317, 1000),
  "gaia": Published(
    kind="exact_match", limit=50, chat=True, context=True, size=(13, 28)
  ),
  "gsm8k": Published(
    kind="exact_match",
    limit=100,
    chat=True,
    size=(200, 1000),
    tail_words=5,
    request='Finish your reply with the words "The answer is" and the number.',
  ),
  "knowledge_crosswords": _choice(200, 1000, in_context=True),
  "ltp": Published(kind="judge", limit=200, chat=True, size=(20, 50)),
  "mmlu": Published(kind="abstain", limit=100, chat=False, size=(200, 1000)),
  "mmlu_pro": _choice(70, 1000),
  "nlgraph": Published(kind="exact_match", limit=80, chat=True, size=(200, 1000)),
  "normad": _choice(500, 2000),
  "qasper": Published(
    kind="judge", limit=200, chat=True, context=True, size=(100, 100)
  ),
  "wow": Published(kind="multiple_choice", limit=50, chat=False),
}
