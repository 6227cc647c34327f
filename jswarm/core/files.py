"""JSON on disk: read with a clear error, written whole or not at all."""

from collections.abc import Mapping, Sequence
import json
import math
import os
import pathlib
from typing import Any

AGAIN = "Download or export it again."


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Replaces a JSON file as a whole: readers never see half of it."""
  text = json.dumps(clean(value), indent=2, sort_keys=False) + "\n"
  _replace(path, text)


def write_jsonl(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
  """Replaces a JSONL file as a whole."""
  _replace(path, "".join(json.dumps(clean(row)) + "\n" for row in rows))


def clean(value: Any) -> Any:
  """JSON has no NaN: what is missing is null."""
  if isinstance(value, float) and not math.isfinite(value):
    return None
  if isinstance(value, Mapping):
    return {str(k): clean(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [clean(v) for v in value]
  return value.item() if hasattr(value, "item") else value


def is_below(path: str) -> bool:
  """Is a path that a file names one that stays in the folder that it starts from?"""
  windows = pathlib.PureWindowsPath(path)  # knows both slashes, and drives
  anchored = windows.anchor or path.startswith("/")
  return bool(windows.name) and not anchored and ".." not in windows.parts


def _replace(path, text):
  partial = f"{path}.part"
  with open(partial, "w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, path)


def read_json(path) -> dict:
  """The object in a JSON file; ValueError naming the file where there is none."""
  path = pathlib.Path(path)
  if not path.is_file():
    inside = sorted(p.name for p in path.parent.glob("*"))[:20]
    found = f"which holds {inside}" if path.parent.is_dir() else "which does not exist"
    raise ValueError(
      f"{path.name} is missing in the folder {path.parent}, {found}. Give the folder "
      "of a Hugging Face model or PEFT adapter."
    )
  try:
    value = json.loads(path.read_text("utf-8"))
  except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
    raise ValueError(f"{path} is no JSON ({error}). {AGAIN}") from error
  if not isinstance(value, dict):
    raise ValueError(f"{path} holds a JSON {type(value).__name__}, not an object.")
  return value
