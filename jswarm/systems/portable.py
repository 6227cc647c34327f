"""No path of this machine in what travels: absolute paths -> names, kept beside them.

A base that lies in a folder is named by the folder's last part in all files of a saved
system; where it lies here stands in here.json alone, which is under no checksum and is
left out of what is given away.
"""

from collections.abc import Mapping
import json
import pathlib
import re
from typing import Any

from jswarm.core.files import read_json, write_json

HERE = "here.json"


def is_absolute(text: str) -> bool:
  """Is it a path that starts at a root, of this system or of Windows?"""
  return bool(re.match(r"/|\\\\|[A-Za-z]:[\\/]", text))


def named(value: Any) -> Any:
  """A JSON-able value whose absolute paths are their last parts."""
  if isinstance(value, str):
    return pathlib.PureWindowsPath(value).name if _is_path(value) else value
  if isinstance(value, Mapping):
    return {key: named(part) for key, part in value.items()}
  if isinstance(value, (list, tuple)):
    return [named(part) for part in value]
  return value


def name_bases(
  folder: pathlib.Path, stored: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
  """The descriptions of saved experts, bases by name; rewrites their files alike.

  Writes here.json where a base has an absolute path. Bases of one name get a number.
  """
  places = [e["base"] for e in stored.values() if is_absolute(e.get("base", ""))]
  names: dict[str, str] = {}
  for place in dict.fromkeys(places):
    first = pathlib.PureWindowsPath(place).name
    count = sum(name.split("~")[0] == first for name in names.values())
    names[place] = f"{first}~{count + 1}" if count else first
  if names:
    write_json(folder / HERE, {name: place for place, name in names.items()})
  entries = {}
  for expert, entry in stored.items():
    entries[expert] = dict(entry)
    if entry.get("base") in names:
      entries[expert]["base"] = names[entry["base"]]
      _rename(folder / entry["path"] / "adapter_config.json", names[entry["base"]])
  return entries


def places(folder: pathlib.Path) -> dict[str, str]:
  """Name of a base -> where it lies on this machine, as far as that is still so."""
  if not (folder / HERE).is_file():
    return {}
  known = read_json(folder / HERE)
  return {n: p for n, p in known.items() if pathlib.Path(str(p)).exists()}


def _rename(path, base):
  if path.is_file():
    fields = json.loads(path.read_text("utf-8"))
    write_json(path, {**fields, "base_model_name_or_path": base})


def _is_path(text):
  """An absolute path of some parts, and no word that begins with a slash."""
  parts = pathlib.PureWindowsPath(text).parts
  return is_absolute(text) and len(parts) > 2 and "\n" not in text
