"""Files and Python objects -> records with the place where each was found.

Three forms: one JSON {"dev": [...], "test": [...]}, a JSON list, or JSONL with one
record a line; the same as Python objects. Nothing is judged here but the form.
"""

from collections.abc import Iterable, Mapping
import json
import os
import re
from typing import Any, NamedTuple

SPLITS = {"dev": "dev", "validation": "dev", "test": "test"}
_MAGIC = {
  b"\xff\xfe\x00\x00": "UTF-32 text",
  b"\x00\x00\xfe\xff": "UTF-32 text",
  b"\xff\xfe": "UTF-16 text",
  b"\xfe\xff": "UTF-16 text",
  b"\x1f\x8b": "compressed by gzip",
  b"PK\x03\x04": "a zip archive",
  b"PAR1": "a Parquet file",
  b"\x28\xb5\x2f\xfd": "compressed by zstd",
  b"BZh": "compressed by bzip2",
  b"\xfd7zXZ\x00": "compressed by xz",
}
_SURROGATE = re.compile("[\ud800-\udfff]")
_SKIP = re.compile(r"[ \t\r\n]*")


class Found(NamedTuple):
  """A record, not yet checked, and its place."""

  record: Any
  where: str


class Repeated(dict):
  """An object of JSON in which `keys` stand twice with different values."""

  keys_twice: tuple[str, ...] = ()


class Tables(NamedTuple):
  """What a source holds.

  Attributes:
    rows: split -> records; the key "" where the source says no splits.
    in_context: the solved examples that a published file may carry.
  """

  rows: dict[str, list[Found]]
  in_context: str = ""


def read_file(
  path: str | os.PathLike, problems: list[str], lines: list[str] | None = None
) -> Tables:
  """Reads JSON, or JSONL if the name ends in .jsonl or .ndjson.

  Whatever is wrong is appended to `problems`, with its line; `lines`: where that goes
  which is wrong with a single record of JSONL, if not there.
  """
  name = os.fspath(path)
  try:
    with open(name, "rb") as file:
      raw = file.read()
  except OSError as error:
    problems.append(
      f"{name}: cannot be read ({error.strerror}); allowed is a JSON or"
      " JSONL file; correct the path."
    )
    return Tables({})
  if other := _other_format(raw):
    problems.append(
      f"{name}:1: is {other}; allowed is UTF-8 text; save the file as UTF-8 JSON or"
      " JSONL."
    )
    return Tables({})
  if name.endswith((".jsonl", ".ndjson")):
    return Tables({"": _lines(raw, name, problems if lines is None else lines)})
  return _json(raw, name, problems)


def from_objects(records: Any, problems: list[str]) -> Tables:
  """{"dev": records, "test": records} or an iterable of records."""
  if isinstance(records, Mapping):
    return _tables(records, "records", {}, problems)
  if isinstance(records, (str, bytes)) or not isinstance(records, Iterable):
    problems.append(
      f"records: is a {type(records).__name__}; allowed is a list of"
      ' records, or {"dev": list, "test": list}; a file goes into'
      " path."
    )
    return Tables({})
  return Tables({"": _named(records, "records", "", ())})


def lone_surrogate(text: str) -> str:
  """Where a text holds half of a surrogate pair, which no tokenizer reads, or ""."""
  half = _SURROGATE.search(text)
  return (
    half
    and (
      f"holds half a surrogate pair (\\u{ord(half[0]):04x} at character"
      f" {half.start() + 1}); allowed is whole characters"
    )
    or ""
  )


def _lines(raw: bytes, name: str, problems: list[str]) -> list[Found]:
  rows = []
  for line, piece in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
    text = _decoded(piece, name, line, problems)
    if text is None or not text.strip():
      continue
    try:
      rows.append(Found(_loads(text), f"{name}:{line}"))
    except (ValueError, RecursionError) as error:
      problems.append(
        f"{name}:{line}: is not JSON ({_reason(error)}); allowed is one"
        " record a line; correct the line."
      )
  return rows


def _json(raw: bytes, name: str, problems: list[str]) -> Tables:
  text = _decoded(raw.removeprefix(b"\xef\xbb\xbf"), name, 1, problems)
  if text is None:
    return Tables({})
  try:
    value = _loads(text)
  except (ValueError, RecursionError) as error:
    line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
    problems.append(
      f"{name}{line}: is not JSON ({_reason(error)}); allowed is one JSON"
      " value; correct it, or name the file .jsonl if it has one record"
      " a line."
    )
    return Tables({})
  offsets = _offsets(text)
  if isinstance(value, list):
    return Tables({"": _named(value, name, "", _line_numbers(text, offsets[""]))})
  lines = {key: _line_numbers(text, at) for key, at in offsets.items()}
  return _tables(value, name, lines, problems)


def _tables(
  value: Any, name: str, lines: Mapping[str, list[int]], problems: list[str]
) -> Tables:
  """Tables of an object with splits."""
  if not isinstance(value, Mapping) or not any(split in value for split in SPLITS):
    found = f"a {type(value).__name__}"
    if isinstance(value, Mapping):
      keys = ", ".join(map(repr, list(value)[:8]))
      found = f"an object with the keys {keys or 'none'}"
    problems.append(
      f"{name}: holds {found}; allowed is a list of records, or an"
      ' object with the lists "dev" and "test"; change the file.'
    )
    return Tables({})
  rows = {}
  for key in (key for key in SPLITS if key in value):
    records = value[key]
    if isinstance(records, (str, bytes, Mapping)) or not isinstance(records, Iterable):
      problems.append(
        f"{name} {key}: is a {type(records).__name__}; allowed is a list"
        " of records; change the file."
      )
    else:
      rows.setdefault(SPLITS[key], _named(records, name, key, lines.get(key, ())))
  in_context = value.get("icl_prompt") or ""
  if not isinstance(in_context, str):
    problems.append(
      f"{name} icl_prompt: is a {type(in_context).__name__}; allowed is"
      " text; correct it."
    )
    in_context = ""
  if half := lone_surrogate(in_context):
    problems.append(f"{name} icl_prompt: {half}; correct it.")
  return Tables(rows, in_context)


def _named(
  records: Iterable, name: str, split: str, lines: Iterable[int]
) -> list[Found]:
  """Records with "name:line" where every record has its own line, else an index."""
  records, lines = list(records), list(lines)
  if lines and len(set(lines)) == len(lines) == len(records):
    return [Found(r, f"{name}:{line}") for r, line in zip(records, lines)]
  gap = " " if split else ""
  return [Found(r, f"{name}{gap}{split}[{k}]") for k, r in enumerate(records)]


def _decoded(raw: bytes, name: str, line: int, problems: list[str]) -> str | None:
  """Text of bytes that start at `line` of the file."""
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError as error:
    line += raw.count(b"\n", 0, error.start)
    problems.append(
      f"{name}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8;"
      " allowed is UTF-8 text; save the file as UTF-8."
    )
    return None


def _other_format(raw: bytes) -> str:
  """What a file is that cannot be UTF-8 text, by its first bytes, else ""."""
  for magic, what in _MAGIC.items():
    if raw.startswith(magic):
      return what
  # Without a byte order mark: every other byte of ASCII text is zero.
  start = raw[:64]
  if len(start) > 7 and (not any(start[1::2]) or not any(start[::2])):
    return "UTF-16 text"
  return ""


def _loads(text: str) -> Any:
  return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """The object, of a class that says so where a key has two different values."""
  made = dict(pairs)
  if len(made) == len(pairs):
    return made
  twice = [key for key, value in pairs if repr(made[key]) != repr(value)]
  if not twice:
    return made
  found = Repeated(made)
  found.keys_twice = tuple(dict.fromkeys(twice))
  return found


def _reason(error: Exception) -> str:
  if isinstance(error, json.JSONDecodeError):
    return f"{error.msg}, column {error.colno}"
  return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _offsets(text: str) -> dict[str, list[int]]:
  """Where each record of each top-level list starts, in a text known to be JSON."""
  at = _SKIP.match(text).end()
  if text[at] == "[":
    return {"": _elements(text, at)[0]}
  offsets = {}
  decode = json.JSONDecoder().raw_decode
  at = _SKIP.match(text, at + 1).end() if text[at] == "{" else len(text)
  while text[at : at + 1] == '"':
    key, at = decode(text, at)
    at = _SKIP.match(text, _SKIP.match(text, at).end() + 1).end()  # past the colon
    if text[at] == "[":
      offsets[key], at = _elements(text, at)
    else:
      at = decode(text, at)[1]
    at = _SKIP.match(text, at).end()
    at = _SKIP.match(text, at + (text[at] == ",")).end()
  return offsets


def _elements(text: str, at: int) -> tuple[list[int], int]:
  """Offsets of the elements of the list at `at`, and the offset behind it."""
  offsets = []
  decode = json.JSONDecoder().raw_decode
  at = _SKIP.match(text, at + 1).end()
  while text[at] != "]":
    offsets.append(at)
    at = _SKIP.match(text, decode(text, at)[1]).end()
    at = _SKIP.match(text, at + (text[at] == ",")).end()
  return offsets, at + 1


def _line_numbers(text: str, offsets: Iterable[int]) -> list[int]:
  lines, line, past = [], 1, 0
  for at in offsets:
    line += text.count("\n", past, at)
    past = at
    lines.append(line)
  return lines
