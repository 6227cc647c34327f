"""GGUF metadata -> tokenizer: the vocabulary of a file as a `tokenizers` pipeline.

Two kinds of vocabulary exist among the supported families. `gpt2` is byte-level BPE
with merges in the file and a pre-tokenizer known only by name. `llama` is SentencePiece
BPE: the merges follow from the scores, spaces are written as U+2581 and unknown
characters fall back to bytes. Sources: llama-vocab.cpp of github.com/ggml-org/llama.cpp
for the names and defaults, the tokenizer.json of the original models for the rest. No
torch is needed (transformers' own GGUF reader imports it).
"""

import json
import os
import re
from typing import NamedTuple

from absl import logging
from tokenizers import (
  AddedToken,
  Regex,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)
from transformers import PreTrainedTokenizerFast

from jswarm.formats import gguf_file

_SPACE = "\u2581"
# Beside the EOS of the file: every published Qwen chat model stops there too.
_FAMILY_STOPS = {"qwen2": ("<|endoftext|>",), "qwen3": ("<|endoftext|>",)}
# Added tokens that a decoded reply shows, by family (tokenizer.json: special = false).
_PRINTED = {
  "gemma": re.compile(r"<mask>|<unused\d+>"),
  "qwen": re.compile(r"<\|(fim_(prefix|middle|suffix|pad)|repo_name|file_sep)\|>"),
}
_GEMMA_SPECIAL = re.compile(r"<(start|end)_of_(turn|image)>")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # tokenizer.ggml.token_type

# What splits a text before any merge, as published in each model's tokenizer.json.
_LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
  rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
  r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class _Split(NamedTuple):
  """How a byte-level vocabulary cuts text."""

  pattern: str | None = None  # None: the pattern of GPT-2
  digits: bool = False  # every digit apart, before anything else
  nfc: bool = False  # compose Unicode first
  whole: bool = False  # a piece that is a token needs no merges
  bos: bool = False  # start every text with BOS unless the file says otherwise


SPLITS = {
  "gpt-2": _Split(),
  "smollm": _Split(digits=True),
  "qwen2": _Split(_QWEN2, nfc=True),
  "deepseek-r1-qwen": _Split(_QWEN2, nfc=True),
  "llama-bpe": _Split(_LLAMA3, whole=True, bos=True),
  "llama3": _Split(_LLAMA3, whole=True, bos=True),
  "llama-v3": _Split(_LLAMA3, whole=True, bos=True),
  "smaug-bpe": _Split(_LLAMA3, whole=True),
  "tekken": _Split(_TEKKEN, whole=True, bos=True),
}


def load_tokenizer(path) -> PreTrainedTokenizerFast:
  """The tokenizer inside a GGUF file, with its chat template if it has one.

  Raises ValueError: not a GGUF file, no vocabulary, or one of an unknown kind.
  """
  file = gguf_file.open_file(path)
  build, bos = _builder(file)
  try:
    tokenizer = build(file)
  except ValueError:
    raise
  except Exception as error:  # what the Rust library raises, without a type of its own
    raise ValueError(
      f"{file.path}: its vocabulary and merges do not fit together ({error}). Download "
      "the file again, or give the folder of the original tokenizer instead"
    ) from error
  _add_special(file, tokenizer)
  names = _special_names(file)
  tokenizer.post_processor = _ends(file, names, bos)
  return PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    chat_template=file.metadata.get("tokenizer.chat_template"),
    model_max_length=_get(file, f"{_get(file, 'general.architecture')}.context_length"),
    clean_up_tokenization_spaces=False,
    **names,
  )


def save(path, folder):
  """Writes the tokenizer of the GGUF file `path`, and its stop tokens, to `folder`."""
  load_tokenizer(path).save_pretrained(folder)
  file = gguf_file.open_file(path)
  number = lambda name: file.metadata.get(f"tokenizer.ggml.{name}_token_id")
  settings = {
    "bos_token_id": number("bos"),
    "eos_token_id": sorted(stops(path)),
    "pad_token_id": number("padding"),
  }
  with open(os.path.join(folder, "generation_config.json"), "w") as out:
    json.dump({k: v for k, v in settings.items() if v not in (None, [])}, out, indent=2)


def stops(path) -> set[int]:
  """Tokens that end a reply, by the metadata of a GGUF file: of a text (eos), a turn
  (eot) or a message (eom), and what its family's generation_config.json adds.

  Raises ValueError for one that is not in the vocabulary.
  """
  file = gguf_file.open_file(path)
  tokens = _get(file, "tokenizer.ggml.tokens")
  found = set()
  for name in ("eos", "eot", "eom"):
    number = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
    if number is not None and not 0 <= number < len(tokens):
      raise ValueError(
        f"{file.path}: tokenizer.ggml.{name}_token_id is {number!r}; allowed: 0 to "
        f"{len(tokens) - 1}, the tokens that it has. Export the file again"
      )
    found |= {number} - {None}
  more = _FAMILY_STOPS.get(str(file.metadata.get("general.architecture")), ())
  return found | {tokens.index(name) for name in more if name in tokens}


def _get(file, key):
  if key not in file.metadata:
    raise ValueError(
      f"{file.path} has no {key}, so it holds no complete tokenizer. Give the folder "
      "of the original tokenizer (with its tokenizer.json) instead"
    )
  return file.metadata[key]


def _builder(file):
  """(function from file to Tokenizer, whether texts start with BOS by default)."""
  kind = _get(file, "tokenizer.ggml.model")
  if kind == "llama":
    return _sentencepiece, True
  if kind != "gpt2":
    raise ValueError(
      f"{file.path} has tokenizer.ggml.model {kind!r}; allowed: 'gpt2' (byte-level "
      "BPE) and 'llama' (SentencePiece BPE). Give the folder of the original tokenizer "
      "instead"
    )
  split = _split(file)
  return lambda file: _byte_level(file, split), split.bos


def _split(file) -> _Split:
  name = file.metadata.get("tokenizer.ggml.pre", "default")
  if name == "default":
    qwen = _get(file, "general.architecture").startswith("qwen")
    name = "qwen2" if qwen else "gpt-2"
    logging.warning(
      "%s does not name its pre-tokenizer; taking %s. Numbers and spaces may be cut "
      "otherwise than in training",
      file.path,
      name,
    )
  if name not in SPLITS:
    raise ValueError(
      f"{file.path} has tokenizer.ggml.pre {name!r}; allowed: {sorted(SPLITS)}. Give "
      "the folder of the original tokenizer (with its tokenizer.json) instead"
    )
  return SPLITS[name]


def _byte_level(file, split: _Split) -> Tokenizer:
  tokens = _get(file, "tokenizer.ggml.tokens")
  merges = [tuple(m.split(" ", 1)) for m in _get(file, "tokenizer.ggml.merges")]
  vocab = {token: i for i, token in enumerate(tokens)}
  tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=split.whole))
  if split.nfc:
    tokenizer.normalizer = normalizers.NFC()
  steps = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
  if split.pattern:
    steps.append(pre_tokenizers.Split(Regex(split.pattern), "isolated"))
  plain = split.pattern is None
  steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain))
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _sentencepiece(file) -> Tokenizer:
  tokens = [_respelled(t) for t in _get(file, "tokenizer.ggml.tokens")]
  unknown = file.metadata.get("tokenizer.ggml.unknown_token_id")
  model = models.BPE(
    {token: i for i, token in enumerate(tokens)},
    _merges(file, tokens),
    unk_token=None if unknown is None else tokens[unknown],
    fuse_unk=True,
    byte_fallback=True,
  )
  tokenizer = Tokenizer(model)
  prefix = file.metadata.get("tokenizer.ggml.add_space_prefix", True)
  before = [normalizers.Prepend(_SPACE)] if prefix else []
  after = [decoders.Strip(" ", 1, 0)] if prefix else []
  tokenizer.normalizer = normalizers.Sequence(
    [*before, normalizers.Replace(" ", _SPACE)]
  )
  tokenizer.decoder = decoders.Sequence(
    [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *after]
  )
  return tokenizer


def _respelled(token: str) -> str:
  """Runs of spaces, which GGUF stores plainly, as the normalizer will write them."""
  return _SPACE * len(token) if token and not token.strip(" ") else token


def _merges(file, tokens):
  """The merges of the file, or those that SentencePiece's scores imply.

  SentencePiece joins the pair whose result scores best, so every way to cut a token in
  two is a merge and the score of the token its rank. Runs of spaces are user-defined in
  Gemma: their scores mean nothing, they go first.
  """
  if "tokenizer.ggml.merges" in file.metadata:
    return [tuple(m.split(" ", 1)) for m in file.metadata["tokenizer.ggml.merges"]]
  scores = _get(file, "tokenizer.ggml.scores")
  kinds = file.metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
  spaces = [
    i
    for i, (token, kind) in enumerate(zip(tokens, kinds))
    if kind == USER_DEFINED and token and not token.strip(_SPACE)
  ]
  normal = [i for i, kind in enumerate(kinds) if kind == NORMAL]
  normal.sort(key=lambda i: -scores[i])  # stable: ties in the order of the file
  index = {token: i for i, token in enumerate(tokens)}
  runs = [pair for i in spaces for pair in _cuts(tokens[i], index)]
  # A run grows at its left until no token is longer: 31 and 1, not 16 and 16.
  runs.sort(key=lambda pair: (-len(pair[0]), -len(pair[1])))
  return runs + [pair for i in normal for pair in _cuts(tokens[i], index)]


def _cuts(token, index):
  """All ways to cut `token` into two tokens, those of the commonest halves first."""
  pairs = ((token[:i], token[i:]) for i in range(1, len(token)))
  pairs = [(a, b) for a, b in pairs if a in index and b in index]
  return sorted(pairs, key=lambda pair: (index[pair[0]], index[pair[1]]))


def _add_special(file, tokenizer):
  """Tokens that are matched whole in the text, before any merge."""
  tokens = _get(file, "tokenizer.ggml.tokens")
  kinds = file.metadata.get("tokenizer.ggml.token_type", [])
  special, plain = [], []
  for kind, token in zip(kinds, tokens):
    if kind not in (UNKNOWN, CONTROL, USER_DEFINED):
      continue
    if tokenizer.token_to_id(token) is None:  # a run of spaces
      token = _respelled(token)
    if tokenizer.token_to_id(token) is None:
      continue  # it would get a new number
    (special if _is_special(file, token, kind) else plain).append(token)
  tokenizer.add_special_tokens(
    [AddedToken(token, normalized=False, special=True) for token in special]
  )
  tokenizer.add_tokens([AddedToken(token, normalized=False) for token in plain])


def _is_special(file, token, kind) -> bool:
  """Is the token dropped from replies? As in its family's published tokenizer.json.

  llama.cpp writes as control tokens what only looks like one.
  """
  family = file.metadata.get("general.architecture", "")
  if family.startswith("gemma") and _GEMMA_SPECIAL.fullmatch(token):
    return True
  printed = _PRINTED.get(family.rstrip("0123456789"))
  return kind != USER_DEFINED and not (printed and printed.fullmatch(token))


def _special_names(file) -> dict[str, str]:
  tokens = _get(file, "tokenizer.ggml.tokens")
  found = {}
  for name, key in (
    ("bos", "bos"),
    ("eos", "eos"),
    ("unk", "unknown"),
    ("pad", "padding"),
  ):
    number = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
    if number is not None and number < len(tokens):
      found[f"{name}_token"] = tokens[number]
  return found


def _ends(file, names, bos_default):
  """The post-processor that adds BOS and EOS to a text where the file wants them."""
  flag = lambda name, default: (
    file.metadata.get(f"tokenizer.ggml.add_{name}_token", default)
    and f"{name}_token" in names
  )
  first = [names["bos_token"]] if flag("bos", bos_default) else []
  last = [names["eos_token"]] if flag("eos", False) else []
  tokens = _get(file, "tokenizer.ggml.tokens")
  return processors.TemplateProcessing(
    single=[*first, "$A", *last],
    pair=[*first, "$A", *last, *first, "$B:1", *last],
    special_tokens=[(t, tokens.index(t)) for t in {*first, *last}],
  )
