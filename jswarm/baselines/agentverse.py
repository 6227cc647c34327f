"""AgentVerse: a solver, critics who answer it, and who accepts (arXiv 2308.10848)."""

from collections.abc import Hashable, Sequence
import dataclasses
import re
from typing import NamedTuple

from jswarm.baselines import asking
from jswarm.baselines.base import Found, Setting
from jswarm.systems.answerer import Answering
from jswarm.systems.prompts import Question, Terms
from jswarm.systems.weights import Weights

TURNS, REVIEWS = 3, 3  # of the article's configurations


class Roles(NamedTuple):
  """What each one is asked; own words. `{role}` is what the assigner wrote of it.

  Attributes:
    assign: `{count}` experts are to be described, one a line.
    solve, revise: of the solver; `{advice}` of the last turn.
    review: of a critic, who agrees with a word of its own.
    judge: of the evaluator; it begins with 1 (accepted) or 0.
  """

  assign: str = (
    "Name {count} kinds of experts who could solve the question below together, one a"
    " line, each in a few words.{advice}"
  )
  solve: str = "{role}Solve the question below.{advice}"
  review: str = (
    "{role}Another model gave the response below. If it is right, reply only [Agree]."
    " Else say what is wrong with it."
  )
  revise: str = (
    "{role}Response 1 below is your own, the others are reviews of it. Give the final"
    " answer, corrected where a review is right.{advice}"
  )
  judge: str = (
    "Is the response to the question below right? Begin with 1 if it is and with 0 if"
    " not, then give advice in one sentence."
  )


@dataclasses.dataclass(frozen=True)
class AgentVerse:
  """Turns of solving, reviewing and accepting; the last plan is the answer.

  In each turn roles are assigned and the solver answers; critics review at the same
  time, and while one does not agree the solver revises, `reviews` times at most; then
  the evaluator accepts, or gives advice for the next turn. Replies that cannot be read
  do not agree, and do not accept.

  Attributes:
    solver: it also assigns roles and evaluates. critics: who reviews, in this order.
    turns, reviews: at most. roles: the words.
  """

  solver: int
  critics: tuple[int, ...]
  turns: int = TURNS
  reviews: int = REVIEWS
  roles: Roles = Roles()
  weights: Weights | None = None

  def __post_init__(self):
    if self.turns < 1 or self.reviews < 0:
      raise ValueError(
        f"turns={self.turns}, reviews={self.reviews}: allowed are at least 1 and 0."
      )

  @property
  def most(self) -> int:
    """Calls that an answer takes at most."""
    return self.turns * (3 + self.reviews * (len(self.critics) + 1))

  def members(self) -> Sequence[int]:
    return self.solver, *self.critics

  def identity(self, question: Question, terms: Terms) -> Hashable:
    return type(self), self.solver, self.critics, self.turns, self.reviews, self.roles

  def answer(self, question: Question, terms: Terms) -> Answering:
    plan, advice = "", ""
    for _ in range(self.turns):
      # 1. Roles, of the solver and of each critic.
      count = str(1 + len(self.critics))
      assign = _filled(self.roles.assign, count=count, advice=advice)
      (said,) = yield [self._ask(0, assign, [], question, terms)]
      roles = assigned(said, 1 + len(self.critics))
      # 2. A plan, reviewed and revised until all agree.
      solve = _filled(self.roles.solve, role=roles[0], advice=advice)
      (plan,) = yield [self._ask(0, solve, [], question, terms)]
      plan = yield from self._reviewed(plan, roles, advice, question, terms)
      # 3. Accepted, or advice for the next turn.
      (verdict,) = yield [self._ask(0, self.roles.judge, [plan], question, terms)]
      accepted, said = judged(verdict)
      if accepted:
        break
      advice = f" Advice: {said}" if said else ""
    return plan

  def _reviewed(self, plan, roles, advice, question, terms):
    for _ in range(self.reviews if self.critics else 0):
      reviews = yield [
        self._ask(
          place, _filled(self.roles.review, role=roles[place]), [plan], question, terms
        )
        for place in range(1, 1 + len(self.critics))
      ]
      against = [review for review in reviews if not agrees(review)]
      if not against:
        break
      revise = _filled(self.roles.revise, role=roles[0], advice=advice)
      (plan,) = yield [self._ask(0, revise, [plan, *against], question, terms)]
    return plan

  def _ask(self, place, instruction, replies, question, terms):
    expert = self.critics[place - 1] if place else self.solver
    return asking.ask(place, expert, instruction, replies, question, terms)


def agentverse(setting: Setting) -> Found:
  """The best expert on dev solves, assigns and evaluates; all others are its critics.

  Nothing is searched. It is scored on dev where the budget holds the most calls that it
  can take. Options: `turns` (3), `reviews` (3), `critics` (how many; all).
  """
  solver, *others = setting.by_dev
  critics = tuple(others[: setting.option("critics", len(others))])
  answerer = AgentVerse(
    solver,
    critics,
    setting.option("turns", TURNS),
    setting.option("reviews", REVIEWS),
    weights=setting.first,
  )
  names = setting.experts.names
  notes = {
    "solver": names[solver],
    "critics": [names[e] for e in critics],
    "calls_a_question_at_most": answerer.most,
  }
  dev = float("nan")
  if setting.left(answerer.most * len(setting.problem.examples)):
    _, dev = setting.best([answerer])
  return Found(answerer, dev, notes=notes)


def agrees(review: str) -> bool:
  """Does a critic agree? "[Agree]" in any case; "disagree" or "not agree" is a no."""
  text = review.casefold()
  if re.search(r"\bdisagree|(\bnot|n't|\bcannot)\s+(\w+\s+)?agree", text):
    return False
  return re.search(r"\bagreed?\b", text) is not None


def judged(verdict: str) -> tuple[bool, str]:
  """(accepted, advice): the first 0, 1, yes or no decides; none of them is a no."""
  found = re.search(
    r"(?<![\w.])(?:(?P<no>0|no|not|\w+n't|wrong|incorrect|false)"
    r"|(?P<yes>1|yes|correct|right|true))(?!\w|\.\d)",
    verdict,
    re.IGNORECASE,
  )
  if not found:
    return False, verdict.strip()
  return found["yes"] is not None, verdict[found.end() :].strip(" \n\t.,:;-)")


def assigned(reply: str, count: int) -> list[str]:
  """For each of `count` experts "You are ... . ", of the lines of a reply; or ""."""
  lines = [re.sub(r"^[\s\d.)*#:-]+", "", line).strip() for line in reply.splitlines()]
  roles = [f"You are {line.rstrip('.')}. " for line in lines if line][:count]
  return roles + [""] * (count - len(roles))


def _filled(text, **slots):
  """Slots are filled once: what models said may hold braces."""
  return re.sub(r"\{(\w+)\}", lambda slot: slots.get(slot[1], slot[0]), text)
