"""Every family against the public implementation: transformers and peft are oracles.

Models are tiny and random; windows are shorter than the text, so that they matter.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.formats import hf_config, hf_model, peft_adapter
from jswarm.model import decoder as decoder_lib
from jswarm.model import lora

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft and transformers

SIZE = dict(
  vocab_size=101,
  hidden_size=64,
  intermediate_size=96,
  num_hidden_layers=4,
  num_attention_heads=4,
  num_key_value_heads=2,
  max_position_embeddings=256,
  bos_token_id=None,
  eos_token_id=None,
  pad_token_id=None,
)
WIDE = dict(head_dim=24)  # not hidden_size / num_attention_heads
LLAMA3 = dict(
  rope_type="llama3",
  rope_theta=500.0,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=16,
)
SLIDING = ["sliding_attention", "full_attention"] * 2
GEMMA3_ROPE = dict(
  sliding_attention=dict(rope_type="default", rope_theta=100.0),
  full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1000.0),
)
FAMILIES = {
  "llama": ("Llama", {}),
  "llama_tied_and_biased": (
    "Llama",
    dict(tie_word_embeddings=True, attention_bias=True),
  ),
  "llama3_rope": ("Llama", dict(rope_parameters=LLAMA3)),
  "linear_rope": (
    "Llama",
    dict(rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=100.0)),
  ),
  "mistral": ("Mistral", dict(sliding_window=7)),
  "qwen2": (
    "Qwen2",
    dict(use_sliding_window=True, sliding_window=7, max_window_layers=2),
  ),
  "qwen3": ("Qwen3", WIDE),
  "gemma": ("Gemma", WIDE),
  "gemma2": (
    "Gemma2",
    dict(
      **WIDE,
      sliding_window=7,
      query_pre_attn_scalar=10,
      attn_logit_softcapping=2.0,
      final_logit_softcapping=3.0,
    ),
  ),
  "gemma3": (
    "Gemma3Text",
    dict(
      **WIDE,
      sliding_window=7,
      query_pre_attn_scalar=10,
      layer_types=SLIDING,
      rope_parameters=GEMMA3_ROPE,
    ),
  ),
}
PROMPTS = ([3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26], [27, 18, 28, 1, 8])
LORA = dict(r=4, lora_alpha=12, lora_dropout=0.0, task_type="CAUSAL_LM")
ALL = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]


def make_model(name, seed=0):
  """A random transformers model whose norms and biases are not trivial either."""
  torch.manual_seed(seed)
  kind, options = FAMILIES[name]
  config = getattr(transformers, f"{kind}Config")(**(SIZE | options))
  kind = kind.removesuffix("Text")
  model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
  with torch.no_grad():
    for weight in model.parameters():
      spread = 0.15 if weight.ndim == 2 else 0.3
      weight.add_(spread * torch.randn_like(weight))
  return model


def reference_logits(model, rows):
  with torch.no_grad():
    return [model(torch.tensor([row])).logits[0].float().numpy() for row in rows]


def right_padded(rows):
  width = max(map(len, rows))
  tokens = np.zeros((len(rows), width), np.int32)
  positions = np.full((len(rows), width), -1, np.int32)
  for b, row in enumerate(rows):
    tokens[b, : len(row)] = row
    positions[b, : len(row)] = np.arange(len(row))
  return jnp.asarray(tokens), jnp.asarray(positions)


def our_logits(config, params, rows, **adapters):
  tokens, positions = right_padded(rows)
  decoder = decoder_lib.make_decoder(config)
  logits, _ = jax.jit(decoder.apply)(params, tokens, positions, **adapters)
  return [np.asarray(logits[b, : len(row)]) for b, row in enumerate(rows)]


def greedy(config, params, rows, count):
  """`count` new tokens of every row, through the cache, prompts right-padded."""
  decoder = decoder_lib.make_decoder(config)
  tokens, positions = right_padded(rows)
  lengths = jnp.asarray([len(row) for row in rows])
  slots = tokens.shape[1] + count
  cache = decoder_lib.empty_cache(config, len(rows), slots, jnp.float32)

  @jax.jit
  def run(params):
    logits, filled = decoder.apply(params, tokens, positions, cache, at=lengths - 1)

    def step(carry, t):
      logits, cache = carry
      token = jnp.argmax(logits, axis=-1)[:, None]
      logits, cache = decoder.apply(params, token, (lengths + t)[:, None], cache)
      return (logits[:, 0], cache), token[:, 0]

    return jax.lax.scan(step, (logits, filled), jnp.arange(count))[1].T

  return np.asarray(run(params))


def assert_greedy(model, prompt, continuation):
  """By induction, without a loop: every token is the best after those before it."""
  logits = reference_logits(model, [[*prompt, *continuation[:-1]]])[0]
  best = logits[len(prompt) - 1 :].argmax(axis=-1)
  np.testing.assert_array_equal(continuation, best)


def assert_close(ours, theirs, atol):
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def assert_same_logits(config, params, model):
  ours = our_logits(config, params, PROMPTS)
  assert_close(ours, reference_logits(model, PROMPTS), 1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_64_greedy_tokens_are_those_of_transformers(name, tmp_path):
  model = make_model(name)
  model.save_pretrained(tmp_path)
  config, params = hf_model.load_base(tmp_path)
  assert_same_logits(config, params, model)
  for prompt, row in zip(PROMPTS, greedy(config, params, PROMPTS, 64)):
    assert_greedy(model, prompt, row)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_base_loads_in_transformers_with_equal_logits(name, tmp_path):
  make_model(name).save_pretrained(tmp_path / "theirs")
  config, params = hf_model.load_base(tmp_path / "theirs")
  params = jax.tree.map(lambda x: x * 1.1, params)
  hf_model.save_base(tmp_path / "ours", config, params)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
  assert_same_logits(config, params, again)
  assert hf_config.read_config(tmp_path / "ours") == dataclasses.replace(
    config, query_scale=hf_config.read_config(tmp_path / "ours").query_scale
  )


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_bfloat16_logits_are_near_those_of_transformers(name, tmp_path):
  model = make_model(name).to(torch.bfloat16)
  model.save_pretrained(tmp_path)
  config, params = hf_model.load_base(tmp_path, jnp.bfloat16)
  assert params["embed"].dtype == jnp.bfloat16
  ours, theirs = our_logits(config, params, PROMPTS), reference_logits(model, PROMPTS)
  scale = max(np.abs(row).max() for row in theirs)
  assert_close([a / scale for a in ours], [b / scale for b in theirs], 0.06)


def test_the_text_half_of_a_multimodal_gemma_3_loads(tmp_path):
  text = make_model("gemma3")
  vision = dict(
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=28,
    patch_size=14,
  )
  config = transformers.Gemma3Config(
    text_config=text.config.to_dict(), vision_config=vision, mm_tokens_per_image=1
  )
  whole = transformers.Gemma3ForConditionalGeneration(config).eval()
  whole.model.language_model.load_state_dict(text.model.state_dict())
  whole.tie_weights()
  whole.save_pretrained(tmp_path)
  config, params = hf_model.load_base(tmp_path)
  assert config.family == "gemma3_text"
  assert_same_logits(config, params, text)


def test_shards_load_like_one_file(tmp_path):
  model = make_model("qwen2")
  model.save_pretrained(tmp_path, max_shard_size="60KB")
  assert len(list(tmp_path.glob("*.safetensors"))) > 2
  config, params = hf_model.load_base(tmp_path)
  assert_same_logits(config, params, model)


def test_pickled_weights_load_only_when_allowed(tmp_path):
  model = make_model("llama")
  model.config.save_pretrained(tmp_path)
  state = {name: x.bfloat16() for name, x in model.state_dict().items()}
  torch.save(state, tmp_path / "pytorch_model.bin")
  model.load_state_dict({name: x.float() for name, x in state.items()})
  with pytest.raises(ValueError, match="allow_pickle=True"):
    hf_model.load_base(tmp_path)
  config, params = hf_model.load_base(tmp_path, allow_pickle=True)
  assert_same_logits(config, params, model)


def make_adapter(folder, name="llama", seed=1, **options):
  """A random PEFT adapter and its model, saved below `folder`."""
  make_model(name).save_pretrained(folder / "base")
  base = make_model(name)
  base.name_or_path = "tiny/base"
  model = peft.get_peft_model(base, peft.LoraConfig(**(LORA | options))).eval()
  torch.manual_seed(seed)
  with torch.no_grad():
    for key, weight in model.named_parameters():
      if "lora_" in key:
        weight.copy_(0.1 * torch.randn_like(weight))
  model.save_pretrained(folder / "adapter")
  config, params = hf_model.load_base(folder / "base")
  return model, config, params


ADAPTERS = {
  "every projection": dict(target_modules=ALL),
  "rsLoRA": dict(target_modules=["q_proj", "down_proj"], use_rslora=True),
  "ranks and alphas by pattern": dict(
    target_modules=["k_proj", "up_proj"],
    rank_pattern={"k_proj": 2},
    alpha_pattern={r"layers\.1\.mlp\.up_proj": 5},
  ),
  "two layers only": dict(target_modules=["v_proj"], layers_to_transform=[1, 3]),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_of_peft_gives_the_logits_of_peft(kind, tmp_path):
  model, config, params = make_adapter(tmp_path, **ADAPTERS[kind])
  adapter = peft_adapter.load_adapter(tmp_path / "adapter", config)
  theirs = reference_logits(model, PROMPTS)
  ours = our_logits(
    config,
    params,
    PROMPTS,
    adapters=jax.tree.map(lambda x: jnp.asarray(x)[None], adapter),
    mix=jnp.ones((2, 1)),
  )
  assert_close(ours, theirs, 1e-4)
  merged = our_logits(config, lora.merge(params, adapter), PROMPTS)
  assert_close(merged, theirs, 1e-4)


@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_a_saved_adapter_loads_in_peft_with_equal_logits(name, tmp_path):
  model, config, _ = make_adapter(tmp_path, name, target_modules=ALL, use_rslora=True)
  adapter = peft_adapter.load_adapter(tmp_path / "adapter", config)
  peft_adapter.save_adapter(tmp_path / "ours", adapter, str(tmp_path / "base"), config)
  again = peft.PeftModel.from_pretrained(make_model(name), tmp_path / "ours").eval()
  theirs = reference_logits(model, PROMPTS)
  assert_close(reference_logits(again, PROMPTS), theirs, 1e-5)
  back = peft_adapter.load_adapter(tmp_path / "ours", config)
  jax.tree.map(np.testing.assert_array_equal, adapter, back)


@pytest.mark.parametrize(
  "options, found",
  [
    (dict(target_modules=["q_proj"], use_dora=True), "use_dora"),
    (dict(target_modules=["q_proj"], lora_bias=True), "lora_bias"),
    (dict(target_modules=["q_proj"], bias="all"), "bias"),
    (dict(target_modules=["q_proj"], modules_to_save=["lm_head"]), "modules_to_save"),
    (dict(target_modules=["q_proj"], init_lora_weights="pissa"), "pissa"),
    (dict(target_modules=["q_proj", "lm_head"]), "lm_head"),
    (dict(target_modules=["q_proj", "embed_tokens"]), "embed"),
  ],
)
def test_adapters_that_are_more_than_a_product_are_refused_by_name(
  options, found, tmp_path
):
  _, config, _ = make_adapter(tmp_path, **options)
  with pytest.raises(ValueError, match=found):
    peft_adapter.load_adapter(tmp_path / "adapter", config)
