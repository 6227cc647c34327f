"""What an adapter's folder says of text, beside what its base says.

Trainers save tokenizer and chat template into the folder of an adapter. Experts of a
group share the tokenizer of their base, so that another one there is a finding: the
adapter was trained on other prompts than it will get.
"""

import hashlib
import json
import os

from jswarm.core import files
from jswarm.formats import chat_template
from jswarm.formats import tokenizer as tokenizer_lib


def differences(folder, base_tokenizer, base_stops, base_folder) -> list[str]:
  """What an adapter's folder has of its own: "a chat template", "a tokenizer" ...

  Args:
    folder: of the adapter; most have no such files.
    base_tokenizer, base_stops, base_folder: what will be used.

  Raises:
    ValueError: a file of the adapter that is damaged.
  """
  found = []
  template = _template(folder)
  if template is not None and not _same_turn(template, folder, base_tokenizer):
    found.append("a chat template")
  if _tokenizes_otherwise(folder, base_tokenizer, base_folder):
    found.append("a tokenizer")
  ends = tokenizer_lib.configured_stops(folder) - set(base_stops)
  if ends:
    found.append(f"an end of a reply (tokens {sorted(ends)})")
  return found


def _template(folder):
  """The chat template in a folder, by transformers' rules; None if there is none."""
  config = os.path.join(folder, "tokenizer_config.json")
  fields = files.read_json(config) if os.path.isfile(config) else {}
  path = os.path.join(folder, "chat_template.jinja")
  if os.path.isfile(path):
    try:
      with open(path, encoding="utf-8") as source:
        return source.read()
    except UnicodeDecodeError as error:
      raise ValueError(
        f"{path} is no text in UTF-8 ({error}). {files.AGAIN}"
      ) from error
  template = fields.get("chat_template")
  named = isinstance(template, list) and all(isinstance(t, dict) for t in template)
  if named:  # [{"name": ..., "template": ...}]
    template = {str(t.get("name")): t.get("template") for t in template}
  template = chat_template.chosen(template, config)
  if not isinstance(template, (str, type(None))):
    raise ValueError(
      f"{config}: chat_template is {template!r}; allowed: a text, or a list of objects "
      "with `name` and `template`. Take the file from the model's page."
    )
  return template


def _same_turn(template, folder, base_tokenizer) -> bool:
  """Do both write the same? Templates differ in spelling from release to release."""
  base = getattr(base_tokenizer, "chat_template", None)
  if not base:
    return False
  base = chat_template.chosen(base, base_tokenizer.name_or_path)
  if base == template:
    return True
  special = base_tokenizer.special_tokens_map
  write = lambda text, where: chat_template.render(
    text, "Hello\n 1 ", special, base_tokenizer.today, where, base_tokenizer.thinking
  )
  return write(base, base_tokenizer.name_or_path) == write(template, folder)


def _tokenizes_otherwise(folder, base_tokenizer, base_folder) -> bool:
  path = os.path.join(folder, "tokenizer.json")
  if not os.path.isfile(path):
    return False
  if _sum(path) == _sum(os.path.join(base_folder, "tokenizer.json")):
    return False
  own = tokenizer_lib.load_tokenizer(folder)
  if isinstance(base_tokenizer, tokenizer_lib.ByteTokenizer):
    return True
  return _parts(own) != _parts(base_tokenizer)


def _sum(path):
  if not os.path.isfile(path):
    return None
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(tokenizer):
  """All that makes tokens of text; how batches are cut and padded is the trainer's."""
  parts = json.loads(tokenizer.backend_tokenizer.to_str())
  return parts | {"truncation": None, "padding": None}
