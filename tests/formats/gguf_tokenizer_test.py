"""Tokenizers inside GGUF files, against pieces worked out by hand."""

import gguf as gguf_package
import pytest
from tokenizers import pre_tokenizers

from jswarm.formats import gguf_model, gguf_tokenizer
from jswarm.formats import tokenizer as tokenizer_lib
from tests import gguf_fixtures as fixtures


def _byte_level(path, pre, add=None, extra=(), forget=False):
  """All bytes, a few merges, one control and one user-defined token."""
  writer = gguf_package.GGUFWriter(path, "llama")
  merges = ["1 2", "1 3", "Ġ Ġ", "t h", "th e", *extra]
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  tokens = ["<|end|>", "<think>", *alphabet, *(m.replace(" ", "") for m in merges)]
  tokens = tokens[:-1] if forget else tokens
  writer.add_context_length(32)
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(tokens)
  writer.add_token_types([3, 4] + [1] * (len(tokens) - 2))
  writer.add_token_merges(merges)
  writer.add_eos_token_id(0)
  writer.add_bos_token_id(0)
  writer.add_chat_template("{{ messages[0]['content'] }}<|end|>")
  if add is not None:
    writer.add_add_bos_token(add)
  fixtures.finish(writer)
  return gguf_model.load_tokenizer(path)


def _pieces(tokenizer, words):
  return tokenizer.convert_ids_to_tokens(tokenizer(words)["input_ids"])


def test_the_pre_tokenizer_follows_its_name(tmp_path):
  path = tmp_path / "x.gguf"
  assert _pieces(_byte_level(path, "gpt-2"), "12") == ["12"]
  assert _pieces(_byte_level(path, "smollm"), "12") == ["1", "2"]
  assert _pieces(_byte_level(path, "qwen2"), "12") == ["1", "2"]
  # Spaces before a digit stay together when digits are set apart first.
  assert _pieces(_byte_level(path, "smollm"), "a  1") == ["a", "ĠĠ", "1"]
  assert _pieces(_byte_level(path, "gpt-2"), "a  1") == ["a", "Ġ", "Ġ", "1"]
  # Qwen composes Unicode first: e + U+0301 is one letter of two bytes.
  assert len(_pieces(_byte_level(path, "qwen2"), "e\u0301")) == 2
  # Llama 3 takes up to three digits, and starts with BOS unless told otherwise.
  llama3 = _byte_level(path, "llama-bpe", extra=["12 13"])
  assert _pieces(llama3, "1213") == ["<|end|>", "12", "1", "3"]
  assert _pieces(_byte_level(path, "llama-bpe", add=False), "the") == ["the"]


def test_special_tokens_are_matched_whole_and_only_control_is_dropped(tmp_path):
  tokenizer = _byte_level(tmp_path / "x.gguf", "gpt-2")
  ids = tokenizer("the<think>the<|end|>")["input_ids"]
  assert tokenizer.convert_ids_to_tokens(ids) == ["the", "<think>", "the", "<|end|>"]
  assert tokenizer.decode(ids, skip_special_tokens=True) == "the<think>the"
  assert (tokenizer.eos_token, tokenizer.model_max_length) == ("<|end|>", 32)
  messages = [{"role": "user", "content": "hi"}]
  assert tokenizer.apply_chat_template(messages, tokenize=False) == "hi<|end|>"


def test_an_unknown_pre_tokenizer_lists_the_known_ones(tmp_path):
  with pytest.raises(ValueError, match="ggml.pre 'viking'; allowed: .*'smollm'"):
    _byte_level(tmp_path / "x.gguf", "viking")


def _sentencepiece(path, prefix=True, user=()):
  writer = gguf_package.GGUFWriter(path, "llama")
  pieces = ["▁", "a", "b", "c", "ab", "bc", "▁a", "▁ab", "abc"]
  # "bc" joins before "ab".
  scores = [-9.0, -9.0, -9.0, -9.0, -2.0, -1.0, -4.0, -3.0, -5.0]
  data = [f"<0x{i:02X}>" for i in range(256)]
  tokens = ["<unk>", "<s>", "</s>", *data, *user, *pieces]
  writer.add_context_length(32)
  writer.add_tokenizer_model("llama")
  writer.add_token_list(tokens)
  writer.add_token_scores([0.0] * (259 + len(user)) + scores)
  writer.add_token_types([2, 3, 3] + [6] * 256 + [4] * len(user) + [1] * len(pieces))
  writer.add_unk_token_id(0)
  writer.add_bos_token_id(1)
  writer.add_eos_token_id(2)
  writer.add_add_space_prefix(prefix)
  fixtures.finish(writer)
  return gguf_model.load_tokenizer(path)


def test_sentencepiece_joins_the_best_score_first(tmp_path):
  tokenizer = _sentencepiece(tmp_path / "x.gguf")
  assert _pieces(tokenizer, "abc") == ["<s>", "▁a", "bc"]
  assert _pieces(tokenizer, "ab") == ["<s>", "▁ab"]
  assert _pieces(tokenizer, " ab") == ["<s>", "▁", "▁ab"]
  assert tokenizer.decode(tokenizer(" ab")["input_ids"][1:]) == " ab"
  bare = _sentencepiece(tmp_path / "x.gguf", prefix=False)
  assert _pieces(bare, "abc") == ["<s>", "abc"]


def test_sentencepiece_falls_back_to_bytes(tmp_path):
  tokenizer = _sentencepiece(tmp_path / "x.gguf")
  ids = tokenizer("aé漢</s>")["input_ids"]
  wanted = ["<s>", "▁a", "<0xC3>", "<0xA9>", "<0xE6>", "<0xBC>", "<0xA2>", "</s>"]
  assert tokenizer.convert_ids_to_tokens(ids) == wanted
  assert tokenizer.decode(ids, skip_special_tokens=True) == "aé漢"


def test_runs_of_spaces_of_a_gemma_file_are_one_token(tmp_path):
  tokenizer = _sentencepiece(tmp_path / "x.gguf", prefix=False, user=["  ", "    "])
  assert _pieces(tokenizer, "a    b") == ["<s>", "a", "▁▁▁▁", "b"]
  assert len(tokenizer) == 259 + 2 + 9
  assert tokenizer.decode(tokenizer("a   b")["input_ids"][1:]) == "a   b"


GEMMA_RUNS = [" " * n for n in range(2, 32)]  # as in the published vocabularies


def test_a_run_of_spaces_is_cut_longest_first(tmp_path):
  """As in Gemma's published tokenizer.json, whatever the length of the run."""
  tokenizer = _sentencepiece(tmp_path / "x.gguf", prefix=False, user=GEMMA_RUNS)
  for count in range(1, 301):
    runs = ["▁" * 31] * (count // 31) + ["▁" * (count % 31)] * (count % 31 > 0)
    assert _pieces(tokenizer, " " * count)[1:] == runs
    assert _pieces(tokenizer, f"a{' ' * count}b")[1:] == ["a", *runs, "b"]
    ids = tokenizer(f"a{' ' * count}b")["input_ids"][1:]
    assert tokenizer.decode(ids) == f"a{' ' * count}b"


def test_a_run_of_the_sign_of_a_space_is_a_token_in_the_text(tmp_path):
  """The published vocabularies have these runs as added tokens, spaces as merges."""
  tokenizer = _sentencepiece(tmp_path / "x.gguf", prefix=False, user=GEMMA_RUNS)
  assert _pieces(tokenizer, " ▁▁ ")[1:] == ["▁", "▁▁", "▁"]
  assert _pieces(tokenizer, "▁" * 32)[1:] == ["▁" * 31, "▁"]


@pytest.mark.parametrize(
  "architecture, dropped, shown",
  [
    ("gemma3", ["<bos>", "<end_of_turn>", "<start_of_image>"], ["<mask>", "<unused7>"]),
    ("qwen2", ["<|im_end|>", "<|endoftext|>"], ["<|fim_prefix|>", "<|file_sep|>"]),
    ("llama", ["<|im_end|>", "<unused7>", "<|fim_prefix|>"], []),
  ],
)
def test_a_reply_shows_the_added_tokens_that_the_published_tokenizer_shows(
  architecture, dropped, shown, tmp_path
):
  writer = gguf_package.GGUFWriter(tmp_path / "x.gguf", architecture)
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  writer.add_context_length(32)
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre("gpt-2")
  writer.add_token_list([*dropped, *shown, *alphabet, "th"])
  added = [4 if name == "<start_of_image>" else 3 for name in dropped + shown]
  writer.add_token_types(added + [1] * (len(alphabet) + 1))
  writer.add_token_merges(["t h"])
  fixtures.finish(writer)
  tokenizer = gguf_model.load_tokenizer(tmp_path / "x.gguf")
  for name in dropped + shown:
    ids = tokenizer(f"a{name}b")["input_ids"]
    assert len(ids) == 3
    said = tokenizer.decode(ids, skip_special_tokens=True)
    assert said == (f"a{name}b" if name in shown else "ab")


def _with_stops(path, architecture="llama", end="<|end|>", **ids):
  writer = gguf_package.GGUFWriter(path, architecture)
  tokens = [end, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]
  writer.add_context_length(32)
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre("gpt-2")
  writer.add_token_list(tokens)
  writer.add_token_merges(["t h"])
  for name, number in ids.items():
    writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
  fixtures.finish(writer)
  return str(path)


@pytest.mark.parametrize(
  "ids, wanted",
  [
    (dict(eos=5), (5,)),
    (dict(eos=5, eot=7), (5, 7)),
    (dict(eos=5, eot=7, eom=9), (5, 7, 9)),
    (dict(eot=7), (7,)),
    (dict(), ()),
  ],
)
def test_stops_of_a_file_are_the_same_loaded_and_converted(ids, wanted, tmp_path):
  path = _with_stops(tmp_path / "x.gguf", **ids)
  direct = tokenizer_lib.load_tokenizer(path)
  assert tokenizer_lib.stop_ids(direct, path) == wanted
  gguf_tokenizer.save(path, tmp_path / "folder")
  converted = tokenizer_lib.load_tokenizer(tmp_path / "folder")
  assert tokenizer_lib.stop_ids(converted, tmp_path / "folder") == wanted


@pytest.mark.parametrize(
  "architecture, wanted", [("qwen2", (0, 5)), ("qwen3", (0, 5)), ("llama", (5,))]
)
def test_a_qwen_file_ends_a_reply_at_the_end_of_a_text_too(
  architecture, wanted, tmp_path
):
  """As every published generation_config.json of the family; SmolLM2's does not."""
  path = _with_stops(tmp_path / "x.gguf", architecture, "<|endoftext|>", eos=5)
  tokenizer = tokenizer_lib.load_tokenizer(path)
  assert tokenizer_lib.stop_ids(tokenizer, path) == wanted


@pytest.mark.parametrize("name", ["eos", "eot", "eom"])
def test_a_stop_that_is_no_token_is_refused_by_name(name, tmp_path):
  path = _with_stops(tmp_path / "x.gguf", **{name: 4000})
  with pytest.raises(ValueError, match=f"x.gguf: tokenizer.ggml.{name}_token_id is 40"):
    tokenizer_lib.stop_ids(tokenizer_lib.load_tokenizer(path), path)


def test_merges_of_another_vocabulary_are_an_error(tmp_path):
  with pytest.raises(ValueError, match="x.gguf: its vocabulary and merges do not fit"):
    _byte_level(tmp_path / "x.gguf", "gpt-2", extra=["nowhere else"], forget=True)
