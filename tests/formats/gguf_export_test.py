"""Models go to GGUF and come back: weights, architecture, tokens."""

import dataclasses

import gguf as gguf_package
import jax
import numpy as np
import pytest
import tokenizers
import transformers

from jswarm.formats import gguf_export, gguf_model, gguf_tokenizer
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.model.architecture import DecoderConfig
from jswarm.model.decoder import make_decoder
from jswarm.tasks.synthetic import words

SIZES = dict(vocab=300, width=64, layers=2, heads=4, kv_heads=2, head_dim=16, hidden=96)
GEMMA = dict(activation="gelu_tanh", norm_offset=1.0, embed_scale=8.0)
FAMILIES = {
  "llama": {},
  "mistral": {"tied": False},
  "llama3": {
    "rope_theta": 500_000.0,
    "rope_scaling": ("llama3", 8.0, 1.0, 4.0, 8192),
  },
  "linear": {"rope_scaling": ("linear", 4.0), "o_bias": True, "qkv_bias": True},
  "qwen2": {"qkv_bias": True, "tied": False},
  "qwen3": {"qk_norm": True},
  "gemma": GEMMA,
  "gemma2": {
    **GEMMA,
    "post_norms": True,
    "attn_softcap": 50.0,
    "final_softcap": 30.0,
    "windows": (8, None),
  },
  "gemma3_text": {
    **GEMMA,
    "post_norms": True,
    "qk_norm": True,
    "windows": (8, 8),
    "local_rope_theta": 10_000.0,
  },
}


def _config(name, **changes):
  family = {"llama3": "llama", "linear": "llama"}.get(name, name)
  return DecoderConfig(**{**SIZES, "family": family, **FAMILIES[name], **changes})


def _params(config):
  """Random weights as numpy; nothing is compiled."""
  shapes = jax.eval_shape(make_decoder(config).init, jax.random.key(0))
  rng = np.random.default_rng(0)
  draw = lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32)
  return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module")
def bpe():
  """A byte-level tokenizer as GPT-2's, with a turn's end and a chat template."""
  backend = tokenizers.Tokenizer(tokenizers.models.BPE())
  backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=290,
    show_progress=False,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    special_tokens=["<eos>", "<|im_end|>"],
  )
  backend.train_from_iterator(["hello world, hello all of the world"] * 9, trainer)
  return transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend,
    eos_token="<eos>",
    chat_template="{{ messages[0].content }}:",
    clean_up_tokenization_spaces=False,
  )


def _stops(tokenizer):
  return tokenizer_lib.stop_ids(tokenizer)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_model_of_every_family_comes_back_as_it_was(name, bpe, tmp_path):
  config, path = _config(name), tmp_path / "model.gguf"
  params = _params(config)
  gguf_export.save(path, config, params, bpe, _stops(bpe), "f16")
  back, read = gguf_model.load_base(path)
  family = "llama" if name == "mistral" else config.family
  assert dataclasses.replace(back, norm_eps=1e-6) == dataclasses.replace(
    config, family=family
  )
  assert jax.tree.structure(read) == jax.tree.structure(params)
  half = lambda x: x.astype(np.float16).astype(np.float32)
  for (where, ours), theirs in zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(read)
  ):
    matrix = "kernel" in str(where) or where[0].key in ("embed", "head")
    expected = half(ours) if matrix else ours
    np.testing.assert_allclose(theirs, expected, atol=3e-7, err_msg=str(where))


def test_eight_bits_are_close_and_take_half_the_room_of_sixteen(bpe, tmp_path):
  config = _config("llama")
  params = _params(config)
  for kind in gguf_export.KINDS:
    gguf_export.save(tmp_path / kind, config, params, bpe, _stops(bpe), kind)
  _, read = gguf_model.load_base(tmp_path / "q8_0")
  for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(read)):
    np.testing.assert_allclose(theirs, ours, atol=0.01 * np.abs(ours).max())
  kinds = {
    t.tensor_type.name for t in gguf_package.GGUFReader(tmp_path / "q8_0").tensors
  }
  assert kinds == {"Q8_0", "F32"}
  tensors = lambda kind: sum(
    t.n_bytes for t in gguf_package.GGUFReader(tmp_path / kind).tensors
  )
  assert tensors("q8_0") < 0.6 * tensors("f16")


def test_a_matrix_whose_rows_fit_no_block_keeps_sixteen_bits(bpe, tmp_path):
  config = _config("llama", hidden=80)
  params = _params(config)
  gguf_export.save(tmp_path / "m", config, params, bpe, _stops(bpe), "q8_0")
  reader = gguf_package.GGUFReader(tmp_path / "m")
  kind = {t.name: t.tensor_type.name for t in reader.tensors}
  assert (
    kind["blk.0.ffn_down.weight"] == "F16" and kind["blk.0.ffn_up.weight"] == "Q8_0"
  )


def test_the_tokenizer_comes_back_with_its_stops_and_its_template(bpe, tmp_path):
  config, path = _config("llama"), tmp_path / "model.gguf"
  gguf_export.save(path, config, _params(config), bpe, _stops(bpe), "f16")
  back = gguf_tokenizer.load_tokenizer(path)
  for text in ("hello world", "Größe 12 €\n x", "hello<|im_end|>"):
    assert back(text)["input_ids"] == bpe(text)["input_ids"]
    assert back.decode(bpe(text)["input_ids"]) == bpe.decode(bpe(text)["input_ids"])
  assert (
    tokenizer_lib.stop_ids(back, str(path)) == _stops(bpe) and len(_stops(bpe)) == 2
  )
  assert back.chat_template == bpe.chat_template


def test_a_tokenizer_of_sentencepiece_comes_back_too(tmp_path):
  """Spaces as U+2581, unknown characters as bytes, a BOS before every text."""
  pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
  pieces += ["▁", *"helowrd", "he", "ll", "hell", "hello", "▁hello"]
  vocab = {piece: i for i, piece in enumerate(pieces)}
  merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello")]
  backend = tokenizers.Tokenizer(
    tokenizers.models.BPE(
      vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
  )
  normalizers, decoders = tokenizers.normalizers, tokenizers.decoders
  backend.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
  )
  parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
  backend.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
  backend.add_special_tokens(["<unk>", "<s>", "</s>"])
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", 1)]
  )
  names = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>")
  own = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)
  config, path = _config("gemma", max_positions=64), tmp_path / "model.gguf"
  gguf_export.save(path, config, _params(config), own, (2,), "f16")
  back = gguf_tokenizer.load_tokenizer(path)
  for text in ("hello hello", " hello wörld", "x"):
    assert back(text)["input_ids"] == own(text)["input_ids"]
  assert back("hello")["input_ids"] == [1, vocab["▁hello"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_transformers_reads_what_was_written_with_equal_logits(name, bpe, tmp_path):
  torch = pytest.importorskip("torch")
  config, path = _config(name), tmp_path / "model.gguf"
  params = _params(config)
  gguf_export.save(path, config, params, bpe, _stops(bpe), "f16")
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, gguf_file=path.name, attn_implementation="eager", dtype="float32"
  )
  ids = np.random.default_rng(0).integers(0, config.vocab, (2, 12))
  with torch.no_grad():
    expected = theirs(torch.from_numpy(ids)).logits.numpy()
  _, read = gguf_model.load_base(path)
  positions = np.broadcast_to(np.arange(12, dtype=np.int32), ids.shape)
  ours, *_ = make_decoder(config).apply(read, ids.astype(np.int32), positions)
  scale = np.abs(expected).max()
  np.testing.assert_allclose(ours / scale, expected / scale, atol=2e-5)


def test_a_tokenizer_that_gguf_has_no_words_for_is_refused(tmp_path):
  config, own = _config("llama"), words.tokenizer()
  with pytest.raises(ValueError, match="of the kind WordLevel.*export .* merged"):
    gguf_export.save(tmp_path / "m", config, _params(config), own, (1,), "f16")
  assert not list(tmp_path.iterdir())


def test_what_the_metadata_cannot_say_is_an_error_and_no_other_model(bpe, tmp_path):
  config = _config("llama", query_scale=0.7)
  with pytest.raises(ValueError, match="GGUF cannot say this llama.*query_scale"):
    gguf_export.save(tmp_path / "m", config, _params(config), bpe, _stops(bpe), "f16")
  assert not list(tmp_path.iterdir())


def test_a_weight_that_float16_cannot_hold_is_refused_by_name(bpe, tmp_path):
  config = _config("llama")
  params = _params(config)
  params["embed"][0, 0] = 1e6
  with pytest.raises(ValueError, match="token_embd.weight: a weight is larger"):
    gguf_export.save(tmp_path / "m", config, params, bpe, _stops(bpe), "f16")


def test_an_unknown_kind_lists_those_that_are_known(bpe, tmp_path):
  with pytest.raises(ValueError, match="kind is 'q4'; allowed: f16, q8_0"):
    gguf_export.save(tmp_path / "m", _config("llama"), {}, bpe, (), "q4")
