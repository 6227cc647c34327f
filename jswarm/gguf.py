"""GGUF names -> decoder tree: a llama.cpp model file becomes a config and params.

Quantised tensors are dequantised to the wanted dtype, so memory is that of the full
model. Loading takes seconds; `convert` writes a Hugging Face folder once, which then
loads in a fraction of a second.

Three things differ from Hugging Face checkpoints (llama.cpp, convert_hf_to_gguf.py):
rows of q and k of the `llama` architecture are permuted to interleaved rotary pairs,
Gemma's norm weights have their +1 already added, and Llama 3's rotary scaling is a
tensor instead of four numbers. All three are undone.
"""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np

from jswarm import gguf_file
from jswarm import gguf_tokenizer
from jswarm.decoder import DecoderConfig
from jswarm.decoder import rope_frequencies

load_tokenizer = gguf_tokenizer.load_tokenizer

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

_LINEAR = {  # name in a block of the file -> place in the tree
  "attn_q": ("attn", "q"),
  "attn_k": ("attn", "k"),
  "attn_v": ("attn", "v"),
  "attn_output": ("attn", "o"),
  "ffn_gate": ("mlp", "gate"),
  "ffn_up": ("mlp", "up"),
  "ffn_down": ("mlp", "down"),
}
_NORMS = {
  "attn_norm": ("attn_norm",),
  "ffn_norm": ("mlp_norm",),
  "post_attention_norm": ("post_attn_norm",),
  "post_ffw_norm": ("post_mlp_norm",),
  "attn_q_norm": ("attn", "q_norm"),
  "attn_k_norm": ("attn", "k_norm"),
}
_ONCE = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"}


def load_base(path, dtype=jnp.float32):
  """Reads a GGUF model.

  Args:
    path: of the .gguf file.
    dtype: of every leaf of the params.

  Returns:
    (DecoderConfig, params), as `hf.load_base` does.

  Raises:
    ValueError: missing or truncated file, unknown architecture or quantisation, tensors
      that are missing, left over or of the wrong shape.
  """
  file = gguf_file.open_file(path)
  config = read_config(file)
  _check_names(file, config)
  return config, jax.tree.map(jnp.asarray, _params(file, config, np.dtype(dtype)))


def convert(path, folder, dtype=jnp.float32):
  """Writes the model and tokenizer of a GGUF file as a Hugging Face folder.

  With float32 the folder holds exactly the dequantised weights. Returns the config.
  """
  from jswarm import hf  # only here: hf needs safetensors, loading a GGUF does not

  config, params = load_base(path, dtype)
  os.makedirs(folder, exist_ok=True)
  hf.save_base(folder, config, params)
  gguf_tokenizer.save(path, folder)
  return config


def read_config(file: gguf_file.File) -> DecoderConfig:
  """The architecture that the metadata and tensor names of `file` describe."""
  family = _architecture(file)
  has = lambda name: f"blk.0.{name}" in file.tensors
  heads, layers = _value(file, "attention.head_count"), _value(file, "block_count")
  width = _value(file, "embedding_length")
  head_dim = _value(file, "attention.key_length", width // heads)
  gemma = family.startswith("gemma")
  return DecoderConfig(
    vocab=_tensor(file, "token_embd.weight").shape[0],
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


_REQUIRED = object()


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
  return value


def _tensor(file, name) -> gguf_file.Tensor:
  if name not in file.tensors:
    raise ValueError(
      f"{file.path} has no tensor {name}; it has {len(file.tensors)} others, such as "
      f"{sorted(file.tensors)[:3]}. The file is a part of a model (a split, a LoRA or an "
      "encoder): use the whole model in one file"
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
      f"{file.path} has rope.scaling.type {kind!r}; allowed: 'none', 'linear', or Llama "
      "3's rope_freqs tensor. Use a model without that context extension"
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


def _check_names(file, config):
  """Raises ValueError for tensors that no part of the decoder would use."""
  names = [*_LINEAR, *_NORMS]
  known = {f"blk.{i}.{n}.weight" for i in range(config.layers) for n in names}
  biased = ["attn_q", "attn_k", "attn_v"] * config.qkv_bias
  biased += ["attn_output"] * config.o_bias
  known |= {f"blk.{i}.{n}.bias" for i in range(config.layers) for n in biased}
  left = sorted(set(file.tensors) - known - _ONCE)
  if left:
    raise ValueError(
      f"{file.path} has {len(left)} tensors that the decoder does not know, such as "
      f"{left[:3]}; known in a block: {names}. It is a variant (mixture of experts, "
      "fused or biased layers): use a dense model of the same family"
    )


def _params(file, config, dtype):
  layers = {}
  for name, place in _LINEAR.items():
    _put(layers, (*place, "kernel"), _stack(file, config, f"{name}.weight", dtype))
    if f"blk.0.{name}.bias" in file.tensors:
      _put(layers, (*place, "bias"), _stack(file, config, f"{name}.bias", dtype))
  for name, place in _NORMS.items():
    if f"blk.0.{name}.weight" in file.tensors:
      _put(layers, (*place, "scale"), _stack(file, config, f"{name}.weight", dtype))
  final = _read(file, config, "output_norm.weight").astype(dtype)
  params = {
    "embed": _read(file, config, "token_embd.weight").astype(dtype),
    "layers": layers,
    "final_norm": {"scale": final},
  }
  if not config.tied:
    params["head"] = _read(file, config, "output.weight").T.astype(dtype)
  return params


def _put(tree, place, leaf):
  *parents, last = place
  for name in parents:
    tree = tree.setdefault(name, {})
  tree[last] = leaf


def _stack(file, config, name, dtype):
  """Tensor `name` of all blocks, [L, in, out] for matrices; one layer in float32."""
  out = None
  for i in range(config.layers):
    x = _read(file, config, f"blk.{i}.{name}").T
    out = np.empty((config.layers, *x.shape), dtype) if out is None else out
    out[i] = x
  return out


def _read(file, config, name):
  """One tensor as Hugging Face would store it, [out, in]."""
  shape, expected = _tensor(file, name).shape, _shape(config, name)
  if shape != expected:
    raise ValueError(
      f"{file.path}: tensor {name} has shape {shape} where the metadata make it "
      f"{expected}. The file is inconsistent: download or export it again"
    )
  x = gguf_file.read(file, name)
  if config.norm_offset and name.endswith("norm.weight"):
    return x - config.norm_offset
  if file.metadata["general.architecture"] != "llama":
    return x
  if ".attn_q." in name:
    return _halves(x, config.heads)
  return _halves(x, config.kv_heads) if ".attn_k." in name else x


def _halves(x, heads):
  """Undoes llama.cpp's order of rotary pairs: (0, 1), (2, 3) .. -> (0, h/2), (1, .."""
  pairs = x.reshape(heads, -1, 2, *x.shape[1:])
  return pairs.swapaxes(1, 2).reshape(x.shape)


def _shape(config, name) -> tuple[int, ...]:
  """What tensor `name` must have, in numpy's order."""
  c = config
  part, kind = name.split(".")[-2:]
  wide, narrow = c.heads * c.head_dim, c.kv_heads * c.head_dim
  sizes = {
    "token_embd": (c.vocab, c.width),
    "output": (c.vocab, c.width),
    "attn_q": (wide, c.width),
    "attn_k": (narrow, c.width),
    "attn_v": (narrow, c.width),
    "attn_output": (c.width, wide),
    "ffn_gate": (c.hidden, c.width),
    "ffn_up": (c.hidden, c.width),
    "ffn_down": (c.width, c.hidden),
    "attn_q_norm": (c.head_dim,),
    "attn_k_norm": (c.head_dim,),
  }
  size = sizes.get(part, (c.width,))
  return size[:1] if kind == "bias" else size
