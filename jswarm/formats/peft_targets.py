"""Which modules an adapter_config.json means: the rules of PEFT, on names alone.

A config selects modules by name endings, by one pattern or as "all-linear", fewer by
layer and by exclusion; ranks and alphas of single modules are patterns too. The rules
are those of `check_target_module_exists` and `get_pattern_key` of the peft library
(github.com/huggingface/peft), so that an adapter has the same parts here and there.
Modules are named as in the model that was trained: "model.layers.0.self_attn.q_proj".
"""

import math
import re
from typing import Any

from jswarm.model.architecture import PROJECTIONS, DecoderConfig

# Places of the trunk in a model, and of its head; adapters name modules from the root.
PREFIXES = {
  "model.": "lm_head",
  "model.language_model.": "lm_head",
  "language_model.model.": "language_model.lm_head",
  "": None,
}
# What PEFT takes for each of the decoder's families where a config names no targets.
_DEFAULT_TARGETS = ["q_proj", "v_proj"]


class BadField(ValueError):
  """A field of adapter_config.json that PEFT could not read either."""


def selects(fields: dict[str, Any], module: str) -> bool:
  """Does the config put an adapter on `module`, the name of a linear map?

  Raises:
    BadField: a field that is no name, list of names or pattern.
  """
  targets = fields.get("target_modules")
  targets = _DEFAULT_TARGETS if targets is None else targets
  if _excluded(_names(fields.get("exclude_modules"), "exclude_modules"), module):
    return False
  targets = _names(targets, "target_modules")
  if isinstance(targets, str):
    if targets.lower() == "all-linear":
      return not module.endswith(("lm_head", "embed_tokens"))
    return _compiled(targets, "target_modules").fullmatch(module) is not None
  if module in targets:
    return True  # by its full name, whatever the layers
  return _ends(module, targets) and _in_layers(fields, module)


def modules(config: DecoderConfig, prefix: str) -> list[str]:
  """Every module of a base that an adapter can stand on, the trunk below `prefix`."""
  part = {"attn": "self_attn", "mlp": "mlp"}
  found = [
    f"{prefix}layers.{i}.{part[where]}.{name}_proj"
    for i in range(config.layers)
    for name, where in PROJECTIONS.items()
  ]
  head = PREFIXES[prefix]
  return [*found, f"{prefix}embed_tokens", *([head] if head else [])]


def check_promise(factors, fields, config, folder) -> None:
  """Raises ValueError unless a file has what its config selects, and nothing else.

  PEFT would leave a module that is not there at its random start, and drop a tensor
  that no module wants: both are another expert than the one that was trained.

  Args:
    factors: one of each module, with `name` in the file, `module` and `prefix`.
    fields: of adapter_config.json. config: of the base. folder: of the adapter.
  """
  prefixes = sorted({factor.prefix for factor in factors})
  if len(prefixes) > 1:
    raise ValueError(
      f"{folder}: its tensors lie under {prefixes}; one of them is needed. Export the "
      "adapter again."
    )
  there = {factor.module for factor in factors}
  every = modules(config, prefixes[0])
  lost = [name for name in every if selects(fields, name) and name not in there]
  chosen = f"(target_modules {_shortened(fields.get('target_modules'))})"
  if lost:
    raise ValueError(
      f"{folder}: adapter_config.json {chosen} promises {len(lost)} modules whose "
      f"tensors are missing, such as {lost[:3]}; the file has {len(there)}. The "
      "training was cut or saved in part: save the adapter again, or write into "
      "adapter_config.json what it holds (target_modules, layers_to_transform, "
      "exclude_modules)."
    )
  extra = [f.name for f in factors if not _known(fields, f)]
  if extra:
    raise ValueError(
      f"{folder}: {len(extra)} of its tensors are of modules that adapter_config.json "
      f"{chosen} does not select, such as {sorted(extra)[:3]}. Use the "
      "adapter_config.json that belongs to this file."
    )


def _known(fields, factor):
  """Is the module selected under any of the names that a trunk has had?"""
  rest = factor.module.removeprefix(factor.prefix)
  return any(selects(fields, p + rest) for p in PREFIXES)


def _shortened(targets):
  text = repr(targets)
  return text if len(text) < 200 else f"{text[:200]}..."


class Scales:
  """Rank and scale of single modules; patterns are compiled once.

  Raises:
    BadField: a rank that is no positive whole number, an alpha that is no number.
  """

  def __init__(self, fields: dict[str, Any]):
    self._rank, self._alpha = fields.get("r", 8), fields.get("lora_alpha", 8)
    self._ranks = _patterns(fields, "rank_pattern")
    self._alphas = _patterns(fields, "alpha_pattern")
    self._stabilised = bool(fields.get("use_rslora"))
    for name, value in (("r", self._rank), *((p.pattern, r) for p, r in self._ranks)):
      if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadField(f"rank of {name} is {value!r}; allowed: 1, 2, 3, ...")
    alphas = (("lora_alpha", self._alpha), *((p.pattern, a) for p, a in self._alphas))
    for name, value in alphas:
      number = isinstance(value, (int, float)) and not isinstance(value, bool)
      if not number or not math.isfinite(value):
        raise BadField(f"alpha of {name} is {value!r}; allowed: a finite number")

  def __call__(self, module: str) -> tuple[int, float]:
    """(rank, scale): alpha / rank, or alpha / sqrt(rank) for rsLoRA."""
    rank = _first(self._ranks, module, self._rank)
    alpha = _first(self._alphas, module, self._alpha)
    return rank, alpha / (math.sqrt(rank) if self._stabilised else rank)


def _patterns(fields, name):
  found = fields.get(name) or {}
  if not isinstance(found, dict):
    raise BadField(f"{name} is {found!r}; allowed: an object of patterns")
  whole = lambda pattern: _compiled(rf"(.*\.)?({pattern})$", name)
  return [(whole(pattern), value) for pattern, value in found.items()]


def _first(patterns, module, default):
  """The value of the first pattern that fits, as PEFT takes it, in file order."""
  for pattern, value in patterns:
    if pattern.match(module):
      return value
  return default


def _names(value, name):
  """A pattern, or a list of names; [] for nothing."""
  if value is None or isinstance(value, str):
    return value or []
  if isinstance(value, list) and all(isinstance(item, str) for item in value):
    return value
  raise BadField(f"{name} is {value!r}; allowed: a text or a list of texts")


def _compiled(pattern, name):
  try:
    return re.compile(pattern)
  except re.error as error:
    raise BadField(f"{name} has a pattern {pattern!r} that is none: {error}") from (
      error
    )


def _ends(module, names):
  return any(module.endswith(f".{name}") for name in names)


def _excluded(excluded, module):
  if isinstance(excluded, str):
    return _compiled(excluded, "exclude_modules").fullmatch(module) is not None
  return module in excluded or _ends(module, excluded)


def _in_layers(fields, module):
  layers, patterns = fields.get("layers_to_transform"), fields.get("layers_pattern")
  if layers is None or layers == []:
    return True
  layers = layers if isinstance(layers, list) else [layers]
  if not all(isinstance(i, int) and not isinstance(i, bool) for i in layers):
    raise BadField(f"layers_to_transform is {layers!r}; allowed: numbers of layers")
  patterns = _names(patterns, "layers_pattern")
  patterns = [patterns] if isinstance(patterns, str) else patterns
  before = [rf"(?:^|.*?\.){pattern}" for pattern in patterns] or [r".*?\.[^.]*"]
  for start in before:
    match = _compiled(rf"{start}\.(?P<index>\d+)\.", "layers_pattern").match(module)
    if match:
      return int(match["index"]) in layers
  return False
