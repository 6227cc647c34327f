"""Kinds of tasks: how an example becomes a prompt and a reply a score.

`KINDS` is a dict literal; a kind is a record of plain functions. Readers come in
two parsers: "strict" (default) and "as_published" (the lenient ones of the public
code, for comparison with its numbers).
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import NamedTuple

import numpy as np

from jswarm.tasks import options, parse, prompts
from jswarm.tasks.base import Example, FollowUp, Judge, ScoreFn
from jswarm.tasks.normalize import without_thoughts

PARSERS = ("strict", "as_published")
RATINGS = {"points": (1.0, 10.0), "share": (0.1, 1.0)}  # what a judge's rating becomes
CHECK_LIMIT = 10  # new tokens of a self-check
JUDGE_LIMIT = 20  # new tokens of a verdict


class Kind(NamedTuple):
  """What tasks of one kind share; limit and chat are defaults.

  `options`: the answer is one of the choices. `parsers`: those that exist.
  `score(parser, tail_words)` builds the score; None: the user brings it.
  `alone`: every example is scored by itself, within `range`, and never missing.
  """

  prompt: Callable[..., str]
  score: Callable[[str, int | None], ScoreFn] | None
  range: tuple[float, float]
  limit: int
  chat: bool
  options: bool
  parsers: tuple[str, ...] = PARSERS
  alone: bool = True


def each(
  one: Callable[[Example, str], float],
  examples: Sequence[Example],
  replies: Sequence[str],
) -> np.ndarray:
  """float64 [X]: `one(example, reply)` each; a reply of None is NaN."""
  if len(examples) != len(replies):
    raise ValueError(
      f"{len(replies)} replies for {len(examples)} examples; there"
      " must be one for each."
    )
  return np.array(
    [
      math.nan if reply is None else float(one(example, reply))
      for example, reply in zip(examples, replies)
    ],
    np.float64,
  )


def reliability(
  pick,
  says_true,
  examples: Sequence[Example],
  replies: Sequence[str],
  checks: Sequence[str],
  refuses: Callable[[str], bool] | None = None,
) -> np.ndarray:
  """float64 [X]: answered and right 1, answered and wrong -1, abstained 0.

  Its mean is the effective reliability. A system answers where its self-check says
  true, unless its reply declines and names no option (`refuses`; None: never). A reply
  or check of None is NaN.
  """
  right = each(functools.partial(_picked, pick), examples, replies)
  stands = each(lambda _, check: says_true(check), examples, checks)
  for k, (example, reply) in enumerate(zip(examples, replies)):
    if refuses and reply is not None and refuses(reply):
      # "I am not sure, but B" answers; "I am not sure" alone does not.
      stands[k] *= pick(reply, example.choices) is not None
  return stands * (2 * right - 1) + 0.0  # + 0.0: no negative zeros


def self_check(
  pick, ask: Callable[[Example], str], published: bool, example: Example, reply: str
) -> str:
  """The question again, with the proposed answer: is it true?

  As published the bare letter is shown, "Z" if none could be read. Strict: the
  option with its text, or the reply itself.
  """
  label = pick(reply, example.choices)
  if published:
    shown = label or "Z"
  elif label:
    shown = f"{label}: {example.choices[label]}"
  else:
    shown = " ".join(without_thoughts(reply).split())
  return prompts.fill(prompts.SELF_CHECK, prompt=ask(example), reply=shown)


def follow_up(parser: str, ask: Callable[[Example], str]) -> FollowUp:
  """The self-check of AbstainQA, about prompts made by `ask`."""
  published = parser == "as_published"
  pick = PICK[parser]
  says_true = parse.says_true_as_published if published else parse.says_true
  return FollowUp(
    prompt=functools.partial(self_check, pick, ask, published),
    limit=CHECK_LIMIT,
    score=functools.partial(
      reliability, pick, says_true, refuses=None if published else parse.refuses
    ),
  )


def judge(
  parser: str, template: str | None, limit: int | None, ratings: str = "points"
) -> Judge:
  """A judge with the default wording and limit, or the user's own."""
  return Judge(
    prompt=functools.partial(prompts.judge_prompt, template=template or prompts.JUDGE),
    limit=JUDGE_LIMIT if limit is None else limit,
    parse=rater(parser, ratings),
  )


def rater(parser: str, ratings: str) -> Callable[[str], float]:
  """verdict -> rating in 1..10 ("points"), or that divided by ten ("share")."""
  rate = _RATE[parser]
  return functools.partial(_share, rate) if ratings == "share" else rate


def _share(rate, verdict: str) -> float:
  return rate(verdict) / 10


def _picked(pick, example: Example, reply: str) -> float:
  return float(pick(reply, example.choices) == example.answer)


def _choice_score(parser: str, tail_words: int | None) -> ScoreFn:
  del tail_words
  return functools.partial(each, functools.partial(_picked, PICK[parser]))


def _best(match, example: Example, reply: str) -> float:
  """Of several right answers the one that matches best."""
  golds = (example.answer,) if isinstance(example.answer, str) else example.answer
  return max(float(match(gold, reply)) for gold in golds)


def _exact_score(parser: str, tail_words: int | None) -> ScoreFn:
  match = (
    parse.exact
    if parser == "strict"
    else functools.partial(parse.exact_as_published, tail_words=tail_words)
  )
  return functools.partial(each, functools.partial(_best, match))


def _f1_score(parser: str, tail_words: int | None) -> ScoreFn:
  del parser, tail_words
  return functools.partial(each, functools.partial(_best, parse.f1))


def _rated(rate, example: Example, verdict: str) -> float:
  del example
  return rate(verdict)


def _judge_score(parser: str, tail_words: int | None) -> ScoreFn:
  del tail_words
  return rated(parser, "points")


def rated(parser: str, ratings: str) -> ScoreFn:
  """Scores verdicts of a judge; see `rater`."""
  return functools.partial(each, functools.partial(_rated, rater(parser, ratings)))


PICK = {"strict": options.choose, "as_published": options.choose_as_published}
_RATE = {"strict": parse.rating, "as_published": parse.rating_as_published}

KINDS = {
  "multiple_choice": Kind(
    prompts.choice_prompt, _choice_score, (0.0, 1.0), 50, False, True
  ),
  "exact_match": Kind(prompts.plain_prompt, _exact_score, (0.0, 1.0), 100, True, False),
  "token_f1": Kind(
    prompts.plain_prompt, _f1_score, (0.0, 1.0), 100, True, False, ("strict",)
  ),
  "abstain": Kind(prompts.choice_prompt, _choice_score, (-1.0, 1.0), 100, False, True),
  # A verdict may name no rating; a utility may look at the split as a whole.
  "judge": Kind(
    prompts.plain_prompt, _judge_score, (1.0, 10.0), 200, True, False, alone=False
  ),
  "custom": Kind(
    prompts.free_prompt,
    None,
    (-math.inf, math.inf),
    200,
    True,
    False,
    ("strict",),
    alone=False,
  ),
}
