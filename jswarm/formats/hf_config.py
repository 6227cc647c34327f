"""config.json of a Hugging Face model -> `DecoderConfig`.

Both spellings are read: the fields of transformers 4 (rope_theta, rope_scaling,
sliding_window_pattern) and those of transformers 5 (rope_parameters by layer type,
layer_types). What a file leaves out has the default of its family's public config
class. What the decoder could not reproduce is refused by name.
"""

import math
import pathlib

from jswarm.core import files
from jswarm.model.architecture import DecoderConfig

_COMMON = {
  "head_dim": None,
  "num_key_value_heads": None,
  "hidden_act": "silu",
  "rms_norm_eps": 1e-6,
  "tie_word_embeddings": False,
  "rope_theta": 10000.0,
  "sliding_window": None,
  "max_position_embeddings": 2048,
}
_QWEN = {"max_position_embeddings": 32768, "max_window_layers": 28}
_GEMMA = {
  "head_dim": 256,
  "hidden_act": "gelu_pytorch_tanh",
  "tie_word_embeddings": True,
  "max_position_embeddings": 8192,
  "query_pre_attn_scalar": 256,
}
_GEMMA2 = {
  "sliding_window": 4096,
  "sliding_window_pattern": 2,
  "attn_logit_softcapping": 50.0,
  "final_logit_softcapping": 30.0,
}
_GEMMA3 = {
  "vocab_size": 262208,
  "num_attention_heads": 8,
  "num_key_value_heads": 4,
  "max_position_embeddings": 131072,
  "sliding_window": 4096,
  "sliding_window_pattern": 6,
  "rope_theta": 1e6,
  "rope_local_base_freq": 10000.0,
}
# model_type -> what a config.json of that type may leave out
_FAMILIES = {
  "llama": {},
  "mistral": {"sliding_window": 4096, "num_key_value_heads": 8},
  "qwen2": _QWEN | {"sliding_window": 4096},
  "qwen3": _QWEN | {"sliding_window": 4096, "head_dim": 128},
  "gemma": _GEMMA,
  "gemma2": _GEMMA | _GEMMA2,
  "gemma3_text": _GEMMA | _GEMMA3,
}
_ACTIVATIONS = {
  "silu": "silu",
  "swish": "silu",
  "gelu_pytorch_tanh": "gelu_tanh",
  "gelu_new": "gelu_tanh",
}
# where null is a value; elsewhere it stands for the default
_NULLABLE = (
  "num_key_value_heads",
  "sliding_window",
  "attn_logit_softcapping",
  "final_logit_softcapping",
)
ROPE_FACTORS = {
  "default": (),
  "linear": ("factor",),
  "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
_REFUSED = ("mlp_bias", "use_bidirectional_attention", "quantization_config")


def read_config(folder) -> DecoderConfig:
  """The architecture that `folder`/config.json describes.

  Raises:
    ValueError: no such file, an unknown model_type, or a field whose value the
      decoder does not have (RoPE type, activation, layer type, ...).
  """
  path = pathlib.Path(folder) / "config.json"
  return parse(files.read_json(path), str(path))


def parse(fields: dict, where: str = "config.json") -> DecoderConfig:
  """`read_config` of an already read file; `where` is for messages."""
  if isinstance(fields.get("text_config"), dict):  # the text half of a Gemma 3
    outer = {k: fields[k] for k in ("tie_word_embeddings",) if k in fields}
    nested = fields["text_config"]
    fields = outer | {"model_type": f"{fields.get('model_type')}_text"} | nested
  family = fields.get("model_type")
  if not isinstance(family, str) or family not in _FAMILIES:
    raise ValueError(
      f"{where}: model_type is {family!r}; known: {', '.join(_FAMILIES)}. Use a model "
      "of one of these families."
    )
  given = {k: v for k, v in fields.items() if v is not None or k in _NULLABLE}
  f = _COMMON | _FAMILIES[family] | given
  for name in _REFUSED:
    if f.get(name):
      raise ValueError(f"{where}: {name} is {f[name]!r}, which is not supported.")
  needed = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
  )
  missing = [name for name in needed if not isinstance(f.get(name), int)]
  if missing:
    raise ValueError(f"{where} lacks {missing}, without which there is no model.")
  try:
    config = _config(family, f, where)
    _check_numbers(config, where)
    return config
  except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
    if isinstance(error, ValueError) and where in str(error):
      raise
    raise ValueError(
      f"{where} describes no model ({type(error).__name__}: {error}). Take the "
      "config.json from the model's page."
    ) from error


def _check_numbers(config, where):
  """Raises ValueError for sizes and scales that no model has."""
  whole = ("vocab", "width", "layers", "heads", "kv_heads", "head_dim", "hidden",
           "max_positions")  # fmt: skip
  for name in (*whole, "norm_eps", "rope_theta"):
    value = getattr(config, name)
    kinds = int if name in whole else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
      raise ValueError(f"{where}: {name} is {value!r}; allowed: numbers above 0.")


def _config(family, f, where):
  gemma, heads = family.startswith("gemma"), f["num_attention_heads"]
  scalar = f["query_pre_attn_scalar"] if family in ("gemma2", "gemma3_text") else None
  every_bias = bool(f.get("attention_bias")) and family != "qwen2"
  theta, scaling, local = _rope(family, f, where)
  return DecoderConfig(
    vocab=f["vocab_size"],
    width=f["hidden_size"],
    layers=f["num_hidden_layers"],
    heads=heads,
    kv_heads=f["num_key_value_heads"] or heads,
    head_dim=f["head_dim"] or f["hidden_size"] // heads,
    hidden=f["intermediate_size"],
    activation=_activation(family, f, where),
    norm_eps=f["rms_norm_eps"],
    norm_offset=1.0 if gemma else 0.0,
    post_norms=family in ("gemma2", "gemma3_text"),
    qkv_bias=every_bias or family == "qwen2",
    o_bias=every_bias,
    qk_norm=family in ("qwen3", "gemma3_text"),
    attn_softcap=f.get("attn_logit_softcapping"),
    final_softcap=f.get("final_logit_softcapping"),
    query_scale=None if scalar is None else scalar**-0.5,
    embed_scale=f["hidden_size"] ** 0.5 if gemma else 1.0,
    tied=bool(f["tie_word_embeddings"]),
    rope_theta=theta,
    rope_scaling=scaling,
    local_rope_theta=local,
    windows=_windows(family, f, where),
    max_positions=f["max_position_embeddings"],
    family=family,
  )


def _activation(family, f, where):
  name = f.get("hidden_activation") or f["hidden_act"]
  if family == "gemma" and name == "gelu":
    return "gelu_tanh"  # the first Gemma files say gelu and were trained with tanh
  if name not in _ACTIVATIONS:
    raise ValueError(
      f"{where}: hidden_act is {name!r}; known: {', '.join(_ACTIVATIONS)}."
    )
  return _ACTIVATIONS[name]


def _windows(family, f, where):
  """Sliding window of every layer, None for full attention."""
  count, window = f["num_hidden_layers"], f["sliding_window"]
  if family in ("llama", "gemma"):
    return (None,) * count
  if family.startswith("qwen") and not f.get("use_sliding_window"):
    window = None
  types = f.get("layer_types")
  if types is None:
    types = [_layer_type(family, f, i) for i in range(count)]
  odd = sorted(set(types) - {"sliding_attention", "full_attention"})
  if odd or len(types) != count:
    raise ValueError(
      f"{where}: layer_types has {len(types)} entries for {count} layers, among them "
      f"{odd}; allowed: sliding_attention, full_attention."
    )
  return tuple(window if kind == "sliding_attention" else None for kind in types)


def _layer_type(family, f, i):
  """What the family's public code does when a file has no layer_types."""
  if family.startswith("qwen"):
    slides = i >= f["max_window_layers"]
  elif family.startswith("gemma"):
    slides = (i + 1) % f["sliding_window_pattern"] != 0
  else:
    slides = True
  return "sliding_attention" if slides else "full_attention"


def _rope(family, f, where):
  """(theta, scaling, theta of the layers with a window or None) of either spelling."""
  rope = f.get("rope_parameters") or f.get("rope_scaling") or {}
  by_type = {k: v for k, v in rope.items() if isinstance(v, dict)}
  full = by_type.get("full_attention", {}) if by_type else rope
  local = by_type.get("sliding_attention", {})
  theta = float(full.get("rope_theta", f["rope_theta"]))
  scaling = _scaling(full, f, where)
  if family != "gemma3_text":
    return theta, scaling, None
  if _scaling(local, f, where) is not None:
    raise ValueError(
      f"{where}: scaled RoPE in sliding layers is not supported: {local}."
    )
  return theta, scaling, float(local.get("rope_theta", f["rope_local_base_freq"]))


def _scaling(rope, f, where):
  kind = rope.get("rope_type", rope.get("type", "default"))
  part = rope.get("partial_rotary_factor", f.get("partial_rotary_factor", 1))
  if kind not in ROPE_FACTORS or part != 1:
    raise ValueError(
      f"{where}: RoPE type is {kind!r} over {part} of the head; known: "
      f"{', '.join(ROPE_FACTORS)}, over all of it."
    )
  names = ROPE_FACTORS[kind]
  missing = [name for name in names if name not in rope]
  if missing:
    raise ValueError(f"{where}: RoPE of type {kind} lacks {missing}; found {rope}.")
  if kind == "default":
    return None
  factors = tuple(float(rope[name]) for name in names)
  if kind == "linear":
    return (kind, *factors)
  original = rope.get("original_max_position_embeddings", f["max_position_embeddings"])
  return (kind, *factors, int(original))
