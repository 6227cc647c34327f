"""Free text: gold answer and reply -> right or wrong, F1, rating, true or false.

Each strict reader says what a careful person would say. Its `_as_published` twin
reproduces the public code where there is some. All are total: any text gives a
value, and what names no rating gives NaN.
"""

import collections
import math
import re
import string
import unicodedata

from jswarm.tasks import cues, numbers
from jswarm.tasks.normalize import UNSPACED, WORD, plain_form, said
from jswarm.tasks.options import first_part

_CUE = re.compile(rf"{cues.either(cues.ANSWER)}[:*_\s]{{0,4}}", re.I)
_SENTENCE = re.compile(
  r"[.!?](?=\s|$)|[。！？!?](?=[^\x00-\x7f])|\n|\b(?:because|since)\b|</", re.I
)
_POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
_TWIN = {"yes": "true", "no": "false", "true": "yes", "false": "no"}
# Asked for, not said: "Reply yes or no."
_EITHER = re.compile(
  r"\b(?:yes|no|true|false)\s{0,2}(?:or|/)\s{0,2}(?:yes|no|true|false)\b", re.I
)
# A remark on the number before it: "5 hours (from 3 to 8)".
_ASIDE = re.compile(
  r"\((?:from|not|because|since|instead\sof|out\sof|(?:up|down)\sfrom)\b[^()\n]{0,60}\)",
  re.I,
)
_RATING = re.compile(
  r"(?:\b(?:rating|score|grade|rate[ds]?(?:\s\w{1,9}){0,2}?(?:\s(?:as|at|with))?"
  r"(?:\san?)?)\b|评分|評分|得分|分数|分數|評価|スコア|점수|평점)"
  r"[\s*_\"']{0,4}(?:\([^)\n]{0,30}\)\s{0,3})?"
  r"(?:(?:would|should)\sbe|is|of|as|:|=|是|为|為|は|は:)?[\s*_\"':(\[]{0,6}(?:\\boxed\{)?(?P<n>[0-9]{1,3})"
  rf"(?:\.0{{1,2}}(?![0-9]))?(?!{WORD}|[.,][0-9]"
  r"|\s{0,2}(?:-|–|to\b)\s{0,2}[0-9])"
  r"(?!\s{0,2}(?:/|out\s{1,2}of)\s{0,2}(?!10(?!\.?[0-9]))[0-9])",
  re.I,
)
_OUT_OF_TEN = re.compile(
  rf"(?<!{WORD})(?<![.,/-])(?P<n>[0-9]{{1,3}})(?:\.0{{1,2}})?"
  rf"\s{{0,2}}(?:/|out\s{{1,2}}of)\s{{0,2}}10(?!{WORD}|/|\.[0-9])",
  re.I,
)
_ALONE = re.compile(
  r"[\s*_\"'(\[]{0,6}(?:\\boxed\{)?([0-9]{1,3})(?:\.0{1,2})?[\s*_\"')\].}]{0,6}"
  r"(?:分|점|点|points?)?[\s.]{0,3}",
  re.I,
)
_TRUTH = re.compile(
  rf"(?P<no>\b(?:not|never)\s{{1,3}}|n['’]t\s{{1,3}})?(?<!{WORD})(true|false)(?!{WORD})",
  re.I,
)
_TRUTHS = re.compile(r"\btrue\s{0,2}(?:or|/)\s{0,2}false\b", re.I)
_VERDICT = re.compile(
  rf"(?:{cues.either(cues.ANSWER)}|\bit\s{{1,2}}is|\bverdict:)[\s*_\"'({{:]{{0,4}}$",
  re.I,
)
_YES = re.compile(
  r"[\s*_\"'(]{0,4}(?:(?:that|it|this)(?:['’]s|\sis)\s)?(?:(?:yes|yeah|yep|correct|right|正确|正確|对|對|真|はい|正しい|네|맞)"
  rf"(?!{WORD})|是的|是(?:[。.!,]|$))",
  re.I,
)
_REFUSAL = re.compile(
  r"(?:\bi(?:['’]m|\sam)?\s(?:really\s|do\s|am\s|just\s|honestly\s)?(?:don['’]t|do\snot"
  r"|cannot|can['’]t|can\snot|could\snot|couldn['’]t|am\snot\sable|not\sable|unable"
  r"|won['’]t|will\snot)\s(?:to\s)?(?:know|answer|say|tell|determine|decide|help|provide"
  r"|assist|choose|be\ssure|have\s(?:enough|the|access|sufficient|any))"
  r"|\bi(?:['’]m|\sam)\s(?:not\s(?:sure|certain)|unsure|sorry)|\bsorry,?\s(?:but\s)?i\b"
  r"|\bi\sabstain|\bi(?:['’]d|\swould)\s(?:rather|prefer)\s(?:not|to\snot)"
  r"|\bas\san\sai\b|\bno\sidea\b|\b(?:un|not\s)(?:known|clear)\b"
  r"|\bnot\senough\sinformation|\binsufficient\sinformation"
  r"|\b(?:cannot|can['’]t|can\snot)\sbe\s(?:determined|answered|known|decided)"
  r"|不知道|不确定|不確定|无法(?:回答|确定|判断)|無法(?:回答|確定|判斷)|不清楚"
  r"|わかりません|分かりません|知りません|答えられません|모르겠|모릅니다|ไม่ทราบ|ไม่รู้"
  r"|\bno\s(?:lo\s)?s[ée]\b|\bje\sne\ssais\spas|\bich\swei(?:ß|ss)\s(?:es\s)?nicht)",
  re.I,
)
_LISTENED = 200  # characters in which a refusal has to begin


def exact(gold: str, reply: str) -> bool:
  """Does the reply give this answer?

  Thoughts in tags are no part of a reply. The same text is right. Else the answer is
  what follows the last "answer is", "answer:", "####" or "boxed" that states rather
  than supposes, or the whole reply. A numeric gold ("1,000", "$18", "5%", "3/4") is
  compared, by value, with the last number of that clause. "Yes" and "No" (true,
  false) are compared with the word that opens the answer, else with the last of the
  two in it. Other golds must occur in it as whole words (in scripts without spaces:
  as a run of signs), not after "not"; case, spacing and punctuation do not matter.
  """
  if _plain(gold) == _plain(reply):
    return True
  gold, text = plain_form(gold), first_part(said(reply).strip())
  if _plain(gold) == _plain(text):
    return True
  sought = numbers.number(gold)
  if sought is not None:
    told = last_number(text)
    return told is not None and numbers.same(sought, told)
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


def last_number(text: str) -> numbers.Number | None:
  """The number that a reply in plain form gives, or None.

  In this order: in the clause after the last stated cue that holds one; the last
  bold number; the last number of what follows the cue; of the text.
  """
  stated = _stated(text)
  for answer in stated:
    sentence = _SENTENCE.split(answer, maxsplit=1)[0]
    for part in (numbers.clause(sentence), sentence):
      held, told = numbers.last_in(part, stated=True)
      if held:
        return told
  if not stated and (told := numbers.bold(text)):
    return told
  for part in (*stated[:1], _ASIDE.sub("", text), text):
    held, told = numbers.last_in(part, stated=False)
    if held:
      return told
  return None


def spoken(reply: str) -> str:
  """A reply in plain form, without thoughts and without a further "Question:"."""
  return first_part(said(reply).strip())


def answer(reply: str) -> str:
  """The answer that a reply states, for comparison with that of another reply.

  What follows the last "answer is" that states rather than supposes, or the whole
  reply, up to the end of the sentence; of an answer that opens with yes, no, true or
  false that word. Case, spacing and punctuation are removed.
  """
  told = _plain(_SENTENCE.split(_answer(spoken(reply)), maxsplit=1)[0])
  opening = re.match(rf"(?:{'|'.join(_POLAR)})(?!{WORD})", told)
  return opening[0] if opening else told


def f1(gold: str, reply: str) -> float:
  """Token F1 as in SQuAD: lower case, no punctuation, no articles, any order.

  In scripts without spaces every sign is a token. The best of: the reply without
  thoughts, it without a further "Question:", and what follows its last "answer is".
  """
  if gold == reply:
    return 1.0
  gold, whole = plain_form(gold), said(reply)
  text = first_part(whole.strip())
  return max(_overlap(gold, told) for told in (whole, text, _answer(text)))


def rating(verdict: str) -> float:
  """The judge's integer rating 1..10, or NaN if the verdict names none.

  The last "Rating: 7" or "score of 7", else the last "7/10" or "7 out of 10", else
  a verdict that is nothing but the number. 7.5, 0 and 11 are not ratings. Thoughts in
  tags do not count.
  """
  verdict = said(verdict)
  alone = _ALONE.fullmatch(verdict)
  for digits in (
    _ratings(_RATING, verdict),
    _ratings(_OUT_OF_TEN, verdict),
    [alone[1]] if alone else [],
  ):
    allowed = [int(n) for n in digits if 1 <= int(n) <= 10]
    if allowed:
      return float(allowed[-1])
  return math.nan


def _ratings(pattern: re.Pattern, verdict: str) -> list[str]:
  """The numbers that a verdict names, but for what it denies: "8/10, not 3/10"."""
  return [
    m["n"]
    for m in pattern.finditer(verdict)
    if not cues.negated(verdict, m.start(), m.end())
  ]


def rating_as_published(verdict: str) -> float:
  """Public code, evaluate.py:457-459, with the crash replaced by what it set: 1.

  Whatever stands between "Rating: " and "/10" is taken, also outside 1..10.
  """
  try:
    return float(int(verdict.split("Rating: ")[1].split("/10")[0]))
  except (IndexError, ValueError, OverflowError):
    return 1.0


def says_true(check: str) -> bool:
  """Self-check: does it say true?

  The last "answer is true" counts, else the first "true" or "false", in any case,
  else a "yes" or "correct" that opens it. Thoughts in tags and a quoted "true or
  false" do not. None of these means no: whoever does not say true abstains.
  """
  text = _TRUTHS.sub(" ", said(check))
  found = list(_TRUTH.finditer(text))
  if not found:
    return bool(_YES.match(text))
  stated = [
    m for m in found if _VERDICT.search(text[max(0, m.start() - 80) : m.start()])
  ]
  word = stated[-1] if stated else found[0]
  return (word[2].lower() == "true") != bool(word["no"])


def refuses(reply: str) -> bool:
  """Does the reply, thoughts left out, open by declining to answer?"""
  return bool(_REFUSAL.search(said(reply).strip()[:_LISTENED]))


def says_true_as_published(check: str) -> bool:
  """Public code, evaluate.py:304-320: asks for "true", accepts only "True"."""
  return "True" in check


def _stated(text: str) -> list[str]:
  """What follows each cue, the last stated one first, the supposed ones behind.

  Up to the next cue, which was asked before: so that reading stays linear.
  """
  found = list(_CUE.finditer(text))
  cues_told = [m for m in found if not cues.supposed(text, m.start())] or found
  ends = [m.start() for m in cues_told[1:]] + [len(text)]
  answers = [_after(text, m, end) for m, end in zip(cues_told, ends, strict=False)]
  if _is_cut(answers):
    answers.pop()
  return [answer for answer in reversed(answers) if answer]


def _is_cut(answers: list[str]) -> bool:
  """Is the last answer the beginning of one said twice before, cut by the limit?

  Small models repeat themselves: "The answer is 14. The answer is 14. The answer is 1".
  """
  *whole, last = [a.split("\n", 1)[0].rstrip(" .") for a in answers[-3:]] or [""]
  if len(whole) < 2 or answers[-1].endswith(".") or not last:
    return False
  return whole[0] == whole[1] != last and whole[1].startswith(last)


def _after(text: str, cue: re.Match, end: int) -> str:
  """The answer that a cue opens: a box to its closing brace, else all before `end`."""
  if text[cue.end() : cue.end() + 1] != "{":
    return text[cue.end() : end].strip()
  depth = 0
  for at in range(cue.end(), min(len(text), cue.end() + 400)):
    depth += (text[at] == "{") - (text[at] == "}")
    if not depth:
      return text[cue.end() + 1 : at].strip()
  return text[cue.end() + 1 : end].strip()


def _answer(text: str) -> str:
  """The line after the last cue; the whole text if there is none."""
  stated = _stated(text)
  return stated[0].split("\n")[0].split("</")[0] if stated else text


def _plain(text: str) -> str:
  """Case, spacing and punctuation removed, unless nothing would be left."""
  folded = " ".join(text.casefold().replace("’", "'").split())
  bare = re.sub(
    r"[,;:!?\"“”*_`{}$。！？；：、，（）「」『』《》·]|\.(?![0-9])", " ", folded
  )
  bare = re.sub(r"^the ", "", " ".join(bare.split()))
  return bare or folded


def _polar(answer: str, gold: str) -> bool:
  """Compares with what a yes or no, else a true or false, says in the answer."""
  answer = _EITHER.sub(" ", answer)
  for word, sense in ((gold, gold), (_TWIN[gold], _TWIN[gold])):
    pattern = rf"(?<!{WORD})((?:not|isn't|never) )?({word}|{_POLAR[word]})(?!{WORD})"
    found = list(re.finditer(pattern, answer))
    if found:
      told = found[0] if found[0].start() == 0 else found[-1]
      return (told[2] == sense) != bool(told[1])
  return False


def _holds(answer: str, gold: str) -> bool:
  """Is the gold in the answer, in whole words, and not denied there?"""
  if not gold:
    return False
  pattern = re.compile(_left_edge(gold) + re.escape(gold) + _right_edge(gold))
  for text in (answer, _unaccented(answer) if gold.isascii() is False else ""):
    for m in pattern.finditer(text):
      if not cues.negated(text, m.start(), m.end()):
        return True
  bare = _unaccented(gold)
  return bare != gold and bare.isascii() and _holds(answer, bare)


# A katakana word goes on with katakana, a Korean one begins after a space, a single
# Chinese character is a word only beside signs that join words.
_KATAKANA = "[\u30a1-\u30fa\u30fc]"
_HANGUL = "[\uac00-\ud7a3]"
_HAN = "[\u4e00-\u9fff]"


def _left_edge(gold: str) -> str:
  if re.match(_KATAKANA, gold):
    return f"(?<!{_KATAKANA})"
  if re.match(_HANGUL, gold):
    return f"(?<!{_HANGUL})"
  if re.fullmatch(_HAN, gold):
    return f"(?:(?<!{_HAN})|(?<=[是为為叫即有个個只条條头頭选選]))"
  if re.match(f"[{UNSPACED}]", gold):
    return ""
  return rf"(?<!{WORD})(?<!-)"


def _right_edge(gold: str) -> str:
  last = gold[-1]
  if re.match(_KATAKANA, last):
    return f"(?!{_KATAKANA})"
  if re.fullmatch(_HAN, gold):
    return f"(?!(?![的和吗嗎了呢吧也都是])(?:{_HAN}|{_KATAKANA}))"
  if re.match(f"[{UNSPACED}]", last):
    return ""
  return rf"(?!{WORD}|-{WORD})"


def _unaccented(text: str) -> str:
  """Latin letters without their accents: Sao Paulo for São Paulo."""
  apart = unicodedata.normalize("NFD", text)
  kept = "".join(c for c in apart if not "\u0300" <= c <= "\u036f")
  return unicodedata.normalize("NFC", kept)


def _tokens(text: str) -> list[str]:
  bare = "".join(_token_sign(c) for c in text.lower())
  return re.sub(r"\b(?:a|an|the)\b", " ", bare).split()


def _token_sign(sign: str) -> str:
  """A sign as it goes into tokens; one of a script without spaces stands alone."""
  if sign.isascii():
    return "" if sign in string.punctuation else sign
  if _UNSPACED.match(sign):
    return f" {sign} "
  category = unicodedata.category(sign)
  if category == "Pd":
    return " "
  return "" if category.startswith("P") else sign


_UNSPACED = re.compile(f"[{UNSPACED}]")


def _overlap(gold: str, reply: str) -> float:
  left, right = _tokens(gold), _tokens(reply)
  if not left or not right:
    return float(left == right)
  common = sum((collections.Counter(left) & collections.Counter(right)).values())
  return 2 * common / (len(left) + len(right))
