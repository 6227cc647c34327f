"""What a decoder is made of, as data: between a checkpoint's config and the decoder.

`DecoderConfig` holds every fact in which Llama, SmolLM2, Mistral, Qwen2 / 2.5 / 3 and
Gemma 1 / 2 / 3 (text) differ; numpy only, so that loaders need no device to read it.
"""

from dataclasses import dataclass

import numpy as np

ACTIVATIONS = ("silu", "gelu_tanh")
PROJECTIONS = {
  "q": "attn",
  "k": "attn",
  "v": "attn",
  "o": "attn",
  "gate": "mlp",
  "up": "mlp",
  "down": "mlp",
}
_NO_WINDOW = np.iinfo(np.int32).max


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """Every architectural fact of a decoder; hashable, so it can be a static argument.

  Attributes:
    vocab, width, layers, heads, kv_heads, head_dim, hidden: V, D, L, H, K, h, F.
    activation: of the gated mlp, "silu" or "gelu_tanh".
    norm_eps: of every RMSNorm.
    norm_offset: 1.0 where the stored scale is relative to one (Gemma), else 0.0.
    post_norms: norms after attention and mlp too (Gemma 2 and 3).
    qkv_bias: bias on q, k, v (Qwen2); o_bias: bias on o (some Llamas).
    qk_norm: RMSNorm of every query and key head (Qwen3, Gemma 3).
    attn_softcap, final_softcap: c in c * tanh(x / c), or None (Gemma 2).
    query_scale: factor of the scores; None means 1 / sqrt(head_dim).
    embed_scale: factor of the embeddings (Gemma: sqrt(width)).
    tied: the head is the embedding matrix.
    rope_theta: base of the rotary frequencies.
    rope_scaling: None, ("linear", factor) or ("llama3", factor, low_freq_factor,
      high_freq_factor, original_max_positions).
    local_rope_theta: unscaled base for the layers that have a window (Gemma 3).
    windows: sliding window by layer, None for full attention; () means all full.
    max_positions: context length that the model was made for.
    family: Hugging Face model_type, for export.
  """

  vocab: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  hidden: int
  activation: str = "silu"
  norm_eps: float = 1e-6
  norm_offset: float = 0.0
  post_norms: bool = False
  qkv_bias: bool = False
  o_bias: bool = False
  qk_norm: bool = False
  attn_softcap: float | None = None
  final_softcap: float | None = None
  query_scale: float | None = None
  embed_scale: float = 1.0
  tied: bool = True
  rope_theta: float = 10000.0
  rope_scaling: tuple | None = None
  local_rope_theta: float | None = None
  windows: tuple[int | None, ...] = ()
  max_positions: int = 2048
  family: str = "llama"

  def __post_init__(self):
    if self.query_scale is None:
      object.__setattr__(self, "query_scale", self.head_dim**-0.5)
    if not self.windows:
      object.__setattr__(self, "windows", (None,) * self.layers)
    if len(self.windows) != self.layers:
      raise ValueError(
        f"windows has {len(self.windows)} entries but layers is {self.layers}: "
        "give one window (or None) for each layer"
      )
    if self.activation not in ACTIVATIONS:
      raise ValueError(f"activation is {self.activation!r}; allowed: {ACTIVATIONS}")
    if self.heads % self.kv_heads or self.head_dim % 2:
      raise ValueError(
        f"heads is {self.heads}, kv_heads {self.kv_heads}, head_dim {self.head_dim}: "
        "kv_heads must divide heads and head_dim must be even"
      )


def projection_shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
  """(in, out) of every linear map of a layer, by its name in `PROJECTIONS`."""
  width, hidden = config.width, config.hidden
  queries = config.heads * config.head_dim
  keys = config.kv_heads * config.head_dim
  return {
    "q": (width, queries),
    "k": (width, keys),
    "v": (width, keys),
    "o": (queries, width),
    "gate": (width, hidden),
    "up": (width, hidden),
    "down": (hidden, width),
  }


def rope_frequencies(config: DecoderConfig) -> np.ndarray:
  """Angles per position, float32 [1 or 2, h / 2]; row 1 is for windowed layers.

  Source: RoFormer eq. 15; "linear" is position interpolation; "llama3" as published
  with Llama 3.1 (long waves divided by `factor`, short ones kept, a ramp between).
  """
  powers = np.arange(0, config.head_dim, 2) / config.head_dim
  rows = [_scaled(config.rope_theta**-powers, config.rope_scaling)]
  if config.local_rope_theta is not None:
    rows.append(config.local_rope_theta**-powers)
  return np.stack(rows).astype(np.float32)


def _scaled(frequency, scaling):
  if scaling is None:
    return frequency
  kind, factor, *rest = scaling
  if kind == "linear":
    return frequency / factor
  if kind != "llama3":
    raise ValueError(f"rope_scaling is {kind!r}; allowed: 'linear', 'llama3'")
  low, high, original = rest
  turns = original * frequency / (2 * np.pi)
  keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
  return frequency * (keep + (1 - keep) / factor)


def layer_facts(config: DecoderConfig) -> tuple[np.ndarray, ...]:
  """What differs between layers, int32 [L] each: index, window, row of frequencies."""
  two_bases = config.local_rope_theta is not None
  window = [_NO_WINDOW if w is None else w for w in config.windows]
  local = [two_bases and w is not None for w in config.windows]
  columns = (range(config.layers), window, local)
  return tuple(np.asarray(list(column), np.int32) for column in columns)
