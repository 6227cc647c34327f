"""`DecoderConfig` -> config.json of a Hugging Face model: the way out of a search.

What is written is read back and compared, so that a config that its family's public
class cannot express is an error and not another model.
"""

import dataclasses

from jswarm.formats.hf_config import ROPE_FACTORS, parse
from jswarm.model.architecture import DecoderConfig

_CLASSES = {
  "llama": "LlamaForCausalLM",
  "mistral": "MistralForCausalLM",
  "qwen2": "Qwen2ForCausalLM",
  "qwen3": "Qwen3ForCausalLM",
  "gemma": "GemmaForCausalLM",
  "gemma2": "Gemma2ForCausalLM",
  "gemma3_text": "Gemma3ForCausalLM",
}


def export(config: DecoderConfig, dtype: str) -> dict:
  """config.json for `config`, in fields that transformers 4 and 5 both read.

  Raises:
    ValueError: the family's config class cannot say what `config` says.
  """
  if config.family not in _CLASSES:
    raise ValueError(
      f"family is {config.family!r}, which cannot be exported; known: "
      f"{', '.join(_CLASSES)}."
    )
  fields = (
    _plain_fields(config)
    | _window_fields(config)
    | {
      "architectures": [_CLASSES[config.family]],
      "torch_dtype": dtype,
      "rope_theta": config.rope_theta,
      "rope_scaling": _rope_fields(config.rope_scaling),
    }
  )
  if config.local_rope_theta is not None:
    fields["rope_local_base_freq"] = config.local_rope_theta
  _check_same(config, parse(fields, "the exported config.json"))
  return fields


def _plain_fields(config):
  gemma = config.family.startswith("gemma")
  activation = "silu" if config.activation == "silu" else "gelu_pytorch_tanh"
  fields = {
    "model_type": config.family,
    "vocab_size": config.vocab,
    "hidden_size": config.width,
    "intermediate_size": config.hidden,
    "num_hidden_layers": config.layers,
    "num_attention_heads": config.heads,
    "num_key_value_heads": config.kv_heads,
    "head_dim": config.head_dim,
    "hidden_act": activation,
    "rms_norm_eps": config.norm_eps,
    "tie_word_embeddings": config.tied,
    "max_position_embeddings": config.max_positions,
    "attention_bias": config.o_bias,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
  }
  if gemma:
    fields["hidden_activation"] = activation
  if config.post_norms:
    scalar = config.query_scale**-2
    fields["query_pre_attn_scalar"] = round(scalar) if scalar >= 1 else scalar
    fields["attn_logit_softcapping"] = config.attn_softcap
    fields["final_logit_softcapping"] = config.final_softcap
  return fields


def _window_fields(config):
  sizes = {w for w in config.windows if w is not None}
  fields = {"sliding_window": max(sizes, default=None)}
  if config.family in ("llama", "gemma", "mistral"):
    return fields
  kinds = {True: "full_attention", False: "sliding_attention"}
  fields["layer_types"] = [kinds[w is None] for w in config.windows]
  if config.family.startswith("qwen"):
    fields["use_sliding_window"] = bool(sizes)
    fields["max_window_layers"] = next(
      (i for i, w in enumerate(config.windows) if w is not None), config.layers
    )
  return fields


def _rope_fields(scaling):
  if scaling is None:
    return None
  kind, *factors = scaling
  names = (*ROPE_FACTORS[kind], "original_max_position_embeddings")
  return {"rope_type": kind, **dict(zip(names, factors))}


def _check_same(config, back):
  def close(a, b):
    both = isinstance(a, float) and isinstance(b, float)
    return a == b or (both and abs(a - b) <= 1e-6 * abs(a))

  pairs = zip(dataclasses.asdict(config).items(), dataclasses.asdict(back).values())
  wrong = {name: (a, b) for (name, a), b in pairs if not close(a, b)}
  if wrong:
    raise ValueError(
      f"a {config.family} config.json cannot say (ours, what it would say): {wrong}. "
      "Change the config or its family."
    )
