"""PEFT LoRA adapters <-> factors {"q": {"A": [L, D, r], "B": [L, r, out]}, ...}.

The factors are what particle swarm optimization moves, so the scale alpha / r is
folded into B: A @ B is the whole update, whatever r and alpha the file had. What PEFT
can do and this form cannot (DoRA, biases, other modules, ...) is refused by name: a
silently different expert is worse than none.
"""

import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from jswarm.core import files
from jswarm.formats import peft_targets, tensor_files
from jswarm.model.architecture import PROJECTIONS, DecoderConfig, projection_shapes

_PREFIX = "|".join(re.escape(prefix) for prefix in peft_targets.PREFIXES)
_NAME = re.compile(
  rf"base_model\.model\.(?P<module>(?P<prefix>{_PREFIX})"
  r"layers\.(?P<layer>\d+)\.(?P<part>self_attn|mlp)\.(?P<name>\w+)_proj)"
  r"\.lora_(?P<factor>[AB])(?:\.default)?\.weight"
)
# Fields of LoraConfig under which A @ B * scale is not the whole update.
_REFUSED = (
  "use_dora",
  "lora_bias",
  "modules_to_save",
  "fan_in_fan_out",
  "use_qalora",
  "alora_invocation_tokens",
  "layer_replication",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "arrow_config",
  "kasa_config",
  "monteclora_config",
  "enable_lora",
)
_SWITCHES = ("use_rslora",)  # what else a config may have of the form use_...
# Initialisations that leave the base as it is; PiSSA, OLoRA, LoftQ ... change it.
_INITS = (True, False, None, "gaussian", "orthogonal", "eva")


class _Factor(NamedTuple):
  """One of the two tensors of a module."""

  tensor: tensor_files.Tensor
  name: str  # in the file
  module: str  # from the root of the trained model
  prefix: str  # where its trunk is


def adapter_base(folder) -> str:
  """`base_model_name_or_path` of an adapter, "" if it names none."""
  return _text(folder, "base_model_name_or_path")


def adapter_revision(folder) -> str:
  """`revision` of the base that an adapter names, "" for none."""
  return _text(folder, "revision")


def _text(folder, field):
  where = pathlib.Path(folder) / "adapter_config.json"
  value = files.read_json(where).get(field) or ""
  if not isinstance(value, str):
    raise ValueError(f"{where}: {field} is {value!r}; allowed: a text.")
  return value


def load_adapter(folder, config: DecoderConfig, allow_pickle: bool = False) -> dict:
  """Reads a PEFT LoRA adapter for a base of architecture `config`.

  Args:
    folder: with adapter_config.json and adapter_model.safetensors.
    config: of the base that the adapter will be added to.
    allow_pickle: also read adapter_model.bin (needs torch); it can run any code.

  Returns:
    {projection: {"A": float32 [L, in, r], "B": float32 [L, r, out]}} for the
    projections of the file, one r for all (smaller ranks padded with zeros), zeros in
    layers that it leaves alone. B holds the scale: alpha / r, or alpha / sqrt(r) for
    rsLoRA.

  Raises:
    ValueError: a file is missing or damaged, the adapter is of a kind that A @ B does
      not express, or it was made for another base.
  """
  where = pathlib.Path(folder) / "adapter_config.json"
  fields = files.read_json(where)
  _check_kind(fields, folder)
  tensors = tensor_files.open_folder(folder, "adapter_model", allow_pickle)
  modules = _modules(tensors, fields, folder)
  try:
    peft_targets.selects(fields, "layers.0")  # raises for targets that are no names
    scales = _scales(modules, fields)
    for (name, layer), pair in modules.items():
      rank, _ = scales[name, layer]
      _check_fit(name, layer, pair, rank, fields, config, folder)
    _check_layers(modules, fields, config, folder)
    factors = [pair["A"] for pair in modules.values()]
    peft_targets.check_promise(factors, fields, config, folder)
  except peft_targets.BadField as error:
    raise ValueError(f"{where}: {error}. Export the adapter again.") from error
  return _factors(modules, scales, config)


def _scales(modules, fields):
  """(projection, layer) -> declared rank and scale."""
  scale = peft_targets.Scales(fields)
  return {place: scale(pair["A"].module) for place, pair in modules.items()}


def _factors(modules, scales, config):
  rank = max(pair["A"].tensor.shape[0] for pair in modules.values())
  shapes, adapter = projection_shapes(config), {}
  for name in sorted({name for name, _ in modules}):
    inside, outside = shapes[name]
    adapter[name] = {
      "A": np.zeros((config.layers, inside, rank), np.float32),
      "B": np.zeros((config.layers, rank, outside), np.float32),
    }
  for (name, layer), pair in modules.items():
    r, scale = scales[name, layer]
    adapter[name]["A"][layer, :, :r] = _read(pair["A"]).T
    adapter[name]["B"][layer, :r] = _read(pair["B"]).T * np.float32(scale)
  return adapter


def _read(factor):
  """A factor in float32; every number of it is one."""
  value = factor.tensor.read().astype(np.float32)
  tensor_files.check_finite(value, factor.tensor.file, factor.name)
  return value


def _check_kind(fields, folder):
  where = f"{folder}/adapter_config.json"
  kind = fields.get("peft_type")
  if kind != "LORA":
    raise ValueError(f"{where}: peft_type is {kind!r}; allowed: 'LORA'.")
  found = {name: fields[name] for name in _REFUSED if fields.get(name)}
  new = [n for n in fields if n.startswith("use_") and n not in _SWITCHES]
  found |= {name: fields[name] for name in new if fields[name]}
  if fields.get("bias", "none") != "none":
    found["bias"] = fields["bias"]
  init = fields.get("init_lora_weights", True)
  if init not in _INITS:
    found["init_lora_weights"] = init
  if found:
    raise ValueError(
      f"{where}: {found} is not supported: only adapters that are nothing but A @ B on "
      f"the linear maps {_targets(PROJECTIONS)} are. Merge it into its base with peft "
      "(merge_and_unload, save_pretrained) and give the result as a full model."
    )


def _targets(names):
  return [f"{name}_proj" for name in names]


def _modules(tensors, fields, folder):
  """(projection, layer) -> {"A": _Factor, "B": _Factor}."""
  modules, unknown = {}, []
  for name, tensor in tensors.items():
    match = _NAME.fullmatch(name)
    part = match and match["part"].removeprefix("self_")
    if not match or PROJECTIONS.get(match["name"]) != part:
      unknown.append(name)
      continue
    pair = modules.setdefault((match["name"], int(match["layer"])), {})
    factor = _Factor(tensor, name, match["module"], match["prefix"])
    if match["factor"] in pair:
      raise ValueError(
        f"{folder} has two tensors for one factor: {pair[match['factor']].name} and "
        f"{name}. Export the adapter again, alone."
      )
    pair[match["factor"]] = factor
  if unknown or not modules:
    raise ValueError(
      f"{folder} has {len(unknown)} tensors that are no LoRA factors of "
      f"{_targets(PROJECTIONS)}: {sorted(unknown)[:3]} (target_modules "
      f"{fields.get('target_modules')}). Adapters of embeddings, heads or other "
      "modules are not supported: merge it into its base and give that as a full model."
    )
  alone = [factor.name for p in modules.values() if len(p) < 2 for factor in p.values()]
  if alone:
    raise ValueError(
      f"{folder}: {sorted(alone)[:3]} have no partner (lora_A needs lora_B). Export "
      "the adapter again."
    )
  return modules


def _check_fit(name, layer, pair, rank, fields, config, folder):
  """Raises ValueError unless both factors of one module fit the base."""
  inside, outside = projection_shapes(config)[name]
  for factor, shape in (("A", (rank, inside)), ("B", (outside, rank))):
    found = pair[factor].tensor.shape
    if 0 in found:
      raise ValueError(
        f"{pair[factor].tensor.file}: {pair[factor].name} is empty ({list(found)}), as "
        "sharded training (ZeRO-3, FSDP) saves what it has not gathered: gather the "
        "weights and save the adapter again."
      )
    if found != shape or layer >= config.layers:
      raise ValueError(
        f"{pair[factor].tensor.file}: {pair[factor].name} is {list(found)}, but the "
        f"base ({_describe(config)}) with rank {rank} needs {list(shape)} in layers 0 "
        f"to {config.layers - 1}. {_made_for(fields)}"
      )


def _check_layers(modules, fields, config, folder):
  """An adapter of all layers of a shallower model is for another base."""
  layers = {layer for _, layer in modules}
  targets = fields.get("target_modules")
  some = (
    isinstance(targets, str)  # a pattern
    or any("." in target for target in targets or ())
    or fields.get("layers_to_transform") is not None
    or fields.get("exclude_modules")
  )
  if not some and max(layers) + 1 < config.layers:
    raise ValueError(
      f"{folder}: its tensors reach layer {max(layers)}, but the base "
      f"({_describe(config)}) goes to {config.layers - 1} and adapter_config.json "
      f"selects no layers (layers_to_transform). {_made_for(fields)}"
    )


def _describe(config):
  return f"{config.family}, {config.layers} layers of width {config.width}"


def _made_for(fields):
  base = fields.get("base_model_name_or_path") or "an unnamed base"
  return f"The adapter was made for {base}: use it with that base."


def save_adapter(
  folder,
  adapter: dict[str, Any],
  base_name: str,
  config: DecoderConfig,
  dtype=np.float32,
) -> None:
  """Writes factors as a PEFT adapter: lora_alpha = r, so that its scale is one.

  Args:
    folder: made if needed.
    adapter: {projection: {"A": [L, in, r], "B": [L, r, out]}}, one r for all.
    base_name: written as base_model_name_or_path.
    config: of the base.
    dtype: of the file.

  Raises:
    ValueError: factors that do not fit the base, or of different ranks.
  """
  ranks = {name: np.shape(f["A"])[-1] for name, f in adapter.items()}
  if len(set(ranks.values())) != 1:
    raise ValueError(f"ranks are {ranks}; one for all is needed: pad them with zeros.")
  rank = next(iter(ranks.values()))
  tensors = {}
  for name, (inside, outside) in projection_shapes(config).items():
    if name not in adapter:
      continue
    a, b = (np.asarray(adapter[name][k], dtype) for k in "AB")
    need = ((config.layers, inside, rank), (config.layers, rank, outside))
    if (a.shape, b.shape) != need:
      raise ValueError(
        f"factors of {name} are {a.shape}, {b.shape}; the base ({_describe(config)}) "
        f"needs {need[0]}, {need[1]}."
      )
    part = "self_attn" if PROJECTIONS[name] == "attn" else "mlp"
    for i in range(config.layers):
      stem = f"base_model.model.model.layers.{i}.{part}.{name}_proj.lora"
      tensors[f"{stem}_A.weight"] = a[i].T
      tensors[f"{stem}_B.weight"] = b[i].T
  folder = pathlib.Path(folder)
  tensor_files.write_safetensors(folder / "adapter_model.safetensors", tensors)
  files.write_json(
    folder / "adapter_config.json", _adapter_fields(adapter, rank, base_name)
  )


def _adapter_fields(adapter, rank, base_name):
  return {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": base_name,
    "target_modules": sorted(_targets(adapter)),
    "r": rank,
    "lora_alpha": rank,
    "lora_dropout": 0.0,
    "bias": "none",
    "inference_mode": True,
  }
