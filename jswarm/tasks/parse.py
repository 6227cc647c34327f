"""Free text: gold answer and reply -> right or wrong, F1, rating, true or false.

Each strict reader says what a careful person would say. Its `_as_published` twin
reproduces the public code where there is some. All are total: any text gives a
value, and what names no rating gives NaN.
"""

import collections
from fractions import Fraction
import math
import re
import string

from jswarm.tasks.options import first_part

_CUE = re.compile(
  r"(?:\banswer(?:\s{1,3}to\b[^.\n]{0,60}?)?\s{1,3}(?:is|are|was|would be)\b|"
  r"\banswer[*_]{0,2}\s{0,3}[:=]|####|\\boxed(?=\{))[:*_\s]{0,4}",
  re.I,
)
_SENTENCE = re.compile(r"[.!?](?=\s|$)|\n|\b(?:because|since)\b", re.I)
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}(?![0-9])|[0-9]{1,40}(?![0-9]))"
# A sign only where it cannot be a minus or a dash: "16-9" and "5 - 9" hold a 9.
_NUMBER = re.compile(
  r"(?<![\w.])(?:(?<![)\]])(?P<sign>[-−]))?(?:[$€£]\s?(?P<minus>[-−])?)?"
  r"(?=\.?[0-9])(?P<whole>" + _DIGITS + r")?(?P<part>\.[0-9]{1,40}(?![0-9]))?"
  r"(?P<power>[eE][-+]?[0-9]{1,2}(?![0-9]))?"
  r"(?:/(?P<below>[1-9][0-9]{0,14})(?![0-9/]|\.[0-9]))?"
)
_POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_RATING = re.compile(
  r"\b(?:rating|score)\b[\s*_\"']{0,4}(?:\([^)\n]{0,30}\)\s{0,3})?"
  r"(?:is|of|as|:|=)?[\s*_\"':(\[]{0,6}(?P<n>[0-9]{1,3})"
  r"(?!\w|[.,][0-9]|\s{0,2}(?:-|–|to\b)\s{0,2}[0-9])"
  r"(?!\s{0,2}/\s{0,2}(?!10(?!\.?[0-9]))[0-9])",
  re.I,
)
_OUT_OF_TEN = re.compile(
  r"(?<![\w.,/-])(?P<n>[0-9]{1,3})\s{0,2}(?:/|out\s{1,2}of)\s{0,2}10"
  r"(?![\w/]|\.[0-9])",
  re.I,
)
_TRUTH = re.compile(
  r"(?P<no>\b(?:not|never)\s{1,3}|n['’]t\s{1,3})?\b(true|false)\b", re.I
)


def exact(gold: str, reply: str) -> bool:
  """Does the reply give this answer?

  The same text is right. Else the answer is what follows the last "answer is",
  "answer:", "####" or "boxed" on its line, or the whole reply. A numeric gold
  ("1,000", "$18", "5%", "3/4") is compared, by value, with the last number of that
  sentence. "Yes" and "No" (true, false) are compared with the word that opens the
  answer, else with the last of the two in it. Other golds must occur in it as whole
  words, not after "not"; case, spacing and punctuation do not matter.
  """
  if _plain(gold) == _plain(reply):
    return True
  text = first_part(reply.strip())
  value = number(gold)
  if value is not None:
    return last_number(text) == value
  sought, answer = _plain(gold), _plain(_answer(text))
  return (_polar if sought in _POLAR else _holds)(answer, sought)


def exact_as_published(gold: str, reply: str, tail_words: int | None = None) -> bool:
  """Public code, evaluate.py:420-425: gold is a substring, so "1" matches "12".

  `tail_words`: only so many space-separated words at the end are searched (GSM8K: 5).
  """
  text = " ".join(reply.strip().split("\n"))
  if tail_words:
    text = " ".join(text.split(" ")[-tail_words:])
  return gold in text


def number(text: str) -> Fraction | None:
  """The value of a text that is nothing but a number, else None."""
  found = _NUMBER.match(text.strip())
  rest = text.strip()[found.end() :].strip() if found else ""
  return _value(found) if found and rest in ("", ".", "%", "%.") else None


def last_number(text: str) -> Fraction | None:
  """The last number of the answering sentence; of the text if that has none."""
  cues = list(_CUE.finditer(text))
  after = text[cues[-1].end() :] if cues else text
  sentence = _SENTENCE.split(after, maxsplit=1)[0] if cues else after
  for part in (sentence, after, text):
    values = [v for v in map(_value, _NUMBER.finditer(part)) if v is not None]
    if values:
      return values[-1]
  return None


def f1(gold: str, reply: str) -> float:
  """Token F1 as in SQuAD: lower case, no punctuation, no articles, any order.

  The best of: the whole reply, it without a further "Question:", and what follows
  its last "answer is".
  """
  text = first_part(reply.strip())
  return max(_overlap(gold, said) for said in (reply, text, _answer(text)))


def rating(verdict: str) -> float:
  """The judge's integer rating 1..10, or NaN if the verdict names none.

  The last "Rating: 7" or "score of 7", else the last "7/10" or "7 out of 10", else
  a verdict that is nothing but the number. 7.5, 0 and 11 are not ratings.
  """
  alone = re.fullmatch(r"[\s*_\"'(\[]{0,6}([0-9]{1,3})[\s*_\"')\].]{0,6}", verdict)
  for numbers in (
    [m["n"] for m in _RATING.finditer(verdict)],
    [m["n"] for m in _OUT_OF_TEN.finditer(verdict)],
    [alone[1]] if alone else [],
  ):
    allowed = [int(n) for n in numbers if 1 <= int(n) <= 10]
    if allowed:
      return float(allowed[-1])
  return math.nan


def rating_as_published(verdict: str) -> float:
  """Public code, evaluate.py:457-459, with the crash replaced by what it set: 1.

  Whatever stands between "Rating: " and "/10" is taken, also outside 1..10.
  """
  try:
    return float(int(verdict.split("Rating: ")[1].split("/10")[0]))
  except (IndexError, ValueError, OverflowError):
    return 1.0


def says_true(check: str) -> bool:
  """Self-check: does the first "true" or "false", in any case, say true?

  Neither word means no: whoever does not say true abstains.
  """
  found = _TRUTH.search(check)
  return bool(found) and (found[2].lower() == "true") != bool(found["no"])


def says_true_as_published(check: str) -> bool:
  """Public code, evaluate.py:304-320: asks for "true", accepts only "True"."""
  return "True" in check


def _value(found: re.Match) -> Fraction | None:
  whole, part = found["whole"], found["part"]
  if not (whole or part):
    return None
  digits = (whole or "0").replace(",", "") + (part or "")
  value = Fraction(digits + (found["power"] or ""))
  if found["below"]:
    value /= int(found["below"])
  return -value if found["sign"] or found["minus"] else value


def _answer(text: str) -> str:
  """The line after the last cue; the whole text if there is none."""
  cues = list(_CUE.finditer(text))
  line = text[cues[-1].end() :].strip().split("\n")[0] if cues else ""
  return line or text


def _plain(text: str) -> str:
  """Case, spacing and punctuation removed, unless nothing would be left."""
  folded = " ".join(text.casefold().replace("’", "'").split())
  bare = re.sub(r"[,;:!?\"“”*_`{}$]|\.(?![0-9])", " ", folded)
  bare = re.sub(r"^the ", "", " ".join(bare.split()))
  return bare or folded


def _polar(answer: str, gold: str) -> bool:
  said = re.findall(rf"(?<!\w)(?:{gold}|{_POLAR[gold]})(?!\w)", answer)
  return bool(said) and gold == (said[0] if answer.startswith(said[0]) else said[-1])


def _holds(answer: str, gold: str) -> bool:
  pattern = rf"(?<![\w-])(?<!\bnot )(?<!n't ){re.escape(gold)}(?!\w|-\w)"
  return bool(gold) and re.search(pattern, answer) is not None


def _tokens(text: str) -> list[str]:
  bare = "".join(c for c in text.lower() if c not in string.punctuation)
  return re.sub(r"\b(?:a|an|the)\b", " ", bare).split()


def _overlap(gold: str, reply: str) -> float:
  left, right = _tokens(gold), _tokens(reply)
  if not left or not right:
    return float(left == right)
  common = sum((collections.Counter(left) & collections.Counter(right)).values())
  return 2 * common / (len(left) + len(right))
