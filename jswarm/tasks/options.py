"""Multiple choice: reply -> label of the option that it picks, or None.

`choose` reads what a careful person would read. `choose_as_published` reproduces
the public code, false positives included (any reply with an "A" among its first
five characters picks A).
"""

from collections.abc import Iterable, Mapping
import functools
import re
from typing import NamedTuple

from jswarm.tasks import cues
from jswarm.tasks.normalize import UNSPACED, WORD, plain_form, said

# A base model goes on with a question of its own.
_AGAIN = re.compile(
  r"(?<=\S)\s{1,4}Question:"
  r"|(?<=\S)\s{0,4}\n\s{0,2}(?:Question\s?[0-9]{0,3}|Q[0-9]{0,3}|Human|User|问题|問題):"
)
# What may stand between a cue and a label: "**(B", '"B', "$\boxed{\text{B".
_WRAP = r"[\s\"'*_`(\[{$:]{0,6}"
_VERBS = (
  r"\bi(?:['’]d|\s(?:would|will))\s(?:say|answer)\b",
  r"\b(?:choose|chose|pick|picked|select|selected|go\s{1,2}with)\b",
  r"(?<![选選])(?:选择|選擇|选|選|選ぶのは)(?:项|項)?:?",
)
_CUES = (
  *cues.ANSWER,
  rf"\b(?:option|choice)\s{{1,3}}{cues.BE}\b:?",
  r"\bfinal\s{1,3}answer\b",
  # "No, wait, it is B": what was said before is taken back.
  r"\b(?:wait|no|nope|actually|sorry|oops|correction|i\s{1,2}mean|make\s{1,2}that)\b"
  r"[\s,.:!—–-]{1,4}(?:(?:wait|no|actually|sorry)[\s,.:!—–-]{1,4})?"
  r"(?:(?:it|that|this)(?:'s|\s(?:is|should\sbe|must\sbe))\s)?(?=[\"'*(]{0,3}[A-Z0-9])",
)
_NOT_BUT = r"(?:\s{1,3}not\s{1,3}\(?\w{1,3}\)?,?\s{1,3}but(?:\s{1,3}rather)?)?"
_TAIL = rf"(?:\s{{1,3}}the)?(?:\s{{1,3}}(?:option|choice|answer|letter))?{_NOT_BUT}"
_WORDS = ("A", "I")  # labels that are words too
_EDGE = rf"(?!{WORD}|'{WORD}|-{WORD})"  # so "I'm" and "B-52" hold no label
_LEFT = rf"(?<!{WORD})(?<!['-])"
_CLOSED = rf"(?=\s{{0,3}}(?:$|[.,;:!?)\]}}\"'*`。！？；：）<$]|[{UNSPACED}]))"
_CORRECT = (
  r"(?:\s{1,3}(?:is|would be)\s{1,3}(?:definitely\s|clearly\s)?(?:the\s{1,3})?"
  r"(?:correct|right|best|true)\b|\s?(?:选项|選項|项|項)?(?:才)?(?:是|为|為)?"
  r"(?:最)?(?:正确|正確|对的|對的)|\s?(?:が|は)(?:正解|正しい|正答)"
  r"|(?:번)?(?:이|가)?\s?(?:정답|맞))"
)
# "A man" and "I think" are words; "A is right" and "I because" are labels.
_WORD_AFTER = re.compile(rf"\s{{1,3}}(?!(?:is|because|since|and|or)\b){WORD}")
_LOWER_AFTER = re.compile(
  r"\s{1,3}(?!(?:is|was|because|since|and|or|as|which|but|not|due|given|for|in|with"
  r"|by|the|this|it|rather|instead)\b)[a-z]"
)


class _Patterns(NamedTuple):
  """Compiled for one tuple of labels; group 1 (or 2) is the label."""

  cue: re.Pattern
  verb: re.Pattern
  verdict: re.Pattern
  start: re.Pattern
  marked: re.Pattern
  alone: re.Pattern
  joined: re.Pattern


def first_part(reply: str) -> str:
  """The reply up to a further "Question:" that a base model asks itself."""
  again = _AGAIN.search(reply)
  return reply[: again.start()] if again else reply


def choose(reply: str, choices: Mapping[str, str]) -> str | None:
  """The label that the reply picks, or None if it picks none or several.

  In this order: the reply is one option's text; the last stated answer ("the
  answer is B", "B is correct", "the answer is Rome"), those that are only supposed
  ("many pick D", "if ... it would be C") behind the others; a marked label that opens
  the reply ("B. ..."); the last marked label ("(B)", "B.", "B:"); the first label
  standing alone; the one option whose full text occurs. Thoughts in tags, the
  articles and pronouns "A" and "I", labels that are denied ("not B", "B is wrong"),
  several joined ("A or B") and a copied list of all options do not count, nor does
  anything after a further "Question:".
  """
  names = {plain_form(label): label for label in choices}
  if len(names) < len(choices):
    names = {label: label for label in choices}
  texts = {name: plain_form(choices[label]) for name, label in names.items()}
  picked = _choose(first_part(said(reply).strip()), texts)
  return None if picked is None else names[picked]


def _choose(text: str, choices: Mapping[str, str]) -> str | None:
  if bare := _whole_text(text, choices):
    return bare
  labels = tuple(choices)
  patterns = _patterns(labels)
  if stated := _stated(text, choices, patterns):
    at, label = max(stated)
    return label or None  # "": several at once
  text = _without_list(text, labels)
  opening = patterns.start.match(text)
  if opening and not _denied(opening, text):
    several = patterns.joined.match(text, opening.end())  # "(A) and (B)"
    return None if several else _label(opening, labels)
  if marked := _found(patterns.marked, text):
    several = patterns.joined.match(text, marked[-1].end(marked[-1].lastindex))
    before = _joined_before(patterns, text, marked)
    return None if several or before else _label(marked[-1], labels)
  alone = [
    m
    for m in _found(patterns.alone, text)
    if m[1] not in _WORDS or not _WORD_AFTER.match(text, m.end())
  ]
  joined = [m for m in alone if patterns.joined.match(text, m.end())]
  pairs = [patterns.joined.match(text, m.end()) for m in joined]
  taken = {pair.end() for pair in pairs if pair}
  alone = [m for m in alone if m not in joined and m.end() not in taken]
  if joined and not alone:
    return None
  return _label(alone[0], labels) if alone else _only_text(text, choices)


def _joined_before(patterns: _Patterns, text: str, marked: list[re.Match]) -> bool:
  """Does the last marked label end "(A) and (B)"?"""
  if len(marked) < 2:
    return False
  joined = patterns.joined.match(text, marked[-2].end(marked[-2].lastindex))
  return bool(joined) and joined.end() >= marked[-1].end(marked[-1].lastindex)


def _stated(
  text: str, choices: Mapping[str, str], patterns: _Patterns
) -> list[tuple[int, str]]:
  """(place, label) of stated answers; "" where one names several.

  Answers that are only supposed come in if there are no others; verbs of choosing
  that are supposed ("students pick D") never do.
  """
  labels = tuple(choices)
  firm, weak = [], []
  for pattern in (patterns.cue, patterns.verdict, patterns.verb):
    for m in _found(pattern, text):
      at = m.start(m.lastindex)
      several = patterns.joined.match(text, m.end(m.lastindex))
      entry = (at, "" if several else _label(m, labels))
      if not cues.supposed(text, m.start()):
        firm.append(entry)
      elif pattern is not patterns.verb:
        weak.append(entry)
  for at, label in _stated_texts(text, choices):
    (weak if cues.supposed(text, at) else firm).append((at, label))
  return firm or weak


_TEXT_CUE = re.compile(rf"(?i:{cues.either(cues.ANSWER)}){_WRAP}")


def _stated_texts(text: str, choices: Mapping[str, str]) -> list[tuple[int, str]]:
  """(place, label) where a cue is followed by the whole text of one option."""
  owners: dict[str, list[str]] = {}
  for label, option in choices.items():
    owners.setdefault(_folded(option), []).append(label)
  longest = max(map(len, choices.values()))
  found = []
  for cue in _TEXT_CUE.finditer(text):
    after = " ".join(text[cue.end() : cue.end() + 2 * longest + 9].casefold().split())
    for option in sorted(filter(None, owners), key=len, reverse=True):
      end = after[len(option) : len(option) + 2]
      if after.startswith(option) and not _goes_on(option, end):
        if len(owners[option]) == 1 and option not in map(str.casefold, choices):
          found.append((cue.end(), owners[option][0]))
        break
  return found


def _goes_on(option: str, end: str) -> bool:
  """Is the option's text only the beginning of a longer word or number?"""
  if re.match(rf"{WORD}", option[-1]):
    return bool(re.match(rf"{WORD}|[.,/:^][0-9]|-{WORD}", end))
  return False


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
  joint = (
    r"\s{0,2}[)\"'*]{0,3}\s{0,2}"
    r"(?:and|or|&|/|\+|和|或|与|與|及|と|,(?:\s?(?:and|or))?)"
  )
  return _Patterns(
    re.compile(
      rf"(?i:{cues.either(_CUES)}{_TAIL}){_WRAP}(?:({upper}){_EDGE}|({lower}){_CLOSED})"
    ),
    re.compile(
      rf"(?i:{cues.either(_VERBS)}{_TAIL}){_WRAP}(?:({upper}){_EDGE}|({lower}){_CLOSED})"
    ),
    re.compile(rf"{_LEFT}({upper})[\"'*`)]{{0,3}}(?i:{_CORRECT})"),
    re.compile(
      rf"\W{{0,6}}({lower})(?:\s*$|[.:)\]*](?!\d)|\n"
      r"|,?\s{1,3}(?:because|since)\b)"
    ),
    re.compile(
      rf"(?<!{WORD})(?<!['\-(.])(?:\(({upper})\)|({upper})(?:[:)\]]|\.(?!\d)))"
    ),
    re.compile(rf"{_LEFT}({_either(words)}){_EDGE}")
    if words
    else re.compile(r"(?!)()"),
    re.compile(
      rf"{joint}\s{{0,2}}[(\"'*]{{0,3}}(?:option\s)?{upper}{_EDGE}(?!\s(?!is|are)[a-z])"
    ),
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
  return cues.denied(text, match.start(at), match.end(at)) or cues.denied(
    text, match.start(), match.end(at)
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
  pieces, past, first = [], 0, 0
  while first < len(marked):
    run = 0
    while (
      run < len(labels)
      and first + run < len(marked)
      and marked[first + run][marked[first + run].lastindex] == labels[run]
    ):
      run += 1
    if run >= shortest:
      for m in marked[first : first + run]:
        pieces += [text[past : m.start()], " " * (m.end() - m.start())]
        past = m.end()
    first += run if run >= shortest else 1
  return "".join([*pieces, text[past:]])


def _folded(text: str) -> str:
  return " ".join(text.casefold().split()).strip(" .\"'*`。！!$")


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
  whole = rf"(?<![−-])(?<![0-9][.,])(?:(?<!{WORD}){either}(?!{WORD}|[.,][0-9]|-{WORD}))"
  named = {
    m[0]
    for m in re.finditer(whole, spoken)
    if not cues.denied(spoken, m.start(), m.end())
  }
  if len(named) != 1:
    return None
  labels = owners[named.pop()]
  return labels[0] if len(labels) == 1 else None
