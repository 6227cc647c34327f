"""Folders of models and adapters: round trips, published configs, damage by name."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jswarm.formats import hf_config, hf_model, peft_adapter, tensor_files
from jswarm.model import decoder
from jswarm.model.architecture import DecoderConfig, projection_shapes
from jswarm.pool import specs

LLAMA = DecoderConfig(
  vocab=37,
  width=16,
  layers=3,
  heads=4,
  kv_heads=2,
  head_dim=4,
  hidden=24,
  tied=False,
  rope_scaling=("llama3", 8.0, 1.0, 4.0, 64),
  rope_theta=500000.0,
)
_GEMMA = dict(
  activation="gelu_tanh",
  norm_offset=1.0,
  embed_scale=4.0,
  head_dim=6,
  tied=True,
  rope_scaling=None,
  rope_theta=10000.0,
)
_SLIDING = dict(post_norms=True, windows=(5, None, 5), query_scale=12**-0.5)
GEMMA2 = dataclasses.replace(
  LLAMA, family="gemma2", attn_softcap=50.0, final_softcap=30.0, **_GEMMA, **_SLIDING
)
CONFIGS = {
  "llama": LLAMA,
  "llama with biases": dataclasses.replace(LLAMA, qkv_bias=True, o_bias=True),
  "mistral": dataclasses.replace(
    LLAMA, family="mistral", rope_scaling=None, windows=(9,) * 3
  ),
  "qwen2": dataclasses.replace(
    LLAMA, family="qwen2", qkv_bias=True, rope_scaling=None, windows=(None, 9, 9)
  ),
  "qwen3": dataclasses.replace(LLAMA, family="qwen3", qk_norm=True, tied=True),
  "gemma": dataclasses.replace(LLAMA, family="gemma", query_scale=6**-0.5, **_GEMMA),
  "gemma2": GEMMA2,
  "gemma3": dataclasses.replace(
    GEMMA2,
    family="gemma3_text",
    attn_softcap=None,
    final_softcap=None,
    qk_norm=True,
    local_rope_theta=100.0,
    rope_theta=1e6,
    rope_scaling=("linear", 8.0),
  ),
}


def make_params(config, dtype=np.float32):
  shapes = jax.eval_shape(decoder.make_decoder(config).init, jax.random.key(0))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), dtype), shapes)


@pytest.fixture
def base(tmp_path):
  """A saved Llama."""
  hf_model.save_base(tmp_path / "base", LLAMA, make_params(LLAMA))
  return tmp_path / "base"


def edit_tensors(folder, change, name="model.safetensors"):
  tensors = safetensors.numpy.load_file(folder / name)
  change(tensors)
  safetensors.numpy.save_file(tensors, folder / name)


def edit_json(path, **fields):
  value = json.loads(path.read_text()) | fields
  path.write_text(json.dumps(value))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_base_comes_back_bit_for_bit(name, tmp_path):
  params = make_params(CONFIGS[name])
  hf_model.save_base(tmp_path, CONFIGS[name], params)
  config, again = hf_model.load_base(tmp_path)
  near = dataclasses.replace(config, query_scale=CONFIGS[name].query_scale)
  assert near == CONFIGS[name]
  assert config.query_scale == pytest.approx(CONFIGS[name].query_scale)
  jax.tree.map(np.testing.assert_array_equal, params, again)


def test_a_bfloat16_base_comes_back_bit_for_bit_and_widens_exactly(tmp_path):
  params = make_params(LLAMA, ml_dtypes.bfloat16)
  hf_model.save_base(tmp_path, LLAMA, params)
  assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"
  _, narrow = hf_model.load_base(tmp_path, jnp.bfloat16)
  _, wide = hf_model.load_base(tmp_path, jnp.float32)
  jax.tree.map(np.testing.assert_array_equal, params, narrow)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(wide))
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a.astype(np.float32), b), params, wide
  )


# What the hub files say (shortened), and the facts that they imply.
PUBLISHED = {
  "SmolLM2-135M": (
    dict(
      model_type="llama",
      vocab_size=49152,
      hidden_size=576,
      num_hidden_layers=30,
      num_attention_heads=9,
      num_key_value_heads=3,
      intermediate_size=1536,
      tie_word_embeddings=True,
      rope_theta=100000,
      rope_scaling=None,
      hidden_act="silu",
      rms_norm_eps=1e-5,
      torch_dtype="bfloat16",
    ),
    dict(head_dim=64, tied=True, rope_theta=100000.0, windows=(None,) * 30),
  ),
  "Llama-3.2-1B": (
    dict(
      model_type="llama",
      vocab_size=128256,
      hidden_size=2048,
      num_hidden_layers=16,
      num_attention_heads=32,
      num_key_value_heads=8,
      intermediate_size=8192,
      head_dim=64,
      tie_word_embeddings=True,
      rope_theta=500000.0,
      rope_scaling=dict(
        factor=32.0,
        high_freq_factor=4.0,
        low_freq_factor=1.0,
        original_max_position_embeddings=8192,
        rope_type="llama3",
      ),
    ),
    dict(rope_scaling=("llama3", 32.0, 1.0, 4.0, 8192), kv_heads=8),
  ),
  "Mistral-7B-v0.1": (
    dict(
      model_type="mistral",
      vocab_size=32000,
      hidden_size=4096,
      num_hidden_layers=2,
      num_attention_heads=32,
      num_key_value_heads=8,
      intermediate_size=14336,
      sliding_window=4096,
      rope_theta=10000.0,
    ),
    dict(windows=(4096, 4096), head_dim=128, tied=False),
  ),
  "Mistral-7B-v0.3": (
    dict(
      model_type="mistral",
      vocab_size=32768,
      hidden_size=4096,
      num_hidden_layers=2,
      num_attention_heads=32,
      intermediate_size=14336,
      sliding_window=None,
    ),
    dict(windows=(None, None), kv_heads=8),
  ),
  "Qwen2.5-0.5B": (
    dict(
      model_type="qwen2",
      vocab_size=151936,
      hidden_size=896,
      num_hidden_layers=24,
      num_attention_heads=14,
      num_key_value_heads=2,
      intermediate_size=4864,
      max_window_layers=24,
      sliding_window=32768,
      use_sliding_window=False,
      tie_word_embeddings=True,
      rope_theta=1e6,
    ),
    dict(windows=(None,) * 24, qkv_bias=True, o_bias=False, head_dim=64),
  ),
  "Qwen3-0.6B": (
    dict(
      model_type="qwen3",
      vocab_size=151936,
      hidden_size=1024,
      num_hidden_layers=28,
      num_attention_heads=16,
      num_key_value_heads=8,
      intermediate_size=3072,
      attention_bias=False,
      head_dim=128,
      sliding_window=None,
      use_sliding_window=False,
      tie_word_embeddings=True,
      rope_theta=1e6,
    ),
    dict(qk_norm=True, qkv_bias=False, head_dim=128),
  ),
  "gemma-2b": (
    dict(
      model_type="gemma",
      vocab_size=256000,
      hidden_size=2048,
      num_hidden_layers=18,
      num_attention_heads=8,
      num_key_value_heads=1,
      intermediate_size=16384,
      head_dim=256,
      hidden_act="gelu",
      hidden_activation=None,
    ),
    dict(
      activation="gelu_tanh",
      norm_offset=1.0,
      embed_scale=2048**0.5,
      tied=True,
      query_scale=1 / 16,
      post_norms=False,
    ),
  ),
  "gemma-2-27b": (
    dict(
      model_type="gemma2",
      vocab_size=256000,
      hidden_size=4608,
      num_hidden_layers=4,
      num_attention_heads=32,
      num_key_value_heads=16,
      intermediate_size=36864,
      head_dim=128,
      query_pre_attn_scalar=144,
      sliding_window=4096,
      attn_logit_softcapping=50.0,
      final_logit_softcapping=30.0,
    ),
    dict(
      windows=(4096, None, 4096, None),
      query_scale=1 / 12,
      attn_softcap=50.0,
      final_softcap=30.0,
      post_norms=True,
    ),
  ),
  "gemma-3-4b": (
    dict(
      model_type="gemma3",
      text_config=dict(
        model_type="gemma3_text",
        hidden_size=2560,
        intermediate_size=10240,
        num_hidden_layers=7,
        sliding_window=1024,
        rope_scaling=dict(factor=8.0, rope_type="linear"),
      ),
    ),
    dict(
      family="gemma3_text",
      vocab=262208,
      heads=8,
      kv_heads=4,
      head_dim=256,
      windows=(1024,) * 5 + (None, 1024),
      rope_theta=1e6,
      local_rope_theta=10000.0,
      rope_scaling=("linear", 8.0),
      qk_norm=True,
      attn_softcap=None,
      tied=True,
    ),
  ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_understood(name):
  fields, facts = PUBLISHED[name]
  config = dataclasses.asdict(hf_config.parse(fields))
  assert {fact: config[fact] for fact in facts} == facts


@pytest.mark.parametrize(
  "old, new",
  [
    (
      dict(rope_theta=5e5, rope_scaling=None),
      dict(rope_parameters=dict(rope_theta=5e5, rope_type="default")),
    ),
    (
      dict(rope_theta=5e5, rope_scaling=dict(type="linear", factor=2.0)),
      dict(rope_parameters=dict(rope_theta=5e5, rope_type="linear", factor=2.0)),
    ),
  ],
)
def test_both_spellings_of_rope_mean_the_same(old, new):
  fields = PUBLISHED["SmolLM2-135M"][0]
  rest = {k: v for k, v in fields.items() if not k.startswith("rope")}
  assert hf_config.parse(rest | old) == hf_config.parse(rest | new)


def test_rope_parameters_by_layer_type_mean_the_same_as_the_old_fields():
  fields = PUBLISHED["gemma-3-4b"][0]["text_config"]
  new = {k: v for k, v in fields.items() if k != "rope_scaling"} | dict(
    layer_types=["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
    rope_parameters=dict(
      full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
      sliding_attention=dict(rope_type="default", rope_theta=10000.0),
    ),
  )
  assert hf_config.parse(new) == hf_config.parse(fields)


@pytest.mark.parametrize(
  "fields, found",
  [
    (dict(model_type="gpt2"), "'gpt2'; known: llama, mistral"),
    (dict(model_type=None), "model_type is None"),
    (dict(rope_scaling=dict(rope_type="yarn", factor=4.0)), "'yarn'.*known: default"),
    (dict(rope_scaling=dict(rope_type="llama3", factor=4.0)), "lacks.*low_freq_factor"),
    (dict(partial_rotary_factor=0.5), "over 0.5 of the head"),
    (dict(hidden_act="relu"), "'relu'; known: silu"),
    (dict(mlp_bias=True), "mlp_bias"),
    (dict(quantization_config=dict(bits=4)), "quantization_config"),
    (dict(vocab_size=None), "lacks.*vocab_size"),
    (dict(num_key_value_heads=3), "kv_heads 3"),
  ],
)
def test_what_the_decoder_does_not_have_is_refused_by_name(fields, found, base):
  edit_json(base / "config.json", **fields)
  with pytest.raises(ValueError, match=found):
    hf_config.read_config(base)


def test_unknown_layer_types_are_refused():
  fields = PUBLISHED["Qwen3-0.6B"][0] | dict(layer_types=["linear_attention"] * 28)
  with pytest.raises(ValueError, match="linear_attention"):
    hf_config.parse(fields)


@pytest.mark.parametrize(
  "config, found",
  [
    (dataclasses.replace(LLAMA, family="mamba"), "'mamba'.*known: llama"),
    (dataclasses.replace(LLAMA, windows=(5, 5, 5)), "windows"),
    (dataclasses.replace(LLAMA, qk_norm=True), "qk_norm"),
  ],
)
def test_a_config_that_its_family_cannot_say_is_not_written(config, found, tmp_path):
  with pytest.raises(ValueError, match=found):
    hf_model.save_base(tmp_path / "out", config, make_params(config))
  assert not (tmp_path / "out").exists()


def test_a_missing_folder_or_file_says_what_is_there(base, tmp_path):
  with pytest.raises(ValueError, match="does not exist"):
    hf_model.load_base(tmp_path / "nowhere")
  (base / "model.safetensors").rename(base / "weights.safetensors")
  with pytest.raises(ValueError, match="weights.safetensors"):
    hf_model.load_base(base)
  (base / "config.json").write_text("{")
  with pytest.raises(ValueError, match="config.json is no JSON"):
    hf_model.load_base(base)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, 0.999])
def test_a_truncated_file_is_named_before_any_array_is_made(kept, base, monkeypatch):
  path = base / "model.safetensors"
  data = path.read_bytes()
  path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
  monkeypatch.setattr(tensor_files, "_read", pytest.fail)
  with pytest.raises(ValueError, match=r"model.safetensors is truncated.*again"):
    hf_model.load_base(base)


@pytest.mark.parametrize(
  "data, found",
  [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    (b"\x05" + bytes(7) + b"hello", "no safetensors header"),
    (b"\x0a" + bytes(7) + b'{"a": "b"}', "no safetensors header"),
  ],
)
def test_a_file_that_is_something_else_is_named(data, found, base):
  (base / "model.safetensors").write_bytes(data)
  with pytest.raises(ValueError, match=found):
    hf_model.load_base(base)


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
  "change, found",
  [
    (lambda t: t.pop(NORM), rf"missing: 1, such as \['{NORM}'\]"),
    (lambda t: t.pop("lm_head.weight"), "tied=False.*lm_head.weight"),
    (lambda t: t.update({NORM: np.ones(7, np.float32)}), r"found \[7\].*says \[16\]"),
    (lambda t: t.update({NORM + "s": np.ones(7, np.float32)}), "does not have"),
    (lambda t: t.update({NORM: np.ones(16, np.int8)}), "is I8; allowed"),
    (lambda t: t.clear(), "no tensor embed_tokens"),
  ],
)
def test_tensors_that_do_not_fit_the_config_are_shown_with_it(change, found, base):
  edit_tensors(base, change)
  with pytest.raises(ValueError, match=found):
    hf_model.load_base(base)


@pytest.fixture
def tied(tmp_path):
  """A saved Llama whose config ties the head to the embeddings."""
  config = dataclasses.replace(LLAMA, tied=True)
  hf_model.save_base(tmp_path / "tied", config, make_params(config))
  return tmp_path / "tied"


def _add_head(tensors, change):
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + np.float32(change)


def test_a_copy_of_the_embeddings_as_head_stays_tied(tied, caplog):
  edit_tensors(tied, lambda t: _add_head(t, 0))
  config, params = hf_model.load_base(tied)
  assert config.tied and "head" not in params and not caplog.messages


def test_another_head_beside_a_tied_config_is_used_with_one_warning(tied, caplog):
  edit_tensors(tied, lambda t: _add_head(t, 0.5))
  assert not hf_model.check_base(tied).tied
  config, params = hf_model.load_base(tied)
  head = safetensors.numpy.load_file(tied / "model.safetensors")["lm_head.weight"]
  np.testing.assert_array_equal(params["head"], head.T)
  assert not config.tied
  (said,) = [m for m in caplog.messages if "lm_head" in m]
  assert str(tied) in said and "tie_word_embeddings" in said


def test_another_head_has_the_logits_that_transformers_gives_it(tied):
  torch = pytest.importorskip("torch")
  import transformers

  edit_tensors(tied, lambda t: _add_head(t, 0.5))
  edit_tensors(tied, lambda t: t["lm_head.weight"].__imul__(np.float32(1.5)))
  theirs = transformers.AutoModelForCausalLM.from_pretrained(tied, dtype="float32")
  head = theirs.lm_head.weight.detach().numpy()
  _, params = hf_model.load_base(tied)
  np.testing.assert_array_equal(params["head"].T, head)
  assert not torch.equal(theirs.lm_head.weight, theirs.model.embed_tokens.weight)


def test_a_head_of_another_shape_is_refused(tied):
  head = np.ones((LLAMA.vocab + 1, LLAMA.width), np.float32)
  edit_tensors(tied, lambda t: t.update({"lm_head.weight": head}))
  with pytest.raises(ValueError, match=r"lm_head.weight: found \[38, 16\]"):
    hf_model.load_base(tied)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [NORM, "model.embed_tokens.weight"])
def test_a_number_that_is_none_is_named_by_file_and_tensor(name, value, base):
  edit_tensors(base, lambda t: t[name].reshape(-1).__setitem__(3, value))
  message = rf"model.safetensors: tensor {name} has 1 of .*NaN or infinite"
  with pytest.raises(ValueError, match=message):
    hf_model.load_base(base)
  config, read = hf_model.check_base(base), hf_model.leaf_reader(base)
  path = ("embed",) if "embed" in name else ("layers", "attn_norm", "scale")
  with pytest.raises(ValueError, match=message):
    read(path)
  assert config == LLAMA


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_every_kind_of_number_is_told_from_none(dtype):
  largest = ml_dtypes.finfo(dtype).max
  tensor_files.check_finite(np.array([0, -largest, largest], dtype), "file", "x")
  tensor_files.check_finite(np.zeros((0, 3), dtype), "file", "x")
  for value in (np.nan, -np.nan, np.inf, -np.inf):
    with pytest.raises(ValueError, match="file: tensor x has 1 of 2 numbers"):
      tensor_files.check_finite(np.array([1, value], dtype), "file", "x")


def test_a_number_too_large_for_the_wanted_dtype_is_named(base):
  big = np.full(16, 1e300)
  edit_tensors(base, lambda t: t.update({NORM: big}))
  with pytest.raises(ValueError, match=rf"{NORM} has 16 of 16 .*infinite in float32"):
    hf_model.load_base(base)


@pytest.mark.parametrize(
  "file",
  [
    "../secret.safetensors",
    "/etc/secret.safetensors",
    "a/../../secret.safetensors",
    "..\\secret.safetensors",
    "C:\\secret.safetensors",
    "..",
    "",
    7,
    None,
  ],
)
def test_an_index_that_leads_out_of_its_folder_is_refused(file, base):
  (base / "model.safetensors").rename(base.parent / "secret.safetensors")
  index = base / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": {"x": file}}))
  with pytest.raises(ValueError, match="index.json looks for tensor x in .*own folder"):
    hf_model.load_base(base)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_without_a_map_is_named(text, base):
  (base / "model.safetensors").unlink()
  (base / "model.safetensors.index.json").write_text(text)
  with pytest.raises(ValueError, match="index.json has no weight_map"):
    hf_model.load_base(base)


@pytest.mark.parametrize(
  "fields",
  [
    dict(rope_theta="large"),
    dict(rope_scaling=[1]),
    dict(num_key_value_heads="two"),
    dict(num_attention_heads=0),
    dict(rms_norm_eps=[]),
    dict(rms_norm_eps=float("nan")),
    dict(max_position_embeddings=-1),
    dict(hidden_size=True),
  ],
)
def test_a_field_of_another_kind_is_a_sentence_with_its_file(fields, base):
  edit_json(base / "config.json", **fields)
  with pytest.raises(ValueError, match=f"^{base / 'config.json'}"):
    hf_config.read_config(base)


@pytest.mark.parametrize(
  "entry",
  [
    {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
    {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
    {"dtype": "F32", "shape": [1], "data_offsets": [4]},
    {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 6]},
    {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": None, "data_offsets": [0, 4]},
    [1],
  ],
)
def test_a_table_of_contents_that_says_nothing_is_named(entry, base):
  header = json.dumps({"x": entry}).encode()
  path = base / "model.safetensors"
  path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
  with pytest.raises(ValueError, match="model.safetensors.*again"):
    hf_model.load_base(base)


def test_buffers_of_old_files_and_other_towers_are_passed_over(base):
  names = ("model.layers.0.self_attn.rotary_emb.inv_freq", "vision_tower.layers.0.bias")
  extra = {name: np.ones(2, np.float32) for name in names}
  edit_tensors(base, lambda t: t.update(extra))
  hf_model.load_base(base)


def test_a_shard_that_is_missing_or_incomplete_is_named(base):
  (base / "model.safetensors").rename(base / "part.safetensors")
  index = base / "model.safetensors.index.json"
  names = safetensors.numpy.load_file(base / "part.safetensors")
  index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "part.safetensors")}))
  hf_model.load_base(base)
  index.write_text(json.dumps({"weight_map": {"x": "part.safetensors"}}))
  with pytest.raises(ValueError, match="such as x in part.safetensors"):
    hf_model.load_base(base)
  index.write_text(json.dumps({"weight_map": {"x": "other.safetensors"}}))
  with pytest.raises(ValueError, match="other.safetensors is missing"):
    hf_model.load_base(base)


def test_pickles_are_refused_unless_allowed(base):
  (base / "model.safetensors").rename(base / "pytorch_model.bin")
  with pytest.raises(ValueError, match="pytorch_model.bin.*allow_pickle=True"):
    hf_model.load_base(base)


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
  def full(arrays, path, metadata):
    pathlib.Path(path).write_text("half of it")
    raise OSError("no space left on device")

  monkeypatch.setattr(safetensors.numpy, "save_file", full)
  with pytest.raises(OSError):
    hf_model.save_base(tmp_path, LLAMA, make_params(LLAMA))
  assert not list(tmp_path.iterdir())


def make_adapter(config, rank=2, names=("q", "v", "o", "down")):
  rng, shapes = np.random.default_rng(1), projection_shapes(config)
  draw = lambda *shape: rng.normal(size=(config.layers, *shape)).astype(np.float32)
  return {
    n: {"A": draw(shapes[n][0], rank), "B": draw(rank, shapes[n][1])} for n in names
  }


@pytest.fixture
def adapter(tmp_path):
  """A saved adapter for `LLAMA`."""
  peft_adapter.save_adapter(
    tmp_path / "adapter", make_adapter(LLAMA), "owner/base", LLAMA
  )
  return tmp_path / "adapter"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_adapter_comes_back_bit_for_bit(name, tmp_path):
  config = CONFIGS[name]
  peft_adapter.save_adapter(tmp_path, make_adapter(config), "owner/base", config)
  again = peft_adapter.load_adapter(tmp_path, config)
  jax.tree.map(np.testing.assert_array_equal, make_adapter(config), again)
  assert peft_adapter.adapter_base(tmp_path) == "owner/base"


@pytest.mark.parametrize(
  "fields, scale",
  [
    (dict(lora_alpha=6), 3.0),
    (dict(lora_alpha=6, use_rslora=True), 6 / 2**0.5),
    (dict(lora_alpha=6, alpha_pattern={"v_proj": 8}), 4.0),
    (dict(lora_alpha=6, alpha_pattern={r"layers\.0\.self_attn\.v_proj": 8}), 4.0),
    (dict(lora_alpha=6, alpha_pattern={"q_proj": 8}), 3.0),
    (dict(lora_alpha=6, alpha_pattern={"proj": 8}), 3.0),
  ],
)
def test_the_scale_is_folded_into_b(fields, scale, adapter):
  edit_json(adapter / "adapter_config.json", **fields)
  loaded, saved = (
    peft_adapter.load_adapter(adapter, LLAMA)["v"],
    make_adapter(LLAMA)["v"],
  )
  np.testing.assert_array_equal(loaded["A"], saved["A"])
  np.testing.assert_allclose(loaded["B"][0], saved["B"][0] * scale, rtol=1e-6)


def test_smaller_ranks_are_padded_and_absent_layers_are_zero(adapter):
  def change(tensors):
    for key in [k for k in tensors if "layers.1.mlp" in k]:
      del tensors[key]
    for key in [k for k in tensors if "q_proj" in k]:
      first = tensors[key][:1] if "lora_A" in key else tensors[key][:, :1]
      tensors[key] = np.ascontiguousarray(first)

  edit_tensors(adapter, change, "adapter_model.safetensors")
  left_out = ["model.layers.1.mlp.down_proj"]
  edit_json(
    adapter / "adapter_config.json",
    rank_pattern={"q_proj": 1},
    exclude_modules=left_out,
  )
  loaded, saved = peft_adapter.load_adapter(adapter, LLAMA), make_adapter(LLAMA)
  assert loaded["q"]["A"].shape == (3, 16, 2)
  np.testing.assert_array_equal(loaded["q"]["A"][:, :, 1], 0)
  product = saved["q"]["A"][:, :, :1] @ saved["q"]["B"][:, :1]
  found = loaded["q"]["A"] @ loaded["q"]["B"]
  np.testing.assert_allclose(found, 2 * product, rtol=1e-5)
  assert not loaded["down"]["A"][1].any() and loaded["down"]["A"][2].all()


@pytest.mark.parametrize(
  "fields, found",
  [
    (dict(peft_type="IA3"), "'IA3'; allowed: 'LORA'"),
    (dict(use_dora=True), "use_dora"),
    (dict(lora_bias=True), "lora_bias"),
    (dict(bias="lora_only"), "lora_only"),
    (dict(modules_to_save=["lm_head"]), "modules_to_save"),
    (dict(fan_in_fan_out=True), "fan_in_fan_out"),
    (dict(init_lora_weights="pissa_niter_4"), "pissa_niter_4"),
    (dict(r=8), r"with rank 8 needs \[8, 24\]"),
  ],
)
def test_an_unsupported_adapter_is_refused_by_name(fields, found, adapter):
  edit_json(adapter / "adapter_config.json", **fields)
  with pytest.raises(ValueError, match=found):
    peft_adapter.load_adapter(adapter, LLAMA)


HEAD = "base_model.model.lm_head.lora_A.weight"


@pytest.mark.parametrize(
  "change, found",
  [
    (lambda t: t.update({HEAD: np.ones((2, 16), np.float32)}), "lm_head"),
    (lambda t: t.pop(min(t)), "have no partner"),
    (lambda t: t.clear(), "0 tensors that are no LoRA factors"),
  ],
)
def test_tensors_that_are_no_pair_of_factors_are_refused(change, found, adapter):
  edit_tensors(adapter, change, "adapter_model.safetensors")
  with pytest.raises(ValueError, match=found):
    peft_adapter.load_adapter(adapter, LLAMA)


@pytest.mark.parametrize(
  "changes, found",
  [
    (dict(width=20), r"\[16, 2\], but the base .*width 20.*needs \[20, 2\]"),
    (dict(layers=2, windows=()), r"2 layers.*layers 0 to 1"),
    (dict(layers=5, windows=()), "reach layer 2, but the base.*goes to 4"),
  ],
)
def test_an_adapter_for_another_base_shows_both_sides(changes, found, adapter):
  other = dataclasses.replace(LLAMA, **changes)
  with pytest.raises(ValueError, match=f"{found}.*made for owner/base"):
    peft_adapter.load_adapter(adapter, other)


def test_an_adapter_of_chosen_layers_fits_a_deeper_base(adapter):
  edit_json(adapter / "adapter_config.json", layers_to_transform=[0, 1, 2])
  deeper = dataclasses.replace(LLAMA, layers=5, windows=())
  assert not peft_adapter.load_adapter(adapter, deeper)["q"]["A"][3:].any()


def test_a_damaged_adapter_is_named(adapter):
  path = adapter / "adapter_model.safetensors"
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(ValueError, match="adapter_model.safetensors is truncated"):
    peft_adapter.load_adapter(adapter, LLAMA)
  path.rename(adapter / "adapter_model.bin")
  with pytest.raises(ValueError, match="allow_pickle=True"):
    peft_adapter.load_adapter(adapter, LLAMA)
  (adapter / "adapter_config.json").unlink()
  with pytest.raises(ValueError, match="adapter_config.json is missing"):
    peft_adapter.load_adapter(adapter, LLAMA)


def test_factors_that_do_not_fit_are_not_written(tmp_path):
  for wrong, found in (
    (make_adapter(dataclasses.replace(LLAMA, width=20)), "needs"),
    (make_adapter(LLAMA) | make_adapter(LLAMA, 3, ("k",)), "ranks are"),
  ):
    with pytest.raises(ValueError, match=found):
      peft_adapter.save_adapter(tmp_path, wrong, "base", LLAMA)
  assert not list(tmp_path.iterdir())


def test_a_folder_resolves_to_itself_and_nonsense_to_an_error(tmp_path):
  assert specs.resolve(tmp_path) == str(tmp_path)
  with pytest.raises(ValueError, match="no folder, nor a hub id"):
    specs.resolve(tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_reached_says_what_to_do(tmp_path, monkeypatch):
  monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
  with pytest.raises(ValueError, match="could not be fetched.*give a local folder"):
    specs.resolve("nobody/no-such-model-at-all", revision="main")


def test_loading_imports_neither_torch_nor_transformers(base, adapter):
  code = (
    "import sys; from jswarm.formats import hf_model, peft_adapter\n"
    "import jswarm.model.decoder\n"
    f"config, _ = hf_model.load_base({str(base)!r})\n"
    f"peft_adapter.load_adapter({str(adapter)!r}, config)\n"
    "sys.exit(bool({'torch', 'transformers', 'flax.nnx'} & set(sys.modules)))"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
