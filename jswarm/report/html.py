"""Templates to one self-contained page: no file and no address beside it is needed.

Everything that a template is given is escaped; data for the script go through
`embedded`, out of which no text can break. The page's policy runs one script alone,
known by its digest.
"""

import base64
from collections.abc import Mapping
import functools
import hashlib
import importlib.resources
import json
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = importlib.resources.files("jswarm.report") / "templates"
# A text that is JSON in a <script> must not hold what ends or opens one there.
_CODES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(values: Mapping[str, Any], data: Any, live: bool = False) -> str:
  """The page of a run.

  Args:
    values: of the template, see `pages`; SVGs in them are `Markup`.
    data: JSON-able, for the script. live: it asks its server for newer pages.
  """
  script = _text("report.js")
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  return _template().render(
    values,
    style=Markup(_text("report.css")),
    script=Markup(script),
    digest=digest,
    data=embedded(data),
    live=live,
  )


def embedded(value: Any) -> Markup:
  """A value as JSON that may stand in a <script> element."""
  text = json.dumps(
    value, separators=(",", ":")
  )  # ASCII: no separator of lines is left
  for sign, code in _CODES.items():
    text = text.replace(sign, code)
  return Markup(text)


def number(value: Any, digits: int = 3) -> str:
  """For people: digits of fractions, thousands apart, a dash for what is missing."""
  if not isinstance(value, (int, float)) or value != value:
    return "–"
  if isinstance(value, int):
    return f"{value:,}".replace(",", "\u202f")
  return f"{value:.{digits}f}"


def seconds(value: Any) -> str:
  """For people: 4.2 s, 3 min 05 s, 2 h 10 min; a dash for what is missing."""
  if not isinstance(value, (int, float)):
    return "–"
  if value < 60:
    return f"{value:.1f} s"
  minutes, rest = divmod(round(value), 60)
  if minutes < 60:
    return f"{minutes} min {rest:02d} s"
  return f"{minutes // 60} h {minutes % 60:02d} min"


@functools.cache
def _template():
  environment = jinja2.Environment(
    loader=jinja2.FunctionLoader(_text),
    autoescape=True,
    undefined=jinja2.ChainableUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {"number": number, "seconds": seconds}
  return environment.get_template("report.html")


@functools.cache
def _text(name):
  return (_FOLDER / name).read_text("utf-8")
