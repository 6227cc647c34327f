"""One spelling for what replies write in many: Unicode forms, LaTeX, thoughts.

Readers see a reply through `said`, and a gold answer through `plain_form`. Facts of
scripts and tags stand here; what counts as an answer stands in the readers.
"""

import re
import unicodedata

# Scripts that put no space between words (and Hangul, whose endings cling to a word):
# a digit, a Latin letter or a name may stand directly against them.
_THAI_TO_KHMER = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
_KANA = "\u3041-\u3096\u309d-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_HAN = "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNSPACED = f"{_THAI_TO_KHMER}{_HANGUL}{_KANA}{_HAN}\U00020000-\U0003ffff"
WORD = rf"[^\W{UNSPACED}]"  # a letter or digit that belongs to a spaced word

# U+FF01..FF5E are the ASCII signs in full width.
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_SPACES = dict.fromkeys(map(ord, "\u3000\u2000\u2001\u2002\u2003\u2004\u2005"), " ")
_UNSEEN = dict.fromkeys(
  [0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F),
   *range(0x2066, 0x206A), 0xFE0E, 0xFE0F]
)  # fmt: skip
_ALIKE = {
  **_WIDE, **_SPACES, **_UNSEEN,
  ord("﹣"): "-", ord("﹪"): "%", ord("٪"): "%", ord("，"): ",", ord("⁄"): "/",
  ord("‘"): "'", ord("’"): "'", ord("“"): '"', ord("”"): '"', ord("「"): '"',
  ord("」"): '"', ord("『"): '"', ord("』"): '"', ord("【"): "(", ord("】"): ")",
  ord("∶"): ":", ord("、"): ",", ord("∗"): "*",
}  # fmt: skip
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERS = re.compile(r"(?<=[0-9)])[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")

# Tags round what a model thinks before it answers, by family: Qwen, DeepSeek and
# most others; Claude-like data; EXAONE; Magistral; Kimi; Seed; Cohere; OpenThoughts.
_NAMES = "think|thinking|thought|thoughts|reason|reasoning|reflection|scratchpad"
_NAMES += "|analysis|seed:think"
_THOUGHT = re.compile(
  rf"(?P<open><(?:{_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>"
  r"|<\|START_THINKING\|>|<\|channel\|>(?:analysis|commentary)\b|<\|channel>thought\b)"
  rf"|(?P<close></(?:{_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
  r"|<\|END_THINKING\|>|<\|channel\|>final(?:<\|message\|>)?|<channel\|>)",
  re.I,
)
_MARKS = re.compile(
  r"<\|(?:begin|end)_of_(?:solution|box)\|>|<\|(?:START|END)_RESPONSE\|>"
)

_FONT = re.compile(
  r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|bb|cal|normal)|mbox"
  r"|operatorname|boldsymbol|bm|emph|underline)\s{0,2}\{([^{}]*)\}"
)
_GROUPED = re.compile(
  r"(?<=[0-9])(?:\{,\}|\\[,;:! ]|\\thinspace\s?|~|[\u00a0\u2009\u202f\u2007'])"
  r"(?=[0-9]{3}(?![0-9]))"
)
_PIECE = r"\s{0,2}(?:\{([^{}]*)\}|([0-9a-z]))"
_FRACTION = re.compile(r"\\[dtc]?frac" + _PIECE + _PIECE)
_ROOT = re.compile(r"\\sqrt\s{0,2}(\[[^\[\]{}]{0,5}\])?(?:\{([^{}]*)\}|([0-9a-z]))")
_POWER = re.compile(r"\^\s?\{\s?([-+]?[0-9]{1,4})\s?\}")
_COMMANDS = {
  "times": "×", "cdot": "·", "div": "÷", "pi": "π", "pm": "±", "approx": "≈",
  "degree": "°", "circ": "°", "infty": "∞", "left": "", "right": "", "quad": " ",
  "qquad": " ", "displaystyle": "", "textstyle": "", "neq": "≠", "ne": "≠",
  "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "sim": "~", "euro": "€", "pounds": "£",
  "textdollar": "$", "textdegree": "°", "thinspace": " ", "rightarrow": "→", "to": "→",
}  # fmt: skip
_COMMAND = re.compile(rf"\\({'|'.join(_COMMANDS)})(?![a-zA-Z])\s?")
_DEGREE = re.compile(r"\^\s?(?:\{\s?°\s?\}|°)")
_ESCAPED = re.compile(r"\\([$%#&_{}])")
_SPACE_COMMAND = re.compile(r"\\[,;:! ()\[\]]|\\\\")


def said(reply: str) -> str:
  """The reply in plain form, without what the model only thought."""
  return plain_form(without_thoughts(reply))


def without_thoughts(reply: str) -> str:
  """What stands outside thinking tags.

  A closing tag alone ends a thought that the prompt's template opened; an opening tag
  alone begins one that the limit cut, so what follows it is no answer.
  """
  kept, begun, depth = [], 0, 0
  for tag in _THOUGHT.finditer(reply):
    if tag["open"]:
      if not depth:
        kept.append(reply[begun : tag.start()])
      depth += 1
    else:
      if not depth:
        kept = []  # everything so far was thought
      depth = max(0, depth - 1)
    begun = tag.end()
  if not depth:
    kept.append(reply[begun:])
  return _MARKS.sub(" ", "".join(kept))


def plain_form(text: str) -> str:
  """NFC, ASCII digits, letters and signs for wide ones, LaTeX spelt out.

  Not NFKC: that would make 102 of 10².
  """
  text = unicodedata.normalize("NFC", text).translate(_ALIKE)
  if not text.isascii():
    text = _FOREIGN_DIGIT.sub(lambda m: str(unicodedata.digit(m[0])), text)
    text = _SUPERS.sub(lambda m: "^" + m[0].translate(_SUPER), text)
    text = _VULGAR.sub(_spelt, text)
  if "\\" in text or "{," in text or not text.isascii() or "'" in text or "~" in text:
    text = _GROUPED.sub(",", text)
  return _without_latex(text) if "\\" in text or "^{" in text else text


def _spelt(match: re.Match) -> str:
  """½ -> " 1/2": a space, so that 2½ becomes the mixed number 2 1/2."""
  return " " + unicodedata.normalize("NFKC", match[0]).replace("⁄", "/")


def _without_latex(text: str) -> str:
  """Numbers, words and signs of LaTeX as plain text; \\boxed stays, it is a cue."""
  # Order matters: fonts and roots first, so that fractions see no inner braces.
  text = _COMMAND.sub(lambda m: _COMMANDS[m[1]], text)
  text = _DEGREE.sub("°", text)
  for _ in range(3):  # \\textbf{\\text{B}}
    text = _FONT.sub(r"\1", text)
  text = _POWER.sub(r"^\1", text)
  text = _ROOT.sub(lambda m: f"√({m[2] or m[3]})", text)
  text = _FRACTION.sub(_slashed, text)
  text = _ESCAPED.sub(r"\1", text)
  return _SPACE_COMMAND.sub(" ", text)


def _slashed(match: re.Match) -> str:
  above, below = ((match[i] or match[i + 1] or "").strip() for i in (1, 3))
  before = match.string[: match.start()][-1:]
  gap = " " if before.isdigit() else ""  # 2\frac{1}{2} is the mixed number 2 1/2
  return f"{gap}{_bracketed(above)}/{_bracketed(below)}"


def _bracketed(part: str) -> str:
  simple = re.fullmatch(r"[-−]?[\w.,]{1,40}|√\([^()]{0,40}\)", part)
  return part if simple else f"({part})"
