"""What an expert was made from: written beside it, and compared before it is reused."""

from collections.abc import Mapping
import hashlib
import json
import os
import pathlib
from typing import Any

from absl import logging

from jswarm.training import sft
from jswarm.training.sources import Source

# What no result depends on, or only through the records, whose digest is compared:
# shown beside another difference, none by itself.
_SOURCE = ("path", "dev_path", "records", "arguments", "count", "dev_count", "seed")
_SHOWN = {"base", "settings.eval_every", "settings.save_every"} | {
  f"source.{field}" for field in _SOURCE
}
_BASE_FILES = (
  "config.json",
  "generation_config.json",
  "tokenizer*.json",
  "*.jinja",
  "*.safetensors",
)


def stored(dtype: str) -> dict[str, str]:
  """The dtype as a field of what a result is made from; float32 goes without saying."""
  return {} if dtype == "float32" else {"dtype": dtype}


def made_from(
  source: Source,
  data: Any,
  settings: sft.Settings,
  max_tokens: int,
  more: Mapping[str, Any],
) -> dict[str, Any]:
  """What a result depends on, flat and as JSON gives it back."""
  made = {
    **more,
    "max_tokens": max_tokens,
    **{f"source.{k}": v for k, v in vars(source).items()},
    **{f"settings.{k}": v for k, v in vars(settings).items()},
    "records": records_digest(data),
  }
  if not settings.mixes:  # which goes without saying
    del made["settings.mixes"]
  return json.loads(json.dumps(made, default=str))


def records_digest(data: Any) -> str:
  """Identifies records, wherever they came from."""
  return hashlib.sha256(json.dumps(data, default=str).encode()).hexdigest()[:16]


def recorded(
  out: pathlib.Path, folder: pathlib.Path, made: Mapping[str, Any]
) -> dict[str, Any]:
  """The row of a finished folder, once it is known to be made from the same.

  Raises:
    ValueError: it was made from something else; shows the difference.
  """
  path = folder / "training.json"
  row = json.loads(path.read_text()) if path.exists() else {}
  before = row.pop("made_from", None)
  if before is None:  # an older version made it
    logging.warning(
      "%s is taken as it is: it has no record of the settings and data"
      " that it was made from",
      folder,
    )
    return row
  changed = [
    k for k in sorted(before.keys() | made.keys()) if before.get(k) != made.get(k)
  ]
  if set(changed) - _SHOWN:
    lines = [f"  {k}: {before.get(k)!r} there, {made.get(k)!r} now" for k in changed]
    raise ValueError(
      f"{folder} was made from other settings or data; use another"
      f" --out, or set them back, or delete {folder} and"
      f" {out / 'checkpoints' / folder.name} to make it anew:\n" + "\n".join(lines)
    )
  return row


def base_digest(folder: str | os.PathLike) -> str:
  """Identifies a base by its files, wherever it lies."""
  sha = hashlib.sha256()
  paths = {p for pattern in _BASE_FILES for p in pathlib.Path(folder).glob(pattern)}
  for path in sorted(paths):
    with open(path, "rb") as file:
      sha.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
  return sha.hexdigest()[:16]
