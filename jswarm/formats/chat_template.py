"""Chat templates: a message of the user -> the text that a chat model was trained on.

A template is a program in Jinja that comes with a model. It is rendered by the rules of
transformers' `apply_chat_template`, except for what would make a prompt depend on when
and where it is asked: the clock is pinned to a date of the configuration and speaks
English whatever the locale, and templates that draw random words are refused.
"""

import calendar
from collections.abc import Mapping
import datetime
import functools
import json
import re
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

# What Llama 3.2's template writes where it finds no clock; the default of `pool.today`.
TODAY = "2024-07-26"
_RANDOM = ("random", "lipsum")  # a filter and a function of Jinja
# What templates call the switch of a model that thinks before it answers: Qwen,
# SmolLM3 and most others; DeepSeek, Granite.
_SWITCHES = ("enable_thinking", "thinking")
_FORMAT = re.compile(r"%([-_0^#]*)[EO]?(.)", re.DOTALL)
_SHORTHANDS = {  # what these mean in English, whatever the locale
  "c": "%a %b %e %H:%M:%S %Y",
  "x": "%m/%d/%y",
  "X": "%H:%M:%S",
  "r": "%I:%M:%S %p",
}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August",
           "September", "October", "November", "December")  # fmt: skip


def chosen(template: str | Mapping[str, str] | None, where: str) -> str | None:
  """The template of a conversation: the only one, or of several the default.

  Raises:
    ValueError: several, and none of them is called "default".
  """
  if not isinstance(template, Mapping):
    return template or None
  if "default" not in template:
    raise ValueError(
      f"{where} has chat templates named {sorted(template)}; one named 'default' is "
      "needed. Rename the one to use in tokenizer_config.json."
    )
  return template["default"]


def reads_clock(template: str) -> bool:
  return "strftime_now" in template


def switches(template: str, where: str) -> list[str]:
  """The variables of a template that turn thinking on and off; many have none.

  Raises:
    ValueError: the template is no Jinja.
  """
  _compile(template, where)  # says so in a sentence
  read = jinja2.meta.find_undeclared_variables(_environment().parse(template))
  return [name for name in _SWITCHES if name in read]


def render(
  template: str,
  prompt: str,
  special_tokens: Mapping[str, str],
  today: str,
  where: str,
  thinking: bool | None = None,
) -> str:
  """`prompt` as the message of a user, ending where the reply starts.

  Args:
    template: the Jinja source.
    special_tokens: {"bos_token": ...}, which templates read.
    today: the date that the template sees, YYYY-MM-DD at 00:00.
    where: the model's folder or file, for messages.
    thinking: what templates that can think are told; None: nothing, so that each does
      what it does by itself.

  Raises:
    ValueError: the template is no Jinja, draws random words, or fails.
  """
  compiled = _compile(template, where)
  messages = [{"role": "user", "content": prompt}]
  told = {} if thinking is None else dict.fromkeys(_SWITCHES, thinking)
  try:
    return compiled.render(
      messages=messages,
      tools=None,
      documents=None,
      add_generation_prompt=True,
      strftime_now=functools.partial(pinned, date(today)),
      **told,
      **special_tokens,
    )
  except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError,
          RecursionError, TypeError, ValueError) as error:  # fmt: skip
    raise ValueError(
      f"{where}: its chat template fails for a conversation of one message of the user "
      f"({type(error).__name__}: {error}). Mend the template, or take it out of the "
      "folder and ask in plain text (task.chat=False)."
    ) from error


def date(today: str) -> datetime.datetime:
  """Midnight of a date YYYY-MM-DD; ValueError for anything else."""
  try:
    return datetime.datetime.combine(
      datetime.date.fromisoformat(today), datetime.time()
    )
  except (TypeError, ValueError) as error:
    raise ValueError(
      f"pool.today is {today!r}; allowed: a date as 2024-07-26, which chat templates "
      "that write today's date will write."
    ) from error


def pinned(now: datetime.datetime, form: str) -> str:
  """`now.strftime(form)` in English, in no time zone."""
  return now.strftime(_FORMAT.sub(functools.partial(_english, now), form))


def _english(now, match):
  flags, letter = match.groups()
  if letter in _SHORTHANDS:
    return _FORMAT.sub(functools.partial(_english, now), _SHORTHANDS[letter])
  half = "AM" if now.hour < 12 else "PM"
  words = {
    "A": _DAYS[now.weekday()],
    "a": _DAYS[now.weekday()][:3],
    "B": _MONTHS[now.month - 1],
    "b": _MONTHS[now.month - 1][:3],
    "h": _MONTHS[now.month - 1][:3],
    "p": half,
    "P": half.lower(),
    "s": str(calendar.timegm(now.timetuple())),
  }
  if letter not in words:
    return f"%{flags}{letter}"
  return words[letter].upper() if "^" in flags else words[letter]


class _Generation(jinja2.ext.Extension):
  """{% generation %}, which marks replies for training and prints what it holds."""

  tags = {"generation"}

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message):
  raise jinja2.TemplateError(message)


def _to_json(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
  return json.dumps(
    x,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


@functools.cache
def _environment():
  """As transformers sets it up (trimmed blocks, no escapes in JSON), in a sandbox."""
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, jinja2.ext.loopcontrols],
  )
  environment.filters["tojson"] = _to_json
  names: dict[str, Any] = environment.globals
  names["raise_exception"] = _refuse
  return environment


@functools.lru_cache(maxsize=64)
def _compile(template, where):
  try:
    tree = _environment().parse(template)
    compiled = _environment().from_string(template)
  except (jinja2.TemplateError, RecursionError) as error:
    raise ValueError(
      f"{where}: its chat template is no Jinja ({error}). Download it again, or take "
      "it from the model's page."
    ) from error
  names = {
    node.name for node in tree.find_all((jinja2.nodes.Filter, jinja2.nodes.Name))
  }
  drawn = sorted(names & set(_RANDOM))
  if drawn:
    raise ValueError(
      f"{where}: its chat template draws {drawn}, so that no run could be repeated. "
      "Take these out of the template."
    )
  return compiled
