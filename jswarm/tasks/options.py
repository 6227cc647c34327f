"""Multiple choice: reply -> label of the option that it picks, or None.

`choose` reads what a careful person would read. `choose_as_published` reproduces
the public code, false positives included (any reply with an "A" among its first
five characters picks A).
"""

from collections.abc import Iterable, Mapping
import functools
import re
from typing import NamedTuple

_AGAIN = re.compile(r"(?<=\S)\s{1,4}Question:")
# What may stand between a cue and a label: "**(B", '"B', "$\boxed{\text{B".
_WRAP = r"[\s\"'*_`(\[{$]{0,6}(?:\\text\{)?"
_CUES = (
  r"\b(?:answer|option|choice)\s{1,3}(?:is|was|would be|should be|must be)\b:?",
  r"\banswer[*_]{0,2}\s{0,3}[:=]",
  r"\bfinal\s{1,3}answer\b",
  r"\\boxed(?=\{)",
  r"\b(?:choose|chose|pick|picked|select|selected)\b",
)
_CUE = (
  rf"(?:{'|'.join(_CUES)})(?:\s{{1,3}}the)?"
  r"(?:\s{1,3}(?:option|choice|answer|letter))?"
)
_WORDS = ("A", "I")  # labels that are words too
_EDGE = r"(?![\w'’]|-\w)"  # a label ends here, so "I'm" and "B-52" hold none
_CLOSED = r"(?=\s{0,3}(?:$|[.,;:!)\]}\"'*`]))"
_CORRECT = (
  r"\s{1,3}(?:is|would be)\s{1,3}(?:definitely\s|clearly\s)?(?:the\s{1,3})?"
  r"(?:correct|right|best|true)\b"
)
# "A man" and "I think" are words; "A is right" and "I because" are labels.
_WORD_AFTER = re.compile(r"\s{1,3}(?!(?:is|because|since|and|or)\b)\w")
_LOWER_AFTER = re.compile(
  r"\s{1,3}(?!(?:is|was|because|since|and|or|as|which|but|not|due|given|for|in|with"
  r"|by|the|this|it)\b)[a-z]"
)
_REJECTED = re.compile(
  r"[\"'*`)\]]{0,3}\s{1,3}(?:isn['’]t|(?:is|was|are|cannot be|can['’]t be)\s{1,3}"
  r"(?:also\s|clearly\s)?(?:not|never|wrong|incorrect|false|out)\b)",
  re.I,
)
_REFUSED = re.compile(r"(?:\bnot|\bnever|\bneither|\bnor|n['’]t)[\s\"'(*]{1,4}$", re.I)


class _Patterns(NamedTuple):
  """Compiled for one tuple of labels; group 1 (or 2) is the label."""

  cue: re.Pattern
  verdict: re.Pattern
  start: re.Pattern
  marked: re.Pattern
  alone: re.Pattern


def first_part(reply: str) -> str:
  """The reply up to a further "Question:" that a base model asks itself."""
  again = _AGAIN.search(reply)
  return reply[: again.start()] if again else reply


def choose(reply: str, choices: Mapping[str, str]) -> str | None:
  """The label that the reply picks, or None if it picks none or several.

  In this order: the reply is one option's text; the last stated answer ("the
  answer is B", "B is correct"); a marked label that opens the reply ("B. ...");
  the last marked label ("(B)", "B.", "B:"); the first label standing alone; the
  one option whose full text occurs. The articles and pronouns "A" and "I", labels
  that are denied ("not B", "B is wrong") and a copied list of all options do not
  count, nor does anything after a further "Question:".
  """
  text = first_part(reply.strip())
  if bare := _whole_text(text, choices):
    return bare
  labels = tuple(choices)
  patterns = _patterns(labels)
  stated = [*_found(patterns.cue, text), *_found(patterns.verdict, text)]
  if stated:
    return _label(max(stated, key=lambda m: m.start(m.lastindex)), labels)
  text = _without_list(text, labels)
  opening = patterns.start.match(text)
  if opening and not _denied(opening, text):
    return _label(opening, labels)
  if marked := _found(patterns.marked, text):
    return _label(marked[-1], labels)
  alone = [
    m
    for m in _found(patterns.alone, text)
    if m[1] not in _WORDS or not _WORD_AFTER.match(text, m.end())
  ]
  return _label(alone[0], labels) if alone else _only_text(text, choices)


def choose_as_published(reply: str, choices: Mapping[str, str]) -> str | None:
  """Public code, evaluate.py:103-125: first five characters, last five, text."""
  text = " ".join(reply.strip().split("\n"))
  for part in (text[:5], text[-5:]):
    for label in choices:
      if label in part:
        return label
  lowered = text.lower()
  return next((k for k, v in choices.items() if v.lower() in lowered), None)


@functools.lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> _Patterns:
  upper = _either(labels)
  # Lower case counts only where it cannot be a word, and labels stay distinct.
  folds = len({k.casefold() for k in labels}) == len(labels)
  lower = f"(?i:{upper})" if folds else upper
  words = [k for k in labels if not k.isdigit()]  # "1" alone is a number
  return _Patterns(
    re.compile(rf"(?i:{_CUE}){_WRAP}(?:({upper}){_EDGE}|({lower}){_CLOSED})"),
    re.compile(rf"(?<![\w'’-])({upper})[\"'*`)]{{0,3}}(?i:{_CORRECT})"),
    re.compile(
      rf"\W{{0,6}}({lower})(?:\s*$|[.:)\]*](?!\d)|\n"
      r"|,?\s{1,3}(?:because|since)\b)"
    ),
    re.compile(rf"(?<![\w'’\-(.])(?:\(({upper})\)|({upper})(?:[:)\]]|\.(?!\d)))"),
    re.compile(rf"(?<![\w'’-])({_either(words)}){_EDGE}")
    if words
    else re.compile(r"(?!)()"),
  )


def _either(labels: Iterable[str]) -> str:
  longest_first = sorted(labels, key=len, reverse=True)
  return f"(?:{'|'.join(map(re.escape, longest_first))})"


def _found(pattern: re.Pattern, text: str) -> list[re.Match]:
  return [
    m for m in pattern.finditer(text) if not _denied(m, text) and not _article(m, text)
  ]


def _denied(match: re.Match, text: str) -> bool:
  at = match.lastindex
  before = text[max(0, match.start() - 12) : match.start()]
  just = text[max(0, match.start(at) - 12) : match.start(at)]
  return bool(
    _REJECTED.match(text, match.end(at))
    or _REFUSED.search(just)
    or _REFUSED.search(before)
  )


def _article(match: re.Match, text: str) -> bool:
  """Is it "A man ..." or "I think ..." after all?"""
  at = match.lastindex
  return match[at] in _WORDS and bool(_LOWER_AFTER.match(text, match.end(at)))


def _label(match: re.Match, labels: tuple[str, ...]) -> str:
  found = match[match.lastindex]
  if found in labels:
    return found
  return next(k for k in labels if k.casefold() == found.casefold())


def _without_list(text: str, labels: tuple[str, ...]) -> str:
  """Blanks the labels of a copied list of options, also of one cut short."""
  marked = list(_patterns(labels).marked.finditer(text))
  shortest = min(3, len(labels))
  for first in range(len(marked)):
    run = 0
    while (
      run < len(labels)
      and first + run < len(marked)
      and marked[first + run][marked[first + run].lastindex] == labels[run]
    ):
      run += 1
    if run >= shortest:
      for m in marked[first : first + run]:
        text = text[: m.start()] + " " * (m.end() - m.start()) + text[m.end() :]
  return text


def _folded(text: str) -> str:
  return " ".join(text.casefold().split()).strip(" .\"'*`")


def _whole_text(text: str, choices: Mapping[str, str]) -> str | None:
  said = _folded(text)
  if said in {k.casefold() for k in choices}:
    return None  # "B" names option B even if the text of another option is "B"
  same = [k for k, v in choices.items() if _folded(v) == said]
  return same[0] if len(same) == 1 and said else None


def _only_text(text: str, choices: Mapping[str, str]) -> str | None:
  """Longest options first: "New York City" does not also name "New York"."""
  owners: dict[str, list[str]] = {}
  for label, option in choices.items():
    owners.setdefault(" ".join(option.casefold().split()), []).append(label)
  spoken = " ".join(text.casefold().split())
  if not (texts := [t for t in owners if t]):
    return None
  either = _either(texts)
  # "0" is not named by "0.5" or "-0", nor "yes" by "yes-man".
  whole = rf"(?<![\w−-])(?<![0-9][.,]){either}(?!\w|[.,][0-9]|-\w)"
  named = {
    m[0]
    for m in re.finditer(whole, spoken)
    if not _REFUSED.search(spoken[max(0, m.start() - 12) : m.start()])
  }
  if len(named) != 1:
    return None
  labels = owners[named.pop()]
  return labels[0] if len(labels) == 1 else None
