"""GGUF names -> decoder tree: a llama.cpp model file becomes a config and params.

Quantised tensors are dequantised to the wanted dtype, so memory is that of the full
model. Loading takes seconds; `convert` writes a Hugging Face folder once, which then
loads in a fraction of a second.

Three things differ from Hugging Face checkpoints (llama.cpp, convert_hf_to_gguf.py):
rows of q and k of the `llama` architecture are permuted to interleaved rotary pairs,
Gemma's norm weights have their +1 already added, and Llama 3's rotary scaling is a
tensor instead of four numbers. All three are undone.
"""

import os

import jax.numpy as jnp
import numpy as np

from jswarm.formats import gguf_config, gguf_file, gguf_tokenizer, tensor_files

load_tokenizer = gguf_tokenizer.load_tokenizer

LINEAR = {  # name in a block of the file -> place in the tree
  "attn_q": ("attn", "q"),
  "attn_k": ("attn", "k"),
  "attn_v": ("attn", "v"),
  "attn_output": ("attn", "o"),
  "ffn_gate": ("mlp", "gate"),
  "ffn_up": ("mlp", "up"),
  "ffn_down": ("mlp", "down"),
}
NORMS = {
  "attn_norm": ("attn_norm",),
  "ffn_norm": ("mlp_norm",),
  "post_attention_norm": ("post_attn_norm",),
  "post_ffw_norm": ("post_mlp_norm",),
  "attn_q_norm": ("attn", "q_norm"),
  "attn_k_norm": ("attn", "k_norm"),
}


def read_config(path):
  """The `DecoderConfig` of a GGUF file, from its header alone."""
  return gguf_config.read_config(gguf_file.open_file(path))


def check_base(path):
  """The config of a GGUF model whose tensors are all there, whole and readable.

  Reads the header alone. Errors are those of `load_base`.
  """
  return _open(path)[1]


def load_base(path, dtype=jnp.float32, place=None):
  """Reads a GGUF model.

  Args:
    path: of the .gguf file.
    dtype: of every leaf of the params.
    place: `place(path, array)` puts a leaf where it belongs, as in `hf_model`.

  Returns:
    (DecoderConfig, params), as `hf_model.load_base` does.

  Raises:
    ValueError: missing or truncated file, unknown architecture or quantisation, tensors
      that are missing, left over or of the wrong shape.
  """
  file, config = _open(path)
  params: dict = {}
  for where, name in _leaves(file, config).items():
    value = _fill(file, config, where, name, np.dtype(dtype))
    _put(params, where, place(where, value) if place else jnp.asarray(value))
  return config, params


def leaf_reader(path, dtype=jnp.float32):
  """read(path) -> array [...]: one leaf of the params, as `hf_model.leaf_reader`."""
  file, config = _open(path)
  leaves = _leaves(file, config)
  return lambda where: _fill(file, config, where, leaves[where], np.dtype(dtype))


def convert(path, folder, dtype=jnp.float32):
  """Writes the model and tokenizer of a GGUF file as a Hugging Face folder.

  With float32 the folder holds exactly the dequantised weights. Returns the config.
  """
  from jswarm.formats import hf_model

  config, params = load_base(path, dtype)
  os.makedirs(folder, exist_ok=True)
  hf_model.save_base(folder, config, params)
  gguf_tokenizer.save(path, folder)
  return config


def _open(path):
  """(file, config) of a GGUF model, checked; no tensor is read yet."""
  file = gguf_file.open_file(path)
  config = gguf_config.read_config(file)
  names = _names(config)
  _check_names(file, names)
  for name in names:
    _check_shape(file, config, name)
  gguf_file.check_readable(file)
  return file, config


def _names(config) -> list[str]:
  """Every tensor that the params of `config` are made of."""
  norms = ["attn_norm", "ffn_norm"]
  norms += ["post_attention_norm", "post_ffw_norm"] * config.post_norms
  norms += ["attn_q_norm", "attn_k_norm"] * config.qk_norm
  biased = ["attn_q", "attn_k", "attn_v"] * config.qkv_bias
  biased += ["attn_output"] * config.o_bias
  parts = [f"{n}.weight" for n in (*LINEAR, *norms)] + [f"{n}.bias" for n in biased]
  once = ["token_embd", "output_norm"] + ["output"] * (not config.tied)
  return [f"{name}.weight" for name in once] + [
    f"blk.{i}.{part}" for i in range(config.layers) for part in parts
  ]


def _check_names(file, names):
  """Raises ValueError for tensors that no part of the decoder would use."""
  left = sorted(set(file.tensors) - set(names) - {"rope_freqs.weight"})
  if left:
    raise ValueError(
      f"{file.path} has {len(left)} tensors that the decoder does not know, such as "
      f"{left[:3]}; known in a block: {[*LINEAR, *NORMS]}. It is a variant (mixture "
      "of experts, fused or biased layers): use a dense model of the same family"
    )


def _check_shape(file, config, name):
  shape, expected = gguf_config.tensor(file, name).shape, _shape(config, name)
  if shape != expected:
    raise ValueError(
      f"{file.path}: tensor {name} has shape {shape} where the metadata make it "
      f"{expected}. The file is inconsistent: download or export it again"
    )


def _leaves(file, config) -> dict[tuple[str, ...], str]:
  """Place in the params -> tensor that fills it; of layers its name in a block. The
  largest comes first, while there is most room for its copies."""
  leaves: dict[tuple[str, ...], str] = {("embed",): "token_embd.weight"}
  if not config.tied:
    leaves["head",] = "output.weight"
  leaves["final_norm", "scale"] = "output_norm.weight"
  for name, place in LINEAR.items():
    leaves["layers", *place, "kernel"] = f"{name}.weight"
    if f"blk.0.{name}.bias" in file.tensors:
      leaves["layers", *place, "bias"] = f"{name}.bias"
  for name, place in NORMS.items():
    if f"blk.0.{name}.weight" in file.tensors:
      leaves["layers", *place, "scale"] = f"{name}.weight"
  return leaves


def _fill(file, config, where, name, dtype):
  """The value of a leaf."""
  if where[0] == "layers":
    return _stack(file, config, name, dtype)
  x = _read(file, config, name)
  return np.asarray(x.T if where == ("head",) else x, dtype)


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
  x = gguf_file.read(file, name)
  tensor_files.check_finite(x, file.path, name)
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
