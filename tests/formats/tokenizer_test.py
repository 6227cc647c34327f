"""text: ids and back, one BOS, every stop, the longest prefix; without torch."""

import json
import shutil
import subprocess
import sys
import textwrap

from absl import logging
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from tokenizers import (
  AddedToken,
  Tokenizer,
  decoders,
  models,
  pre_tokenizers,
  processors,
  trainers,
)
from transformers import PreTrainedTokenizerFast

from jswarm.formats import tokenizer as tokenizer_lib

TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
  "{{ m['content'] }}<|im_end|>\n{% endfor %}"
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
  "the cat sat on the mat, the dog sat on the log",
  "def add(a, b):\n    return a + b\n",
  "1 2 3 10 100 1000; aaaa bbbb    cccc",
  "naïve café, Größe, 漢字 and 😀😀",
]
WORDS = st.text(alphabet=st.sampled_from("theca sdog\n 12é漢😀"), max_size=40)


def _build(template=TEMPLATE):
  tokenizer = Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  names = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
  trainer = trainers.BpeTrainer(
    vocab_size=340,
    special_tokens=[AddedToken(n, special=True) for n in names],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(CORPUS, trainer)
  tokenizer.post_processor = processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", 0)]
  )
  return PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token="<s>",
    eos_token="</s>",
    chat_template=template,
  )


@pytest.fixture(scope="module", name="bpe")
def _bpe():
  return _build()


@pytest.fixture(scope="module", name="folder")
def _folder(bpe, tmp_path_factory):
  folder = tmp_path_factory.mktemp("tokenizer")
  bpe.save_pretrained(folder)
  return folder


@given(st.text(max_size=50))
@settings(deadline=None)
def test_bytes_and_back_is_the_same_text(words):
  tokenizer = tokenizer_lib.load_tokenizer("bytes")
  [ids] = tokenizer_lib.encode(tokenizer, [words], chat=True)
  assert ids == list(words.encode())
  assert tokenizer_lib.decode(tokenizer, [[258, *ids, 257, 256]]) == [words]


def test_the_byte_tokenizer_counts_its_special_tokens():
  tokenizer = tokenizer_lib.load_tokenizer("bytes")
  assert len(tokenizer) == tokenizer.vocab_size == len(tokenizer.get_vocab()) == 259
  assert tokenizer_lib.stop_ids(tokenizer) == (257,)


def test_a_folder_gives_back_the_tokenizer_that_was_saved(bpe, folder):
  loaded = tokenizer_lib.load_tokenizer(folder)
  for words in [*CORPUS, "  two  spaces ", ""]:
    assert tokenizer_lib.encode(loaded, [words]) == tokenizer_lib.encode(bpe, [words])
  assert loaded.chat_template == TEMPLATE


def test_a_folder_with_only_tokenizer_json_is_enough(bpe, folder, tmp_path):
  (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
  loaded = tokenizer_lib.load_tokenizer(tmp_path)
  assert tokenizer_lib.encode(loaded, CORPUS) == tokenizer_lib.encode(bpe, CORPUS)


def test_plain_prompts_start_with_bos_and_a_batch_equals_its_rows(bpe):
  rows = tokenizer_lib.encode(bpe, CORPUS)
  assert all(row[0] == 0 and row.count(0) == 1 for row in rows)
  assert rows == [tokenizer_lib.encode(bpe, [words])[0] for words in CORPUS]
  assert tokenizer_lib.encode(bpe, []) == []


def test_the_chat_template_brings_the_only_bos(bpe):
  [ids] = tokenizer_lib.encode(bpe, ["the cat"], chat=True)
  assert ids[0] == 0 and ids.count(0) == 1
  wanted = "<s><|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
  assert bpe.decode(ids) == wanted


@pytest.mark.parametrize("chat", [False, True])
def test_a_reply_is_encoded_as_one_text_with_its_prompt_and_template(chat, bpe):
  prompts, replies = ["the cat", "sat"], [" sat on", ""]
  found = tokenizer_lib.encode(bpe, prompts, chat, replies)
  [before, alone] = tokenizer_lib.encode(bpe, prompts, chat)
  ids = tokenizer_lib.encode(bpe, [" sat on"])[0]
  assert found[0] == [*before, *ids[1:]]  # without a second BOS
  assert found[1] == alone
  byte = tokenizer_lib.encode(tokenizer_lib.ByteTokenizer(), ["a"], chat, ["b"])
  assert byte == [[97, 98]]


def test_chat_without_a_template_is_plain_with_one_warning(monkeypatch):
  warnings = []
  monkeypatch.setattr(logging, "warning", lambda *args: warnings.append(args))
  tokenizer = _build(template=None)
  tokenizer.name_or_path = "a model without a template"
  plain = tokenizer_lib.encode(tokenizer, CORPUS)
  for _ in range(3):
    assert tokenizer_lib.encode(tokenizer, CORPUS, chat=True) == plain
  assert len(warnings) == 1


def test_decode_drops_special_tokens_and_tidies_nothing(bpe):
  words = "a , b .  don 't <|im_end|></s>"
  [ids] = tokenizer_lib.encode(bpe, [words])
  assert tokenizer_lib.decode(bpe, [ids, [], [1]]) == ["a , b .  don 't ", "", ""]


def test_long_prompts_are_neither_cut_nor_padded(bpe):
  bpe.model_max_length = 8
  short, long = tokenizer_lib.encode(bpe, ["a", "1 " * 500])
  assert len(short) == 2 and len(long) > 500


def test_every_stop_of_tokenizer_template_and_folder_counts(bpe, tmp_path):
  vocab = bpe.get_vocab()
  assert tokenizer_lib.stop_ids(bpe) == (vocab["</s>"], vocab["<|im_end|>"])
  (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 70}))
  assert 70 in tokenizer_lib.stop_ids(bpe, tmp_path)
  settings_ = {"eos_token_id": [90, 80]}
  (tmp_path / "generation_config.json").write_text(json.dumps(settings_))
  assert tokenizer_lib.stop_ids(bpe, tmp_path) == (1, 3, 80, 90)


def _count(tokenizer, words):
  return len(tokenizer_lib.encode(tokenizer, [words])[0]) - 1  # BOS


@given(WORDS, st.integers(0, 12))
@settings(deadline=None, max_examples=60)
def test_clip_is_the_longest_prefix_that_fits(words, tokens):
  tokenizer = _SHARED
  clipped = tokenizer_lib.clip(tokenizer, words, tokens)
  assert words.startswith(clipped)
  fitting = [i for i in range(len(words) + 1) if _count(tokenizer, words[:i]) <= tokens]
  assert len(clipped) == fitting[-1]


_SHARED = _build()


def test_clip_of_bytes_never_cuts_a_character():
  tokenizer = tokenizer_lib.load_tokenizer("bytes")
  assert tokenizer_lib.clip(tokenizer, "aé漢", 5) == "aé"
  assert tokenizer_lib.clip(tokenizer, "aé漢", 6) == "aé漢"
  assert tokenizer_lib.clip(tokenizer, "漢", 2) == ""


def test_a_path_without_a_tokenizer_is_an_error_that_says_what_is_one(tmp_path):
  with pytest.raises(ValueError, match=r"no tokenizer folder .*'bytes'.*\.gguf"):
    tokenizer_lib.load_tokenizer(tmp_path / "missing")
  (tmp_path / "notes.txt").write_text("nothing here")
  with pytest.raises(ValueError, match=r"no readable tokenizer .*notes\.txt"):
    tokenizer_lib.load_tokenizer(tmp_path)
  (tmp_path / "tokenizer.json").write_text("{")
  with pytest.raises(ValueError, match="no readable tokenizer"):
    tokenizer_lib.load_tokenizer(tmp_path)


def _cut_json(folder, name="tokenizer.json"):
  text = (folder / name).read_text()
  (folder / name).write_text(text[: len(text) // 2])


def _newer(folder):
  value = json.loads((folder / "tokenizer.json").read_text())
  value["model"]["type"] = "FutureBPE"
  (folder / "tokenizer.json").write_text(json.dumps(value))


def _lost_tokens(folder):
  value = json.loads((folder / "tokenizer.json").read_text())
  value["model"]["vocab"] = dict(list(value["model"]["vocab"].items())[:10])
  (folder / "tokenizer.json").write_text(json.dumps(value))


def _written(name, text):
  return lambda folder: (folder / name).write_bytes(text)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
DAMAGED = {
  "cut short": _cut_json,
  "of a newer library": _newer,
  "a Git LFS pointer": _written("tokenizer.json", POINTER),
  "empty": _written("tokenizer.json", b""),
  "a list": _written("tokenizer.json", b"[]"),
  "not UTF-8": _written("tokenizer.json", b'{"version": "\xff"}'),
  "merges without their tokens": _lost_tokens,
  "a config cut short": lambda f: _cut_json(f, "tokenizer_config.json"),
  "a config that is a list": _written("tokenizer_config.json", b"[1]"),
  "a config not UTF-8": _written("tokenizer_config.json", b'{"a": "\xff"}'),
  "a template not UTF-8": _written("chat_template.jinja", b"\xff"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_tokenizer_is_a_sentence_with_its_folder(what, folder, tmp_path):
  copy = shutil.copytree(folder, tmp_path / "copy")
  DAMAGED[what](copy)
  with pytest.raises(ValueError, match=f"{copy} holds no readable tokenizer"):
    tokenizer_lib.load_tokenizer(copy)


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
@pytest.mark.parametrize(
  "text, found",
  [
    ('{"eos_token_id": [1, 2', "no JSON"),
    ('{"eos_token_id": "<eos>"}', "eos_token_id is '<eos>'; allowed: the number"),
    ('{"eos_token_id": [1, null]}', "eos_token_id is .*allowed"),
    ('{"eos_token_id": true}', "eos_token_id is True"),
    ('{"eos_token_id": -1}', "eos_token_id is -1"),
    ('{"eos_token_id": 2.5}', "eos_token_id is 2.5"),
    ('{"eos_token_id": {"a": 1}}', "eos_token_id is"),
    ("[1]", "holds a JSON list"),
    ("version https://git-lfs.github.com/spec/v1", "no JSON"),
  ],
)
def test_a_file_of_stops_that_names_none_is_a_sentence_with_its_path(
  text, found, name, bpe, tmp_path
):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=f"{tmp_path / name}.*{found}"):
    tokenizer_lib.stop_ids(bpe, tmp_path)


def test_a_folder_loads_where_torch_is_not_installed(folder):
  program = f"""
    import sys
    sys.modules["torch"] = None
    from jswarm.formats import tokenizer as text
    tokenizer = text.load_tokenizer({str(folder)!r})
    assert text.decode(tokenizer, text.encode(tokenizer, ["the cat"], chat=True))
  """
  subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
