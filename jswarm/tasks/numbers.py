"""Numbers in replies: as digits, fractions, powers, per cent, or in words."""

from fractions import Fraction
import re
from typing import NamedTuple

from jswarm.tasks import cues
from jswarm.tasks.normalize import WORD


class Number(NamedTuple):
  """A value as it was said; `percent`: in hundredths ("50%" is 50 here)."""

  value: Fraction
  percent: bool


_DIGITS = (
  r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}(?![0-9])"
  r"|[0-9]{1,2}(?:,[0-9]{2}){1,6},[0-9]{3}(?![0-9])"  # 12,34,567
  r"|[0-9]{1,3}(?:\.[0-9]{3}){2,12}(?:,[0-9]{1,9})?(?![0-9,.][0-9]|[0-9])"  # 1.000.000
  r"|[0-9]{1,3}(?:\.[0-9]{3}){1,12},[0-9]{1,2}(?![0-9])"  # 1.234,56
  r"|[0-9]{1,60}(?![0-9]))"
)
_SCALES = {
  "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9,
  "trillion": 10**12, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "만": 10**4,
  "百万": 10**6, "百萬": 10**6, "千万": 10**7, "亿": 10**8, "億": 10**8, "억": 10**8,
}  # fmt: skip
_SCALE = "|".join(sorted(_SCALES, key=len, reverse=True))
# A sign only where it cannot be a minus or a dash: "16-9" and "5 - 9" hold a 9. What is
# part of a sum, a root, a ratio or a denominator is no answer by itself.
_NUMBER = re.compile(
  rf"(?<!{WORD})(?<![.^/√±π])(?<!√\()(?<![0-9]:)"
  r"(?<![0-9)][+×÷·])(?<![0-9)]\s[+×÷·])(?<![0-9)][+×÷·]\s)(?<![0-9)]\s[+×÷·]\s)"
  r"(?:(?<![)\]])(?P<sign>[-−–]|(?<![0-9]\s)(?:minus|negative)\s{1,2}|负|負|マイナス))?"
  r"(?:[$€£¥₹]\s?(?P<minus>[-−–])?)?"
  rf"(?=\.?[0-9])(?P<whole>{_DIGITS})?(?P<part>\.[0-9]{{1,60}}(?![0-9]))?"
  r"(?P<power>[eE][-+]?[0-9]{1,2}(?![0-9]))?"
  r"(?:\s{1,2}(?P<above>[0-9]{1,4})/(?P<under>[1-9][0-9]{0,3})(?![0-9/.]|\.[0-9])"
  r"|\s?/\s?(?P<below>[1-9][0-9]{0,14})(?![0-9/]|\.[0-9]))?"
  r"(?:\s?\^\s?\(?(?P<raised>[-−]?[0-9]{1,4})\)?|\*\*(?P<starred>-?[0-9]{1,4}))?"
  r"(?:\s?[×x*·]\s?10\s?(?:\^\s?\(?|\*\*)(?P<ten>[-−]?[0-9]{1,3})\)?)?"
  rf"(?:\s{{0,2}}(?P<scale>{_SCALE})(?![a-z米克瓦卡分]))?"
  r"(?P<percent>\s?(?:%|percent\b|per\s{1,2}cent\b))?"
  r"(?!\s?[√π^]|\*\*[0-9(a-zA-Z]|\s?/\s?[0-9]|\.[0-9]|:[0-9]"
  r"|\s{0,2}[+×÷·]\s{0,2}[0-9(√])",
  re.I,
)
# Before the last of two numbers: a range or a choice, not one answer.
_PAIR = re.compile(
  r"[0-9]%?\s{0,2}(?:\bor\b|\bto\b|–|—|~|至|到|から)\s{0,2}[$€£]?$"
  r"|\bbetween\s{1,2}[$€£]?[0-9][0-9.,]{0,20}%?(?:\s\w{1,12})?\s{1,2}and\s{1,2}[$€£]?$"
)
_HYPHEN = re.compile(r"(?<![0-9.)\]\w])([0-9]{1,9})-$")
_FROM = re.compile(r"\bfrom\b", re.I)
# Where an answer ends and a remark on it begins.
_REMARK = re.compile(
  r"\s\((?![^)\n]{0,60}\)\s?=)|[,;]\s{0,2}(?:which|as|since|because|leaving|where|not"
  r"|rather|instead|if|when|given|but|因为|因為|而)",
  re.I,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,40})\*\*(?!\s{0,2}[:\w])")
_UNITS = {
  w: k
  for k, w in enumerate(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen"
    " fourteen fifteen sixteen seventeen eighteen nineteen".split()
  )
} | {
  w: 10 * k
  for k, w in enumerate(
    "twenty thirty forty fifty sixty seventy eighty ninety".split(), 2
  )
}
_NAME = rf"(?:{'|'.join([*_UNITS, 'hundred', 'thousand', 'million'])})"
_NAMED = re.compile(
  rf"\W{{0,6}}(?:exactly\s|about\s|only\s|just\s)?(?P<sign>(?:minus|negative)\s)?"
  rf"(?P<words>{_NAME}(?:(?:\s|-|\sand\s){_NAME}){{0,8}})\b(?!\s(?:of|or|to)\b|-)",
  re.I,
)
_HAN_DIGITS = {c: k for k, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}
_HAN_NAMED = re.compile(
  r"[\s\"(*]{0,4}([零〇一二两三四五六七八九十百千]{1,9})(?!共|样|些|定)"
)


def number(text: str) -> Number | None:
  """The number that a text in plain form is, and nothing besides, or None."""
  bare = text.strip().strip("$").strip() if text.strip().endswith("$") else text.strip()
  found = _NUMBER.match(bare)
  if not found or bare[found.end() :].strip() not in ("", ".", "%", "%."):
    return None
  value = _value(found)
  percent = bool(found["percent"]) or "%" in bare
  return None if value is None else Number(value, percent)


def same(gold: Number, told: Number) -> bool:
  """Equal by value; where one alone has a per cent sign, 50% is also 0.5."""
  if gold.value == told.value:
    return True
  if gold.percent == told.percent:
    return False
  share, whole = (gold, told) if gold.percent else (told, gold)
  return share.value / 100 == whole.value


def last_in(text: str, stated: bool) -> tuple[bool, Number | None]:
  """(does the text hold a number, the answer among its numbers).

  The last one counts that is not denied; none if it ends a range ("5 to 10") or a
  choice ("5 or 10").

  Args:
    text: an answering clause, or a whole reply, in plain form.
    stated: it follows a cue, so "5-10" is a range and number words count.
  """
  found = [
    m
    for m in _NUMBER.finditer(text)
    if _value(m) is not None and not cues.negated(text, m.start(), m.end())
  ]
  if not found:
    return (True, named) if (named := in_words(text, stated)) else (False, None)
  last, value = found[-1], _value(found[-1])
  assert value is not None  # as chosen above
  before = text[max(0, last.start() - 60) : last.start()]
  if _PAIR.search(before) and not (_FROM.search(before) and not stated):
    return True, None
  if stated and (low := _HYPHEN.search(before)) and int(low[1]) < value:
    return True, None
  return True, Number(value, bool(last["percent"]))


def clause(sentence: str) -> str:
  """The sentence up to a remark on the number that it gives."""
  first = next(
    (
      m
      for m in _NUMBER.finditer(sentence)
      if not cues.negated(sentence, m.start(), m.end())
    ),
    None,
  )
  remark = first and _REMARK.search(sentence, first.end())
  return sentence[: remark.start()] if remark else sentence


def bold(text: str) -> Number | None:
  """The last bold piece that is a number, with at most two words of unit."""
  for piece in reversed(_BOLD.findall(text)):
    found = _NUMBER.match(piece.strip())
    unit = piece.strip()[found.end() :] if found else ""
    if found and not re.search(r"\d|^[.)]$", unit) and len(unit.split()) <= 2:
      value = _value(found)
      return None if value is None else Number(value, bool(found["percent"]))
  return None


def in_words(text: str, stated: bool) -> Number | None:
  """The number whose name opens the text; unless `stated` the text must be short."""
  if not stated and len(text.split()) > 5:
    return None
  if found := _NAMED.match(text):
    value = _of_words(found["words"].lower())
    return Number(Fraction(-value if found["sign"] else value), False)
  if found := _HAN_NAMED.match(text):
    return Number(Fraction(_of_han(found[1])), False)
  return None


def _of_words(words: str) -> int:
  total, group = 0, 0
  for word in re.split(r"[\s-]+", words):
    if word in _UNITS:
      group += _UNITS[word]
    elif word == "hundred":
      group = max(group, 1) * 100
    elif word in _SCALES:
      total, group = total + max(group, 1) * _SCALES[word], 0
  return total + group


def _of_han(text: str) -> int:
  total, digit = 0, None
  for sign in text:
    if sign in _HAN_UNITS:
      total, digit = total + (1 if digit is None else digit) * _HAN_UNITS[sign], None
    else:
      digit = (digit or 0) * 10 + _HAN_DIGITS[sign]
  return total + (digit or 0)


def _value(found: re.Match) -> Fraction | None:
  """None for what is no number after all, or too large to be meant."""
  whole, part = found["whole"], found["part"]
  if not (whole or part):
    return None
  value = Fraction(_digits(whole or "0") + (part or "") + (found["power"] or ""))
  if found["below"]:
    value /= int(found["below"])
  if found["above"]:
    if part or int(found["above"]) >= int(found["under"]):
      return None
    value += Fraction(int(found["above"]), int(found["under"]))
  raised = found["raised"] or found["starred"]
  if raised:
    exponent = int(raised.replace("−", "-"))
    if abs(exponent) > 400 or (not value and exponent < 0) or len(whole or "") > 9:
      return None
    value = value**exponent
  if found["ten"]:
    value *= Fraction(10) ** int(found["ten"].replace("−", "-"))
  if found["scale"]:
    value *= _SCALES[found["scale"].lower()]
  return -value if found["sign"] or found["minus"] else value


def _digits(whole: str) -> str:
  if whole.count(".") > 1 or ("." in whole and "," in whole):  # 1.234,56
    return whole.replace(".", "").replace(",", ".")
  return whole.replace(",", "")
