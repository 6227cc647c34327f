"""Tiny random models of every family, as torch modules and as the GGUF files of them.

The files are written by the `gguf` package with the changes that llama.cpp makes on
export: permuted q and k for llama, norm weights plus one for Gemma.
"""

import gguf
import numpy as np

V, D, F, LAYERS, CONTEXT = 96, 64, 96, 3, 128
TOKENS = ["t", "1", "t1", *(f"t{i}" for i in range(2, V - 1))]
THETA = 50_000.0

_ROPE = {"rope_type": "default", "rope_theta": THETA}
_LLAMA3 = dict(
  rope_type="llama3",
  rope_theta=THETA,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8192,
)
_COMMON = dict(
  vocab_size=V,
  hidden_size=D,
  intermediate_size=F,
  num_hidden_layers=LAYERS,
  max_position_embeddings=CONTEXT,
  rms_norm_eps=1e-5,
  rope_parameters=_ROPE,
  attn_implementation="eager",
  bos_token_id=0,
  eos_token_id=1,
  pad_token_id=None,
)
_GROUPED = dict(num_attention_heads=4, num_key_value_heads=2)
# The head size for which transformers' own reader finds Gemma's query scale right.
_GEMMA = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=256)

# case -> (architecture in the file, transformers config class, its arguments)
CASES = {
  "llama": ("llama", "LlamaConfig", {**_GROUPED, "tie_word_embeddings": False}),
  "llama3": (
    "llama",
    "LlamaConfig",
    {
      **_GROUPED,
      "tie_word_embeddings": True,
      "rope_parameters": _LLAMA3,
      "attention_bias": True,
    },
  ),
  "qwen2": ("qwen2", "Qwen2Config", {**_GROUPED, "tie_word_embeddings": True}),
  # 128 is the only head size with which transformers reads Qwen3 files.
  "qwen3": ("qwen3", "Qwen3Config", {**_GROUPED, "head_dim": 128}),
  "gemma": ("gemma", "GemmaConfig", {**_GROUPED, "head_dim": 32}),
  "gemma2": ("gemma2", "Gemma2Config", {**_GEMMA, "sliding_window": 8}),
  "gemma3": (
    "gemma3",
    "Gemma3TextConfig",
    {
      **_GEMMA,
      "num_hidden_layers": 7,
      "sliding_window": 8,
      "rope_parameters": {
        "full_attention": _ROPE,
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
      },
    },
  ),
}
_NAMES = {  # part of a Hugging Face name -> part of a GGUF name
  "model.embed_tokens": "token_embd",
  "model.norm": "output_norm",
  "lm_head": "output",
  "model.layers": "blk",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
  "input_layernorm": "attn_norm",
}
_PLAIN_NORM = {"post_attention_layernorm": "ffn_norm"}
_FOUR_NORMS = {
  "post_attention_layernorm": "post_attention_norm",
  "pre_feedforward_layernorm": "ffn_norm",
  "post_feedforward_layernorm": "post_ffw_norm",
}


def model(case):
  """A random torch model in float32, weights large enough for distinct logits."""
  import torch
  import transformers

  _, config_class, changes = CASES[case]
  config = getattr(transformers, config_class)(**{**_COMMON, **changes})
  torch.manual_seed(len(case))
  built = transformers.AutoModelForCausalLM.from_config(config).float().eval()
  with torch.no_grad():
    for parameter in built.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  return built


def write(path, case, built, quantisation="F32"):
  """Writes `built` as GGUF and sets its weights to what the quantised file holds."""
  import torch

  architecture, _, changes = CASES[case]
  writer = gguf.GGUFWriter(path, architecture)
  _write_metadata(writer, built.config, changes)
  write_vocabulary(writer)
  kind = gguf.GGMLQuantizationType[quantisation]
  with torch.no_grad():
    for name, parameter in built.named_parameters():
      x = _exported(case, name, parameter.numpy(), built.config)
      if x.ndim == 1:
        writer.add_tensor(_name(case, name), x)
        continue
      packed = gguf.quants.quantize(x, kind)
      writer.add_tensor(_name(case, name), packed, raw_dtype=kind)
      stored = gguf.quants.dequantize(packed, kind).reshape(x.shape)
      stored = _exported(case, name, stored, built.config, undo=True)
      parameter.copy_(torch.from_numpy(np.array(stored)))
  if case == "llama3":
    writer.add_tensor("rope_freqs.weight", _divisors())
  finish(writer)


def finish(writer):
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def write_vocabulary(writer):
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre("gpt-2")
  writer.add_token_list(TOKENS)
  writer.add_token_merges(["t 1"])


def _write_metadata(writer, config, changes):
  heads = config.num_attention_heads
  writer.add_context_length(CONTEXT)
  writer.add_embedding_length(D)
  writer.add_block_count(config.num_hidden_layers)
  writer.add_feed_forward_length(F)
  writer.add_head_count(heads)
  writer.add_head_count_kv(config.num_key_value_heads)
  writer.add_layer_norm_rms_eps(1e-5)
  writer.add_rope_freq_base(THETA)
  writer.add_key_length(changes.get("head_dim", D // heads))
  if "sliding_window" in changes:
    writer.add_sliding_window(changes["sliding_window"])
  if getattr(config, "final_logit_softcapping", None):
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_attn_logit_softcapping(config.attn_logit_softcapping)


def _name(case, name):
  norms = _FOUR_NORMS if case in ("gemma2", "gemma3") else _PLAIN_NORM
  for theirs, ours in {**_NAMES, **norms}.items():
    name = name.replace(f"{theirs}.", f"{ours}.")
  return name


def _exported(case, name, x, config, undo=False):
  """What llama.cpp stores for a Hugging Face tensor, or the reverse."""
  if case.startswith("gemma") and name.endswith("norm.weight"):
    return x - 1 if undo else x + 1
  if not case.startswith("llama") or not ("q_proj" in name or "k_proj" in name):
    return x
  heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
  half = x.shape[0] // heads // 2
  groups = (heads, half, 2) if undo else (heads, 2, half)
  return np.ascontiguousarray(
    x.reshape(*groups, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
  )


def _divisors():
  """Llama 3.1's rotary divisors as llama.cpp computes them on export."""
  size = D // _GROUPED["num_attention_heads"]
  wavelengths = 2 * np.pi * THETA ** (np.arange(0, size, 2) / size)
  smooth = (8192 / wavelengths - 1.0) / (4.0 - 1.0)
  middle = 1 / ((1 - smooth) / 8.0 + smooth)
  out = np.where(wavelengths < 8192 / 4, 1.0, middle)
  return np.where(wavelengths > 8192 / 1, 8.0, out).astype(np.float32)
