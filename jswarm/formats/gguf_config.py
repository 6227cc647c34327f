"""GGUF metadata -> `DecoderConfig`: what a llama.cpp file says of its architecture.

The keys are those of docs/gguf.md (github.com/ggml-org/ggml); what llama.cpp has in its
code instead of in the file (which layers have a window, the query scale of the largest
Gemmas, Llama 3's rotary scaling) is a constant here, with the reason beside it.
"""

import math

import numpy as np

from jswarm.formats import gguf_file
from jswarm.model.architecture import DecoderConfig, rope_frequencies

# general.architecture -> model_type of the same model on Hugging Face
FAMILIES = {
  "llama": "llama",
  "qwen2": "qwen2",
  "qwen3": "qwen3",
  "gemma": "gemma",
  "gemma2": "gemma2",
  "gemma3": "gemma3_text",
}
# One layer in so many attends fully; the others have a sliding window.
_WINDOW_PERIOD = {"gemma2": 2, "gemma3": 6}
# The largest Gemmas scale queries by width / heads; the file does not say so.
_WIDE_QUERY = {("gemma2", 46), ("gemma3", 62)}  # (architecture, layers)
_LLAMA3 = (1.0, 4.0, 8192)  # low, high frequency factor and context, Llama 3.1 to 3.3
_REQUIRED = object()


def read_config(file: gguf_file.File) -> DecoderConfig:
  """The architecture that the metadata and tensor names of `file` describe."""
  try:
    return _config(file)
  except (ArithmeticError, AttributeError, TypeError) as error:
    raise ValueError(
      f"{file.path} has metadata of another kind than the format says ({error}). "
      "Download the file again, or export it with a current llama.cpp"
    ) from error


def _config(file) -> DecoderConfig:
  family = _architecture(file)
  has = lambda name: f"blk.0.{name}" in file.tensors
  heads, layers = _value(file, "attention.head_count"), _value(file, "block_count")
  width = _value(file, "embedding_length")
  head_dim = _value(file, "attention.key_length", width // heads)
  gemma = family.startswith("gemma")
  return DecoderConfig(
    vocab=tensor(file, "token_embd.weight").shape[0],
    width=width,
    layers=layers,
    heads=heads,
    kv_heads=_value(file, "attention.head_count_kv", heads),
    head_dim=head_dim,
    hidden=_value(file, "feed_forward_length"),
    activation="gelu_tanh" if gemma else "silu",
    norm_eps=_value(file, "attention.layer_norm_rms_epsilon"),
    norm_offset=1.0 if gemma else 0.0,
    post_norms=has("post_ffw_norm.weight"),
    qkv_bias=has("attn_q.bias"),
    o_bias=has("attn_output.bias"),
    qk_norm=has("attn_q_norm.weight"),
    attn_softcap=_value(file, "attn_logit_softcapping", None),
    final_softcap=_value(file, "final_logit_softcapping", None),
    query_scale=_query_scale(family, layers, width, heads, head_dim),
    embed_scale=math.sqrt(width) if gemma else 1.0,
    tied="output.weight" not in file.tensors,
    windows=_windows(file, family, layers),
    max_positions=_value(file, "context_length"),
    family=FAMILIES[family],
    **_rope(file, family, head_dim),
  )


def _architecture(file) -> str:
  family = file.metadata.get("general.architecture")
  if family not in FAMILIES:
    raise ValueError(
      f"{file.path} has architecture {family!r}; allowed: {sorted(FAMILIES)}. Use a "
      "model of one of these families"
    )
  return family


def _value(file, name, default=_REQUIRED):
  """Metadata `<architecture>.<name>`; one number, never a list by layer."""
  key = f"{file.metadata['general.architecture']}.{name}"
  value = file.metadata.get(key, default)
  if value is _REQUIRED or isinstance(value, list):
    found = "no value" if value is _REQUIRED else "one value a layer"
    raise ValueError(
      f"{file.path} has {found} for {key}; allowed: one number for all layers. Export "
      "the model again with a current llama.cpp, or use a model of another kind"
    )
  # Stored as float32: 1e-5 and not 9.99999974e-06, so that it exports as published.
  return float(str(np.float32(value))) if isinstance(value, float) else value


def tensor(file, name) -> gguf_file.Tensor:
  if name not in file.tensors:
    raise ValueError(
      f"{file.path} has no tensor {name}; it has {len(file.tensors)} others, such as "
      f"{sorted(file.tensors)[:3]}. The file is a part of a model (a split, a LoRA or "
      "an encoder): use the whole model in one file"
    )
  return file.tensors[name]


def _query_scale(family, layers, width, heads, head_dim) -> float:
  wide = (family, layers) in _WIDE_QUERY
  return (width // heads if wide else head_dim) ** -0.5


def _windows(file, family, layers):
  window = _value(file, "attention.sliding_window", None)
  if not window or family.startswith("qwen"):  # Qwen's window is off in every release
    return ()
  period = _WINDOW_PERIOD.get(family)
  full = lambda i: period is not None and (i + 1) % period == 0
  return tuple(None if full(i) else window for i in range(layers))


def _rope(file, family, head_dim) -> dict:
  size = _value(file, "rope.dimension_count", head_dim)
  if size != head_dim:
    raise ValueError(
      f"{file.path} rotates {size} of {head_dim} dimensions of a head; allowed: all. "
      "Use a model without partial rotary embeddings"
    )
  theta = _value(file, "rope.freq_base", 10000.0)
  local = _value(file, "rope.freq_base_swa", 10000.0) if family == "gemma3" else None
  scaling = _rope_scaling(file, theta, head_dim)
  return {"rope_theta": theta, "rope_scaling": scaling, "local_rope_theta": local}


def _rope_scaling(file, theta, head_dim):
  if "rope_freqs.weight" in file.tensors:
    return _llama3_scaling(file, theta, head_dim)
  kind = _value(file, "rope.scaling.type", "none")
  if kind == "none":
    return None
  if kind != "linear":
    raise ValueError(
      f"{file.path} has rope.scaling.type {kind!r}; allowed: 'none', 'linear', or "
      "Llama 3's rope_freqs tensor. Use a model without that context extension"
    )
  return ("linear", _value(file, "rope.scaling.factor"))


def _llama3_scaling(file, theta, head_dim):
  """The four numbers behind Llama 3's tensor of divisors of the frequencies."""
  divisors = gguf_file.read(file, "rope_freqs.weight")
  scaling = ("llama3", float(divisors.max()), *_LLAMA3)
  plain = dict(vocab=1, width=1, layers=1, heads=1, kv_heads=1, hidden=1)
  plain.update(head_dim=head_dim, rope_theta=theta)
  frequencies = lambda s: rope_frequencies(DecoderConfig(**plain, rope_scaling=s))[0]
  if not np.allclose(frequencies(None) / divisors, frequencies(scaling), rtol=1e-3):
    raise ValueError(
      f"{file.path}: the tensor rope_freqs.weight is not Llama 3's with {scaling}, the "
      "only scaling of its kind that is allowed. Use a model with the published scaling"
    )
  return scaling
