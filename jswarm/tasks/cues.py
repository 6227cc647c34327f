"""Words that state, suppose or deny an answer, in the languages that models reply in.

Shared by the readers of options and of free text. Every pattern is bounded, so that
reading takes time linear in the reply.
"""

import re

from jswarm.tasks.normalize import WORD

_LEFT = rf"(?<!{WORD})"
BE = (
  r"(?:is|are|was|would\s{1,3}be|should\s{1,3}be|must\s{1,3}be|has\s{1,3}to\s{1,3}be)"
)
_ROMANCE = r"(?:correcta?\s|correta\s|correcte\s|corretta\s|final\s|finale\s)?"
# "The answer (to ...) is", "Answer:", "#### ", "\boxed{", "<answer>", and the same in
# Chinese, Japanese, Korean, Thai, Spanish, French, Portuguese, Italian, German and
# Russian.
ANSWER = (
  rf"\banswer(?:\s{{1,3}}to\b[^.\n]{{0,60}}?)?\s{{1,3}}{BE}\b:?",
  r"\banswer[*_\"]{0,3}\s{0,3}[:=]",
  r"(?:^|\n)\s{0,3}#{1,6}\s{0,2}\*{0,2}(?:the\s|final\s|correct\s){0,2}answer\*{0,2}"
  r"\s{0,3}(?=\n)",
  r"####",
  r"\\(?:boxed|fbox)\s{0,2}(?=\{)",
  r"<(?:final_?)?(?:answer|solution|output|response)>",
  r"(?:答案|答)(?:应该|應該|应|應|就|选|選){0,2}(?:是|为|為|:)(?:选项|選項)?:?",
  r"(?:答え|正解|正答|解答|回答)(?:は|:)",
  r"(?:정답|답|해답)(?:은|는|:)",
  r"คำตอบ(?:ที่ถูกต้อง)?(?:คือ|เป็น|:)",
  rf"\b(?:respuesta|r[ée]ponse|resposta|risposta)\s{{1,2}}{_ROMANCE}(?:es|est|é|è|:)",
  r"\b(?:respuesta|r[ée]ponse|resposta|risposta|antwort|ответ):",
  r"\bantwort\s{1,2}(?:ist|lautet):?",
  r"\bответ\s{0,2}[—–-]",
)
# What the speaker only supposes, or lays to others: "you might choose A", "if it had
# been Norway, the answer would be C", "at first I thought the answer is A".
_SUPPOSED = re.compile(
  r"\b(?:if|unless|had|tempted|tempting|might|may|could|those|students?|people|many"
  r"|some|others?|anyone|whoever|everyone|someone|they|thought|initially|at first"
  r"|distractors?|mistakenly|wrongly|who|don['’]t|do not|does not|doesn['’]t|suppose"
  r"|cannot|can['’]t|never|why)\b|如果|要是|假如|有人|もし|만약",
  re.I,
)
_OWN = re.compile(
  r"\b(?:so|therefore|thus|hence|but|however|then)\b[^.\n]{0,30}$", re.I
)
_SENTENCE_END = re.compile(r"[.!?。！？](?=\s|$|[^\x00-\x7f])|\n")
# Before an answer: it is denied.
DENIED = re.compile(
  r"(?:\b(?:not|never|neither|nor|cannot be|can['’]t be|than|instead of|except|unlike"
  r"|excluding|eliminate|exclude|rule out|reject|without)|n['’]t)"
  r"(?:\s{1,2}(?:be|the|a|an|option|choice|answer|just|only|simply)){0,2}"
  r"[\s\"'(*]{1,4}$|(?:不是|并非|並非|不选|不選|不为|不為|而非|排除|不会是|不會是)"
  r"[\s\"(]{0,2}(?:选项|選項)?$",
  re.I,
)
# The same for free text, where "than" and "without" may belong to the answer.
_NOT = re.compile(
  r"(?:\b(?:not|neither|nor|rather than|instead of)|n['’]t)"
  r"(?:\s{1,2}(?:be|the|a|an|just|only|simply)){0,2}[\s\"'(*$]{1,4}$"
  r"|(?:不是|并非|並非|不为|不為|而非|不会是|不會是)[\s\"(]{0,2}$",
  re.I,
)
# After an answer: it is denied.
REJECTED = re.compile(
  r"[\"'*`)\]]{0,3}\s{0,3}(?:选项|選項|选|项)?(?:ではな|ではあり|じゃな|でな|(?:이|가|은|는)\s?아[니닙]"
  r"|是?不(?:对|對|正确|正確|是)|是?[错錯]|は間違|は誤|が間違|ไม่ใช่|ไม่ถูก)"
  r"|[\"'*`)\]]{0,3}\s{1,3}(?:isn['’]t|doesn['’]t|(?:is|was|are|cannot\s{1,2}be"
  r"|can['’]t\s{1,2}be|seems|would\s{1,2}be)\s{1,3}(?:also\s|clearly\s|definitely\s"
  r"|just\s|simply\s)?(?:not|never|wrong|incorrect|false|out|impossible)\b)",
  re.I,
)


def either(patterns) -> str:
  """One group of alternatives."""
  return f"(?:{'|'.join(patterns)})"


def supposed(text: str, at: int) -> bool:
  """Is what stands at `at` only supposed in its sentence, not stated?"""
  before = text[max(0, at - 120) : at]
  sentence = _SENTENCE_END.split(before)[-1]
  hits = list(_SUPPOSED.finditer(sentence))
  if not hits:
    return False
  hit = hits[-1]
  said_after = sentence[hit.end() :]
  if hit[0].lower() in ("if", "unless", "如果", "もし", "만약", "要是", "假如"):
    # "If we add them, the answer is C" states; "... would be C" supposes.
    return bool(re.match(r"[^.\n]{0,40}?(?:would|将|會|会)", text[at : at + 60]))
  return not _OWN.search(said_after)


def denied(text: str, start: int, end: int) -> bool:
  """Is the answer at text[start:end] denied, as in "not B" or "B is wrong"?"""
  before = text[max(0, start - 40) : start]
  return bool(DENIED.search(before) or REJECTED.match(text, end))


def negated(text: str, start: int, end: int) -> bool:
  """`denied` for free text: narrower before, the same after."""
  before = text[max(0, start - 30) : start]
  return bool(_NOT.search(before) or REJECTED.match(text, end))
