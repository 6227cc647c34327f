"""Hugging Face folders <-> decoder trees: where base models enter and leave.

Names and shapes are compared with what the config implies before any array is made,
so a wrong, damaged or foreign checkpoint costs milliseconds and its message shows
both sides. Tensors are then read one at a time into the stacked `[L, ...]` leaves.
numpy and safetensors only.
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

from absl import logging
import jax.numpy as jnp
import numpy as np

from jswarm.core import files
from jswarm.formats import hf_export, tensor_files
from jswarm.formats.hf_config import read_config as read_config
from jswarm.formats.peft_adapter import adapter_base as adapter_base
from jswarm.formats.peft_adapter import load_adapter as load_adapter
from jswarm.formats.peft_adapter import save_adapter as save_adapter
from jswarm.model.architecture import PROJECTIONS, DecoderConfig, projection_shapes

_ROWS = 4096  # compared at a time
_BUFFERS = ("rotary_emb.inv_freq",)  # in old files; computed, not learnt
_PREFIXES = ("model.", "language_model.model.", "model.language_model.", "")


class _Leaf(NamedTuple):
  """A leaf of the params and the tensor (one a layer, if stacked) that fills it."""

  path: tuple[str, ...]  # in params
  name: str  # below the prefix; with {i} for the layer
  shape: tuple[int, ...]  # of one tensor, as in the file
  flip: bool = False  # the file has [out, in], the decoder [in, out]


def check_base(folder, allow_pickle: bool = False) -> DecoderConfig:
  """The config of a base whose tensors are all there, whole and readable.

  Reads headers alone. Arguments and errors are those of `load_base`.
  """
  config, *_ = _open(folder, allow_pickle)
  return config


def load_base(
  folder, dtype=jnp.float32, allow_pickle: bool = False, place=None
) -> tuple[DecoderConfig, Any]:
  """Reads a base model.

  Args:
    folder: with config.json and model.safetensors, or shards and their index.
    dtype: of every leaf.
    allow_pickle: also read .bin files (needs torch); they can run any code.
    place: `place(path, array)` puts a leaf where it belongs, so that no more than one
      leaf is ever on the host; None: on the default device.

  Returns:
    (config, params), params as `Decoder.init` would make them.

  Raises:
    ValueError: a file is missing or damaged; tensors are missing, left over or of
      other shapes than the config says.
  """
  config, tensors, prefix, leaves = _open(folder, allow_pickle)
  params: dict = {}
  for leaf in leaves:
    value = _fill(tensors, prefix, leaf, config, dtype)
    _put(params, leaf.path, place(leaf.path, value) if place else jnp.asarray(value))
  return config, params


def leaf_reader(folder, dtype=jnp.float32, allow_pickle: bool = False):
  """read(path) -> array [...]: one leaf of a base, such as ("layers", "attn", "q",
  "kernel"), read when it is asked for. Arguments and errors are those of `load_base`.
  """
  config, tensors, prefix, leaves = _open(folder, allow_pickle)
  by_path = {leaf.path: leaf for leaf in leaves}
  return lambda path: _fill(tensors, prefix, by_path[path], config, dtype)


def save_base(folder, config: DecoderConfig, params) -> None:
  """Writes config.json and model.safetensors; transformers reads them back.

  The tokenizer is not part of it. Each file appears whole or not at all.

  Args:
    folder: made if needed.
    config, params: of one model; layers stacked, or laid out by `decoder.unstack`.

  Raises:
    ValueError: the config cannot be said in its family's config.json.
  """
  dtype = str(params["embed"].dtype)
  fields = hf_export.export(config, dtype)
  arrays = {}
  for leaf in _leaves(config):
    for i, x in enumerate(_tensors_of(params, leaf)):
      arrays[_tensor_name("model.", leaf, i)] = x
  folder = pathlib.Path(folder)
  tensor_files.write_safetensors(folder / "model.safetensors", arrays)
  files.write_json(folder / "config.json", fields)


def _tensors_of(params, leaf):
  """What a leaf is in the file: a tensor, or one a layer."""
  turn = lambda x: x.T if leaf.flip else x
  if leaf.path[0] != "layers":
    return [turn(np.asarray(_get(params, leaf.path)))]
  if not isinstance(params["layers"], list):
    return [turn(x) for x in np.asarray(_get(params, leaf.path))]
  *module, last = leaf.path[1:]
  if last == "kernel":  # it lies as in the file
    return [np.asarray(_get(each, [*module, "kernel_t"])) for each in params["layers"]]
  return [np.asarray(_get(each, leaf.path[1:])) for each in params["layers"]]


def save_whole(
  folder, config: DecoderConfig, params, tokenizer, stops: Sequence[int]
) -> None:
  """`save_base` with what a model needs beside its weights to answer alone.

  Args:
    tokenizer: anything with `save_pretrained`.
    stops: tokens that end its replies; they may be more than its tokenizer tells.
  """
  save_base(folder, config, params)
  tokenizer.save_pretrained(folder)
  path = pathlib.Path(folder) / "generation_config.json"
  files.write_json(path, {"eos_token_id": list(stops)})


def _open(folder, allow_pickle):
  """(config, tensors, prefix, leaves) of a base, checked; no tensor is read yet."""
  config = read_config(folder)
  tensors = tensor_files.open_folder(folder, "model", allow_pickle)
  prefix = _prefix(tensors, folder)
  config = _with_own_head(config, tensors, prefix, folder)
  leaves = _leaves(config)
  _check(tensors, prefix, leaves, config, folder)
  return config, tensors, prefix, leaves


def _with_own_head(config, tensors, prefix, folder):
  """Untied where the file has a head that is not its embeddings, as in transformers 5.

  Whatever config.json says: the weights that were trained are those in the file.
  """
  untied = dataclasses.replace(config, tied=False)
  name = _tensor_name(prefix, _leaves(untied)[-1], 0)
  embed = tensors[f"{prefix}embed_tokens.weight"]
  if not config.tied or name not in tensors or _same(tensors[name], embed):
    return config
  _warn_head(str(folder), name)
  return untied


def _same(one, other) -> bool:
  """Do two tensors hold the same numbers? Read in parts, for they are large."""
  if one.shape != other.shape:
    return False
  a, b = one.read(), other.read()
  parts = range(0, len(a), _ROWS)
  return all(np.array_equal(a[i : i + _ROWS], b[i : i + _ROWS]) for i in parts)


@functools.cache  # a base is opened to be checked and to be read
def _warn_head(folder, name):
  logging.warning(
    "%s: config.json ties the head to the embeddings (tie_word_embeddings), but the"
    " file has another head, %s: it is used. Set tie_word_embeddings to false if that"
    " is meant, or take lm_head out of the file if not",
    folder,
    name,
  )


def _leaves(config) -> list[_Leaf]:
  """Every leaf of the params of `config`, in the order of the forward pass."""
  vocab, width = config.vocab, config.width
  leaves = [_Leaf(("embed",), "embed_tokens.weight", (vocab, width))]
  leaves += [
    _Leaf(("layers", ours, "scale"), f"layers.{{i}}.{theirs}.weight", (width,))
    for ours, theirs in _norm_names(config).items()
  ]
  biased = set("qkv" * config.qkv_bias + "o" * config.o_bias)
  for name, (inside, outside) in projection_shapes(config).items():
    part = PROJECTIONS[name]
    theirs = f"layers.{{i}}.{'self_attn' if part == 'attn' else part}.{name}_proj"
    path = ("layers", part, name)
    leaves.append(_Leaf((*path, "kernel"), f"{theirs}.weight", (outside, inside), True))
    if name in biased:
      leaves.append(_Leaf((*path, "bias"), f"{theirs}.bias", (outside,)))
  for name in ("q_norm", "k_norm") * config.qk_norm:
    theirs = f"layers.{{i}}.self_attn.{name}.weight"
    leaves.append(_Leaf(("layers", "attn", name, "scale"), theirs, (config.head_dim,)))
  leaves.append(_Leaf(("final_norm", "scale"), "norm.weight", (width,)))
  if not config.tied:
    leaves.append(_Leaf(("head",), "lm_head.weight", (vocab, width), True))
  return leaves


def _norm_names(config):
  if not config.post_norms:
    return {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
  return {
    "attn_norm": "input_layernorm",
    "post_attn_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "post_mlp_norm": "post_feedforward_layernorm",
  }


def _tensor_name(prefix, leaf, i):
  if leaf.path == ("head",):  # beside the trunk, not in it
    return {"language_model.model.": "language_model."}.get(prefix, "") + leaf.name
  return prefix + leaf.name.format(i=i)


def _expected(prefix, leaves, config):
  """Name in the file -> shape."""
  count = lambda leaf: config.layers if leaf.path[0] == "layers" else 1
  return {
    _tensor_name(prefix, leaf, i): leaf.shape
    for leaf in leaves
    for i in range(count(leaf))
  }


def _prefix(tensors, folder):
  for prefix in _PREFIXES:
    if f"{prefix}embed_tokens.weight" in tensors:
      return prefix
  raise ValueError(
    f"{folder} has no tensor embed_tokens.weight (under {_PREFIXES}); it has "
    f"{len(tensors)} tensors such as {sorted(tensors)[:5]}. Give a causal language "
    "model."
  )


def _check(tensors, prefix, leaves, config, folder):
  """Raises ValueError unless the file holds exactly the trunk that config implies."""
  expected = _expected(prefix, leaves, config)
  say = lambda names: f"{len(names)}, such as {sorted(names)[:3]}"
  missing = set(expected) - set(tensors)
  if missing:
    raise ValueError(
      f"{folder}: tensors that its config.json ({config.family}, {config.layers} "
      f"layers, tied={config.tied}) needs are missing: {say(missing)}. It has "
      f"{say(tensors)}. Use the config.json that belongs to these weights."
    )
  wrong = {
    name: f"found {list(tensors[name].shape)}, config.json says {list(shape)}"
    for name, shape in expected.items()
    if tensors[name].shape != shape
  }
  if wrong:
    name = min(wrong)
    raise ValueError(
      f"{tensors[name].file}: {len(wrong)} tensors have other shapes than config.json "
      f"implies: {name}: {wrong[name]}. Use the config.json that belongs to these "
      "weights."
    )
  trunk = {n for n in tensors if n.startswith(f"{prefix}layers.")}
  extra = {n for n in trunk - set(expected) if not n.endswith(_BUFFERS)}
  if extra:
    raise ValueError(
      f"{folder}: tensors that a {config.family} of {config.layers} layers does not "
      f"have: {say(extra)}. Use the config.json that belongs to these weights."
    )
  for name in expected:
    tensors[name].read()  # maps the file without reading it, or refuses the dtype


def _fill(tensors, prefix, leaf, config, dtype):
  """The value of a leaf; stacked leaves are written layer by layer in place."""
  turn = lambda x: x.T if leaf.flip else x
  if leaf.path[0] != "layers":
    name = _tensor_name(prefix, leaf, 0)
    with np.errstate(over="ignore"):  # what is too large is infinite: found below
      value = np.array(turn(tensors[name].read()), dtype, order="C")  # off the file
    tensor_files.check_finite(value, tensors[name].file, name)
    return value
  shape = leaf.shape[::-1] if leaf.flip else leaf.shape
  stacked = np.empty((config.layers, *shape), dtype)
  for i in range(config.layers):
    name = _tensor_name(prefix, leaf, i)
    with np.errstate(over="ignore"):  # what is too large is infinite: found below
      stacked[i] = turn(tensors[name].read())
    tensor_files.check_finite(stacked[i], tensors[name].file, name)
  return stacked


def _put(tree, path, value):
  for name in path[:-1]:
    tree = tree.setdefault(name, {})
  tree[path[-1]] = value


def _get(tree, path):
  for name in path:
    tree = tree[name]
  return tree
