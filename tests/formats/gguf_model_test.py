"""GGUF files: every family against torch, and errors that help."""

import os
import subprocess
import sys
import textwrap

import gguf as gguf_package
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.formats import gguf_file, gguf_model
from jswarm.model.decoder import make_decoder
from tests import gguf_fixtures as fixtures

IDS = np.random.default_rng(0).integers(0, fixtures.V, (2, 24))


def _our_logits(path):
  config, params = gguf_model.load_base(path)
  positions = jnp.broadcast_to(jnp.arange(IDS.shape[1], dtype=jnp.int32), IDS.shape)
  apply = jax.jit(make_decoder(config).apply)
  return np.asarray(apply(params, jnp.asarray(IDS, jnp.int32), positions)[0])


def _their_logits(model):
  import torch

  with torch.no_grad():
    return model(torch.from_numpy(IDS)).logits.numpy()


def _assert_close(ours, theirs):
  scale = np.abs(theirs).max()
  assert scale > 0.1 and np.ptp(theirs, axis=-1).min() > 0.01
  np.testing.assert_allclose(ours / scale, theirs / scale, atol=2e-5)


@pytest.mark.parametrize("case", list(fixtures.CASES))
def test_a_float_file_has_the_logits_of_the_torch_model(case, tmp_path):
  pytest.importorskip("torch")
  path, model = tmp_path / "model.gguf", fixtures.model(case)
  fixtures.write(path, case, model)
  _assert_close(_our_logits(path), _their_logits(model))


@pytest.mark.parametrize("quantisation", ["F16", "BF16", "Q8_0", "Q4_1"])
def test_a_quantised_file_has_the_logits_of_its_dequantised_weights(
  quantisation, tmp_path
):
  pytest.importorskip("torch")
  path, model = tmp_path / "model.gguf", fixtures.model("llama")
  fixtures.write(path, "llama", model, quantisation)
  _assert_close(_our_logits(path), _their_logits(model))


# transformers reads no "gemma" files, and ignores Llama 3's rotary tensor.
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_transformers_reads_the_same_model_from_the_same_file(case, tmp_path):
  pytest.importorskip("torch")
  import transformers

  path = tmp_path / "model.gguf"
  fixtures.write(path, case, fixtures.model(case), "Q8_0")
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, gguf_file=path.name, attn_implementation="eager", dtype="float32"
  )
  _assert_close(_our_logits(path), _their_logits(theirs.eval()))


@pytest.fixture(name="llama")
def _llama(tmp_path):
  """A small valid llama file, written without torch."""
  return _write(tmp_path / "llama.gguf")


def _write(path, architecture="llama", change=None, drop=(), extra=None, numbers=None):
  """A llama-like file of one layer; `change(writer)` adds to it."""
  writer = gguf_package.GGUFWriter(path, architecture)
  if extra != "no vocabulary":
    fixtures.write_vocabulary(writer)
  writer.add_context_length(32)
  writer.add_embedding_length(64)
  writer.add_block_count(1)
  writer.add_feed_forward_length(96)
  writer.add_head_count(4)
  writer.add_head_count_kv(2)
  if "eps" not in drop:
    writer.add_layer_norm_rms_eps(1e-5)
  sizes = {
    "token_embd": (96, 64),
    "output_norm": (64,),
    "blk.0.attn_norm": (64,),
    "blk.0.ffn_norm": (64,),
    "blk.0.attn_q": (64, 64),
    "blk.0.attn_k": (32, 64),
    "blk.0.attn_v": (32, 64),
    "blk.0.attn_output": (64, 64),
    "blk.0.ffn_gate": (96, 64),
    "blk.0.ffn_up": (96, 64),
    "blk.0.ffn_down": (64, 96),
    **(numbers or {}),
  }
  for name, shape in sizes.items():
    if name not in drop:
      x = np.random.default_rng(len(name)).normal(0, 0.1, shape)
      writer.add_tensor(f"{name}.weight", x.astype(np.float32))
  if change:
    change(writer)
  fixtures.finish(writer)
  return path


def test_the_header_gives_the_whole_architecture(llama):
  config = gguf_model.read_config(llama)
  assert (config.vocab, config.width, config.layers, config.hidden) == (96, 64, 1, 96)
  assert (config.heads, config.kv_heads, config.head_dim) == (4, 2, 16)
  assert config.norm_eps == 1e-5 and config.max_positions == 32 and config.tied
  assert hash(config) == hash(gguf_model.read_config(llama))


def test_our_reader_agrees_with_the_one_of_the_gguf_package(llama):
  theirs, ours = gguf_package.GGUFReader(llama), gguf_file.open_file(llama)
  assert {t.name for t in theirs.tensors} == set(ours.tensors)
  for tensor in theirs.tensors:
    wanted = gguf_package.dequantize(tensor.data, tensor.tensor_type)
    np.testing.assert_array_equal(gguf_file.read(ours, tensor.name), wanted)
  for key, value in ours.metadata.items():
    assert theirs.fields[key].contents() == value


def test_params_have_the_wanted_dtype(llama):
  _, params = gguf_model.load_base(llama, jnp.bfloat16)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}


def test_a_missing_file_is_an_error_that_says_how_to_get_one(tmp_path):
  with pytest.raises(ValueError, match="no file .*missing.gguf.*download_model"):
    gguf_model.load_base(tmp_path / "missing.gguf")


def test_every_truncation_is_found_before_any_array_is_made(llama):
  whole = llama.read_bytes()
  for size in [0, 3, 10, 200, len(whole) // 2, len(whole) - 1]:
    llama.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=f"truncated: it has {size} bytes"):
      gguf_model.load_base(llama)


def test_a_file_of_another_kind_is_an_error_with_its_first_bytes(tmp_path):
  path = tmp_path / "model.gguf"
  path.write_bytes(b"PK\x03\x04" + bytes(100))
  with pytest.raises(ValueError, match=r"starts with b'PK.*allowed: b'GGUF'"):
    gguf_model.load_base(path)


def test_an_unknown_architecture_lists_the_known_ones(tmp_path):
  path = _write(tmp_path / "x.gguf", architecture="mamba")
  message = "architecture 'mamba'; allowed: .*'gemma3'.*'qwen3'"
  with pytest.raises(ValueError, match=message):
    gguf_model.load_base(path)


def test_an_unknown_quantisation_names_the_tensor(llama):
  whole = bytearray(llama.read_bytes())
  name = b"blk.0.ffn_up.weight"
  at = whole.index(name) + len(name) + 4 + 2 * 8  # after the rank and two sizes
  for kind in (77, int(gguf_package.GGMLQuantizationType.I32)):
    whole[at : at + 4] = np.uint32(kind).tobytes()
    llama.write_bytes(whole)
    with pytest.raises(ValueError, match="blk.0.ffn_up.weight is quantised.*readable"):
      gguf_model.load_base(llama)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"drop": ["blk.0.attn_v"]}, "no tensor blk.0.attn_v.weight"),
    ({"drop": ["eps"]}, "no value for llama.attention.layer_norm_rms_epsilon"),
    ({"numbers": {"blk.0.ffn_gate_inp": (8, 64)}}, "does not know.*ffn_gate_inp"),
    ({"numbers": {"blk.0.attn_k": (64, 64)}}, r"attn_k.weight has shape \(64, 64\)"),
    ({"change": lambda w: w.add_rope_dimension_count(8)}, "rotates 8 of 16"),
    (
      {"change": lambda w: w.add_rope_scaling_type(gguf_package.RopeScalingType.YARN)},
      "rope.scaling.type 'yarn'; allowed",
    ),
    ({"numbers": {"rope_freqs": (8,)}}, "rope_freqs.weight is not Llama 3's"),
  ],
)
def test_what_the_decoder_cannot_do_is_an_error(options, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    gguf_model.load_base(_write(tmp_path / "x.gguf", **options))


def test_a_number_that_is_none_is_named_by_file_and_tensor(llama):
  whole = bytearray(llama.read_bytes())
  row = gguf_file.open_file(llama).tensors["blk.0.ffn_up.weight"]
  whole[row.start : row.start + 4] = np.float32(np.nan).tobytes()
  llama.write_bytes(whole)
  message = "llama.gguf: tensor blk.0.ffn_up.weight has 1 of 6144 numbers .*NaN"
  with pytest.raises(ValueError, match=message):
    gguf_model.load_base(llama)


def test_damaged_bytes_of_the_header_are_a_sentence_with_the_path(llama):
  """Whatever byte is damaged: a model, or a ValueError that names the file."""
  whole = llama.read_bytes()
  end = gguf_file.open_file(llama).tensors["token_embd.weight"].start
  rng = np.random.default_rng(0)
  for at in rng.integers(4, end, 150):
    damaged = bytearray(whole)
    damaged[at] ^= int(rng.integers(1, 256))
    llama.write_bytes(damaged)
    try:
      gguf_model.check_base(llama)
    except ValueError as error:
      assert str(llama) in str(error), at


def test_linear_rope_scaling_is_read(tmp_path):
  def change(writer):
    writer.add_rope_scaling_type(gguf_package.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(8.0)

  path = _write(tmp_path / "x.gguf", change=change)
  assert gguf_model.read_config(path).rope_scaling == ("linear", 8.0)


def test_a_file_without_a_vocabulary_is_an_error(tmp_path):
  path = _write(tmp_path / "x.gguf", extra="no vocabulary")
  with pytest.raises(ValueError, match="no tokenizer.ggml.model.*original tokenizer"):
    gguf_model.load_tokenizer(path)


def test_a_file_loads_where_torch_is_not_installed(llama):
  program = f"""
    import sys
    sys.modules["torch"] = None
    from jswarm.formats import gguf_model as gguf
    gguf.load_base({os.fspath(llama)!r})
    gguf.load_tokenizer({os.fspath(llama)!r})
  """
  subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
