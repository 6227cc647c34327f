"""Text <-> token ids, on the host: the boundary between messages and arrays.

`load_tokenizer` takes "bytes" (no files, for tests), a Hugging Face folder or a GGUF
file. Nothing here cuts a prompt silently: `clip` is for those who decide to.
"""

from collections.abc import Sequence
import functools
import hashlib
import itertools
import os

from absl import logging

from jswarm.core import files
from jswarm.formats import chat_template

# Turn endings of the common chat templates; any of them ends a reply.
_TURN_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>")
_NO_FOLDER = (
  "give 'bytes', a folder with tokenizer.json (or another tokenizer of Hugging Face), "
  "or a .gguf file"
)


class ByteTokenizer:
  """One token a byte of UTF-8, then pad, eos and bos: deterministic and offline."""

  pad_token_id, eos_token_id, bos_token_id = 256, 257, 258
  vocab_size = 259
  chat_template = None

  def __len__(self) -> int:
    return self.vocab_size

  def get_vocab(self) -> dict[str, int]:
    specials = {"<pad>": 256, "<eos>": 257, "<bos>": 258}
    return {f"<0x{i:02X}>": i for i in range(256)} | specials

  def encode(self, text: str) -> list[int]:
    return list(text.encode("utf-8"))

  def decode(self, ids: Sequence[int]) -> str:
    return bytes(i for i in ids if i < 256).decode("utf-8", "replace")


def load_tokenizer(
  path, today: str = chat_template.TODAY, thinking: bool | None = None
):
  """The tokenizer at `path`; a PreTrainedTokenizerFast except for "bytes".

  A tokenizer.json is used exactly as published: AutoTokenizer may rebuild it by the
  model's type, with another treatment of leading spaces. `today`: the date that its
  chat template sees, YYYY-MM-DD. `thinking`: whether a template that can is to have the
  model think; None: as the template does by itself. Raises ValueError for a path that
  holds no tokenizer.
  """
  path = os.fspath(path)
  chat_template.date(today)
  if path == "bytes":
    return ByteTokenizer()
  if path.endswith(".gguf"):
    from jswarm.formats import gguf_tokenizer  # needs the gguf package; folders do not

    tokenizer = gguf_tokenizer.load_tokenizer(path)
  elif not os.path.isdir(path):
    raise ValueError(f"there is no tokenizer folder {path!r}: {_NO_FOLDER}")
  else:
    tokenizer = _from_folder(path)
  tokenizer.name_or_path, tokenizer.today = path, today
  tokenizer.thinking = thinking
  return tokenizer


def _from_folder(folder):
  import transformers  # seconds to import; the byte tokenizer does not need it

  # Where torch is installed, the name AutoTokenizer alone costs seconds: it imports it.
  published = os.path.isfile(os.path.join(folder, "tokenizer.json"))
  try:
    kind = (
      transformers.PreTrainedTokenizerFast if published else transformers.AutoTokenizer
    )
    tokenizer = kind.from_pretrained(folder, local_files_only=True)
  except Exception as error:  # the Rust library raises it without a type of its own
    raise ValueError(
      f"{folder} holds no readable tokenizer ({sorted(os.listdir(folder))}): "
      f"{_NO_FOLDER}. transformers said: {error}"
    ) from error
  if not tokenizer.is_fast:
    raise ValueError(
      f"the tokenizer of {folder} is a {type(tokenizer).__name__}; allowed: fast ones. "
      "Save a tokenizer.json beside it with tokenizer.save_pretrained"
    )
  return tokenizer


def fingerprint(tokenizer) -> str:
  """Of all that makes tokens of text and text of tokens."""
  if isinstance(tokenizer, ByteTokenizer):
    return "bytes"
  parts = [
    tokenizer.backend_tokenizer.to_str(),
    tokenizer.chat_template,
    tokenizer.clean_up_tokenization_spaces,
  ]
  if chat_template.reads_clock(repr(tokenizer.chat_template)):
    parts.append(_today(tokenizer))
  if _switched(tokenizer):
    parts.append(f"thinking={tokenizer.thinking}")
  return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def check_template(tokenizer) -> None:
  """Raises ValueError for a chat template that cannot write a message of a user; one
  that has no switch for thinking where one was wished is warned of."""
  if not has_template(tokenizer):
    return
  _turn(tokenizer, "Hello")
  wish = getattr(tokenizer, "thinking", None)
  if wish is not None and not _switched(tokenizer):
    logging.warning(
      "the chat template of %s reads no enable_thinking: pool.thinking=%s changes"
      " nothing there",
      _name(tokenizer),
      wish,
    )


def _switched(tokenizer) -> bool:
  """Does a wish to think, or not to, reach the chat template?"""
  if getattr(tokenizer, "thinking", None) is None or not has_template(tokenizer):
    return False
  where = _name(tokenizer)
  template = chat_template.chosen(tokenizer.chat_template, where) or ""
  return bool(chat_template.switches(template, where))


def encode(
  tokenizer, prompts: Sequence[str], chat: bool = False, replies: Sequence[str] = ()
) -> list[list[int]]:
  """Token ids of every prompt, with the special tokens that the model expects.

  Args:
    tokenizer: from `load_tokenizer`.
    prompts: texts; with `chat` each is one message of the user.
    chat: wrap in the chat template, ending where the reply starts. The template writes
      its own BOS, so none is added. Without a template the prompt stays as it is and a
      warning is logged once.
    replies: if any, what is written behind each prompt and its template, encoded with
      it as one text.
  """
  if not prompts:
    return []
  if chat and not has_template(tokenizer):
    _warn_no_template(_name(tokenizer))
    chat = False
  texts = [_turn(tokenizer, p) for p in prompts] if chat else list(prompts)
  if replies:
    texts = [text + reply for text, reply in zip(texts, replies, strict=True)]
  if isinstance(tokenizer, ByteTokenizer):
    return [tokenizer.encode(text) for text in texts]
  return _ids(tokenizer, texts, special=not chat)


def _turn(tokenizer, prompt: str) -> str:
  where = _name(tokenizer)
  template = chat_template.chosen(tokenizer.chat_template, where) or ""
  special = tokenizer.special_tokens_map
  return chat_template.render(
    template,
    prompt,
    special,
    _today(tokenizer),
    where,
    getattr(tokenizer, "thinking", None),
  )


def _today(tokenizer) -> str:
  return getattr(tokenizer, "today", chat_template.TODAY)


def _name(tokenizer) -> str:
  return getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__


def has_template(tokenizer) -> bool:
  return bool(getattr(tokenizer, "chat_template", None))


@functools.cache  # once a tokenizer, not once a batch
def _warn_no_template(name):
  logging.warning(
    "the tokenizer %s has no chat template: prompts are sent as plain text", name
  )


def _ids(tokenizer, texts, special: bool) -> list[list[int]]:
  found = tokenizer(
    texts,
    add_special_tokens=special,
    return_attention_mask=False,
    return_token_type_ids=False,
    verbose=False,  # a prompt longer than the context is the engine's business
  )
  return found["input_ids"]


def decode(tokenizer, ids: Sequence[Sequence[int]]) -> list[str]:
  """The text of every row of ids, special tokens dropped, nothing tidied up."""
  if isinstance(tokenizer, ByteTokenizer):
    return [tokenizer.decode(row) for row in ids]
  return [
    tokenizer.decode(
      list(row), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    for row in ids
  ]


def stop_ids(tokenizer, folder=None) -> tuple[int, ...]:
  """Every token id that ends a reply, sorted.

  The tokenizer's EOS, those of `folder`'s generation_config.json (else config.json) or
  of a GGUF file's metadata, and the endings of a turn that the vocabulary knows. Raises
  ValueError for a file that names none.
  """
  vocab = tokenizer.get_vocab()
  found = {vocab[name] for name in _TURN_ENDS if name in vocab}
  if tokenizer.eos_token_id is not None:
    found.add(tokenizer.eos_token_id)
  return tuple(sorted(found | configured_stops(folder)))


def configured_stops(folder) -> set[int]:
  """The stops that the files of a model name, beside those of its vocabulary."""
  if folder is None:
    return set()
  if os.fspath(folder).endswith(".gguf"):
    from jswarm.formats import gguf_tokenizer

    return gguf_tokenizer.stops(folder)
  for name in ("generation_config.json", "config.json"):
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
      continue
    value = files.read_json(path).get("eos_token_id")
    if value is not None:
      return _numbers(value, path)
  return set()


def _numbers(value, path) -> set[int]:
  found = value if isinstance(value, list) else [value]
  for number in found:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
      raise ValueError(
        f"{path}: eos_token_id is {value!r}; allowed: the number of a token, or a list "
        "of numbers. Take the file from the model's page."
      )
  return set(found)


def clip(tokenizer, text: str, tokens: int) -> str:
  """The longest prefix of `text` that is at most `tokens` tokens, special ones apart.

  A prefix may be cut into other tokens than the whole text was, so candidates are
  encoded again: all ends within one token of the text at a time, longest first.
  """
  ends = [0, *_ends(tokenizer, text)]
  if len(ends) - 1 <= tokens:
    return text
  for last in range(min(tokens + 1, len(ends) - 1), 0, -1):
    prefixes = [text[:i] for i in range(ends[last], ends[last - 1], -1)]
    for prefix, count in zip(prefixes, _counts(tokenizer, prefixes)):
      if count <= tokens:
        return prefix
  return ""


def _counts(tokenizer, texts) -> list[int]:
  if isinstance(tokenizer, ByteTokenizer):
    return [len(tokenizer.encode(text)) for text in texts]
  return [len(ids) for ids in _ids(tokenizer, texts, special=False)] if texts else []


def _ends(tokenizer, text) -> list[int]:
  """Where in `text` each of its tokens ends, never decreasing."""
  if isinstance(tokenizer, ByteTokenizer):
    return [i for i, c in enumerate(text, 1) for _ in c.encode("utf-8")]
  found = tokenizer(
    text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
  )
  return list(itertools.accumulate((end for _, end in found["offset_mapping"]), max))
