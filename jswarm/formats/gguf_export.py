"""Decoder tree -> GGUF: a model with its tokenizer as one file that llama.cpp reads.

The reverse of gguf_model, gguf_config and gguf_tokenizer: rows of q and k of the
`llama` architecture are permuted to interleaved rotary pairs, Gemma's norm weights get
their +1, Llama 3's rotary scaling becomes a tensor. What was written is read back and
compared: what GGUF cannot say is an error and not another model.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib

import gguf
import numpy as np

from jswarm.formats import gguf_config, gguf_file, gguf_model, gguf_tokenizer
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.model.architecture import DecoderConfig, rope_frequencies

KINDS = {
  "f16": gguf.GGMLQuantizationType.F16,
  "q8_0": gguf.GGMLQuantizationType.Q8_0,
}
_ARCHITECTURES = {ours: name for name, ours in gguf_config.FAMILIES.items()}
_ARCHITECTURES["mistral"] = "llama"  # as llama.cpp converts it
_BLOCK = 32  # weights that share a scale in Q8_0
_LARGEST = float(np.finfo(np.float16).max)
_UNUSED, _BYTE = 5, 6  # tokenizer.ggml.token_type, beside those of gguf_tokenizer
_UNSCORED = -1e9  # of tokens that no merge makes
_PROBE = "Hello, world! 12345  naïve café\n\tdef f(x): return x**2  你好 🙂"


def save(
  path: str | os.PathLike,
  config: DecoderConfig,
  params,
  tokenizer,
  stops: Sequence[int],
  kind: str,
) -> None:
  """Writes a model as GGUF; the file appears whole or not at all.

  Args:
    path: of the file; its folder is made if needed.
    config, params: of one model, layers stacked.
    tokenizer: byte-level BPE, or SentencePiece BPE with byte fallback. stops: tokens
      that end its replies.
    kind: of the matrices, one of `KINDS`; norms and biases stay float32.

  Raises:
    ValueError: GGUF, or what reads it, cannot say what this model or tokenizer is; a
      weight is too large for float16.
  """
  if kind not in KINDS:
    raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}.")
  if config.family not in _ARCHITECTURES:
    raise ValueError(
      f"family is {config.family!r}; as GGUF are written: {sorted(_ARCHITECTURES)}."
      " Export it as merged instead."
    )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.name}.part.gguf")
  architecture = _ARCHITECTURES[config.family]
  writer = gguf.GGUFWriter(partial, architecture)
  try:
    _write_config(writer, config)
    _write_tokenizer(writer, tokenizer, stops, config.vocab)
    _write_tensors(writer, config, params, architecture, KINDS[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _check_config(partial, config)
    _check_tokenizer(partial, tokenizer, stops)
  except BaseException:
    writer.close()
    partial.unlink(missing_ok=True)
    raise
  os.replace(partial, path)


def _write_config(writer, c):
  writer.add_context_length(c.max_positions)
  writer.add_embedding_length(c.width)
  writer.add_block_count(c.layers)
  writer.add_feed_forward_length(c.hidden)
  writer.add_head_count(c.heads)
  writer.add_head_count_kv(c.kv_heads)
  writer.add_layer_norm_rms_eps(c.norm_eps)
  writer.add_key_length(c.head_dim)
  writer.add_value_length(c.head_dim)
  writer.add_rope_dimension_count(c.head_dim)
  writer.add_rope_freq_base(c.rope_theta)
  writer.add_vocab_size(c.vocab)
  windows = {w for w in c.windows if w is not None}
  if windows:
    writer.add_sliding_window(max(windows))
  if c.attn_softcap is not None:
    writer.add_attn_logit_softcapping(c.attn_softcap)
  if c.final_softcap is not None:
    writer.add_final_logit_softcapping(c.final_softcap)
  if c.rope_scaling and c.rope_scaling[0] == "linear":
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(c.rope_scaling[1])


def _write_tensors(writer, config, params, architecture, kind):
  """Every tensor under its name in the file."""
  permuted = {"attn_q": config.heads, "attn_k": config.kv_heads}
  for name, x in _tensors(config, params):
    part = name.split(".")[-2]
    if config.norm_offset and name.endswith("norm.weight"):
      x = x + np.float32(config.norm_offset)
    if architecture == "llama" and part in permuted:
      x = _pairs(x, permuted[part])
    x = np.ascontiguousarray(x, np.float32)
    if x.ndim == 1:
      writer.add_tensor(name, x)
      continue
    if np.abs(x).max() > _LARGEST:
      raise ValueError(
        f"{name}: a weight is larger than {_LARGEST:g}, which float16 cannot hold:"
        " export the model as merged instead."
      )
    fits = kind != KINDS["q8_0"] or x.shape[-1] % _BLOCK == 0
    own = kind if fits else KINDS["f16"]  # as llama.cpp does
    writer.add_tensor(name, gguf.quants.quantize(x, own), raw_dtype=own)
  if config.rope_scaling and config.rope_scaling[0] == "llama3":
    plain = dataclasses.replace(config, rope_scaling=None)
    divisors = rope_frequencies(plain)[0] / rope_frequencies(config)[0]
    writer.add_tensor("rope_freqs.weight", divisors.astype(np.float32))


def _tensors(config, params):
  """(name in the file, array [out, in] or [n]) of every leaf."""
  yield "token_embd.weight", np.asarray(params["embed"], np.float32)
  yield "output_norm.weight", np.asarray(params["final_norm"]["scale"], np.float32)
  if not config.tied:
    yield "output.weight", np.asarray(params["head"], np.float32).T
  for name, place in gguf_model.LINEAR.items():
    module = _at(params["layers"], place)
    for i in range(config.layers):
      yield f"blk.{i}.{name}.weight", np.asarray(module["kernel"][i], np.float32).T
      if "bias" in module:
        yield f"blk.{i}.{name}.bias", np.asarray(module["bias"][i], np.float32)
  for name, place in gguf_model.NORMS.items():
    module = _at(params["layers"], place)
    for i in range(config.layers if module else 0):
      yield f"blk.{i}.{name}.weight", np.asarray(module["scale"][i], np.float32)


def _at(tree, place):
  for name in place:
    tree = tree.get(name, {})
  return tree


def _pairs(x, heads):
  """llama.cpp's order of rotary pairs: (0, h/2), (1, ..) -> (0, 1), (2, 3) .."""
  halves = x.reshape(heads, 2, -1, *x.shape[1:])
  return halves.swapaxes(1, 2).reshape(x.shape)


def _write_tokenizer(writer, tokenizer, stops, size):
  """The vocabulary, its merges and special tokens, and the chat template."""
  if isinstance(tokenizer, tokenizer_lib.ByteTokenizer):
    raise ValueError(_refused("bytes alone"))
  told = json.loads(tokenizer.backend_tokenizer.to_str())
  model = told["model"]
  if model["type"] != "BPE":
    raise ValueError(_refused(f"of the kind {model['type']}"))
  merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
  tokens, kinds = _vocabulary(tokenizer, told, size)
  if _parts(told["pre_tokenizer"], "ByteLevel"):
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split_name(told))
  elif model.get("byte_fallback"):
    writer.add_tokenizer_model("llama")
    made = {m.replace(" ", "", 1): float(-k) for k, m in enumerate(merges)}
    writer.add_token_scores([made.get(token, _UNSCORED) for token in tokens])
    writer.add_add_space_prefix(bool(_parts(told["normalizer"], "Prepend")))
  else:
    raise ValueError(_refused("BPE of neither bytes nor SentencePiece"))
  writer.add_token_list(tokens)
  writer.add_token_types(kinds)
  writer.add_token_merges(merges)
  _write_special(writer, tokenizer, stops)


def _vocabulary(tokenizer, told, size):
  """(tokens, their types) by number; numbers that the tokenizer lacks are unused."""
  tokens = [f"[PAD{i}]" for i in range(size)]
  kinds = [_UNUSED] * size
  byte = lambda token: len(token) == 6 and token.startswith("<0x") and token[5] == ">"
  for token, i in tokenizer.get_vocab().items():
    tokens[i] = token
    kinds[i] = _BYTE if byte(token) else gguf_tokenizer.NORMAL
  for added in told["added_tokens"]:
    special = added["special"]
    kinds[added["id"]] = (
      gguf_tokenizer.CONTROL if special else gguf_tokenizer.USER_DEFINED
    )
  if told["model"].get("unk_token") in tokens:
    kinds[tokens.index(told["model"]["unk_token"])] = gguf_tokenizer.UNKNOWN
  return tokens, kinds


def _write_special(writer, tokenizer, stops):
  first = tokenizer("")["input_ids"]
  bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
  if bos is not None:
    writer.add_bos_token_id(bos)
  writer.add_add_bos_token(bos is not None and bos in first[:1])
  more = [stop for stop in stops if stop != eos]
  if eos is None and more:
    eos = more.pop(0)
  if eos is not None:
    writer.add_eos_token_id(eos)
    writer.add_add_eos_token(eos in first[-1:] and eos != bos)
  for add, stop in zip((writer.add_eot_token_id, writer.add_eom_token_id), more):
    add(stop)
  if tokenizer.pad_token_id is not None:
    writer.add_pad_token_id(tokenizer.pad_token_id)
  if tokenizer.unk_token_id is not None:
    writer.add_unk_token_id(tokenizer.unk_token_id)
  if isinstance(tokenizer.chat_template, str):
    writer.add_chat_template(tokenizer.chat_template)


def _split_name(told):
  """The name under which llama.cpp knows how this tokenizer cuts text."""
  steps = told["pre_tokenizer"]
  patterns = [s["pattern"].get("Regex") for s in _parts(steps, "Split")]
  if any(s["use_regex"] for s in _parts(steps, "ByteLevel")):
    patterns.append(None)
  digits = any(s["individual_digits"] for s in _parts(steps, "Digits"))
  nfc = bool(_parts(told["normalizer"], "NFC"))
  whole = bool(told["model"].get("ignore_merges"))
  for name, split in gguf_tokenizer.SPLITS.items():
    same = (split.digits, split.nfc, split.whole) == (digits, nfc, whole)
    if same and patterns == [split.pattern]:
      return name
  raise ValueError(_refused(f"that cuts text in a way without a name there: {steps}"))


def _parts(step, kind):
  """The steps of a kind in a normalizer or pre-tokenizer, which may be a sequence."""
  if step is None:
    return []
  inner = step.get("pretokenizers") or step.get("normalizers") or [step]
  return [part for part in inner if part["type"] == kind]


def _check_config(path, config):
  """Raises ValueError unless the file's metadata say the same architecture."""
  back = gguf_config.read_config(gguf_file.open_file(path))
  family = gguf_config.FAMILIES[_ARCHITECTURES[config.family]]
  wrong = {}
  for field in dataclasses.fields(config):
    a, b = getattr(config, field.name), getattr(back, field.name)
    a = family if field.name == "family" else a
    if a != b and not _close(a, b):
      wrong[field.name] = (a, b)
  if wrong:
    raise ValueError(
      f"GGUF cannot say this {config.family} (ours, what it would say): {wrong}."
      " Export it as merged instead."
    )


def _close(a, b):
  numbers = isinstance(a, float) and isinstance(b, float)
  if numbers:
    return abs(a - b) <= 1e-6 * abs(a)
  both = isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b)
  return both and all(x == y or _close(x, y) for x, y in zip(a, b))


def _check_tokenizer(path, tokenizer, stops):
  """Raises ValueError unless the file's tokenizer writes the same tokens."""
  back = gguf_tokenizer.load_tokenizer(path)
  if back(_PROBE)["input_ids"] != tokenizer(_PROBE)["input_ids"]:
    raise ValueError(_refused("that GGUF would read otherwise"))
  lost = set(stops) - set(tokenizer_lib.stop_ids(back, str(path)))
  if lost:
    raise ValueError(
      f"replies end with the tokens {sorted(stops)}, of which GGUF would lose"
      f" {sorted(lost)}: export the model as merged instead."
    )


def _refused(what):
  return (
    f"the tokenizer is one {what}; GGUF has byte-level BPE with a known way to cut"
    " text, and SentencePiece BPE: export the model as merged instead."
  )
