"""Pools: checked before any weights are read, of several families, with revisions."""

import json
import pathlib
import shutil

import gguf as gguf_package
import jax
import numpy as np
import pytest
import safetensors.numpy
from tokenizers import pre_tokenizers

import jswarm
from jswarm.core.types import Request
from jswarm.engine import engine
from jswarm.formats import gguf_model, hf_model, peft_adapter
from jswarm.pool import load as load_lib
from jswarm.pool import specs as specs_lib
from jswarm.systems import artifact, prompts, waves
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, system
from tests import folders, gguf_fixtures, tiny

TOKENS = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "<eos>"]
ADAPTED = ("q", "v", "down")


def write_gguf(path, change=None):
  """A small Qwen3 with a vocabulary of its own; `change(tensors)` damages it."""
  writer = gguf_package.GGUFWriter(path, "qwen3")
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre("gpt-2")
  writer.add_token_list(TOKENS)
  writer.add_token_merges(["t h"])
  writer.add_eos_token_id(len(TOKENS) - 1)
  writer.add_context_length(512)
  writer.add_embedding_length(64)
  writer.add_block_count(2)
  writer.add_feed_forward_length(96)
  writer.add_head_count(4)
  writer.add_head_count_kv(2)
  writer.add_key_length(16)
  writer.add_layer_norm_rms_eps(1e-5)
  shapes = {
    "attn_norm": (64,),
    "attn_q": (64, 64),
    "attn_k": (32, 64),
    "attn_v": (32, 64),
    "attn_output": (64, 64),
    "attn_q_norm": (16,),
    "attn_k_norm": (16,),
    "ffn_norm": (64,),
    "ffn_gate": (96, 64),
    "ffn_up": (96, 64),
    "ffn_down": (64, 96),
  }
  shapes = {
    f"blk.{i}.{name}": shape for i in range(2) for name, shape in shapes.items()
  }
  rng = np.random.default_rng(0)
  draw = lambda shape: rng.normal(len(shape) == 1, 0.2, shape).astype(np.float32)
  tensors = {
    f"{name}.weight": draw(shape)
    for name, shape in {
      "token_embd": (len(TOKENS), 64),
      "output_norm": (64,),
      **shapes,
    }.items()
  }
  if change:
    change(tensors)
  for name, tensor in tensors.items():
    writer.add_tensor(name, tensor)
  gguf_fixtures.finish(writer)
  return str(path)


def write_adapter(folder, base, config, seed=5):
  stacked = tiny.adapters(1, config=config, seed=seed, names=ADAPTED)
  peft_adapter.save_adapter(folder, jax.tree.map(lambda x: x[0], stacked), base, config)
  return str(folder)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
  """(root, HF folder, two adapters on it, GGUF file); not to be changed."""
  root = tmp_path_factory.mktemp("pool")
  base = folders.write_base(root / "base")
  adapters = folders.write_adapters(root, base, num=2)
  return root, base, adapters, write_gguf(root / "qwen.gguf")


def _cut(path):
  data = path.read_bytes()
  path.write_bytes(data[:-10])


def _narrow(tensors):
  tensors["blk.1.attn_k.weight"] = tensors["blk.1.attn_k.weight"][:16]


def _integers(tensors):
  tensors["blk.1.ffn_up.weight"] = tensors["blk.1.ffn_up.weight"].astype(np.int32)


def _int8(path):
  tensors = safetensors.numpy.load_file(path)
  tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.int8)
  safetensors.numpy.save_file(tensors, path)


def _larger(folder):
  from transformers import PreTrainedTokenizerFast

  tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
  tokenizer.add_tokens(["one more"])
  tokenizer.save_pretrained(folder)


FOLDERS = {
  "truncated weights": (
    lambda f: _cut(f / "model.safetensors"),
    "model.safetensors is truncated",
  ),
  "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetens"),
  "quantised weights": (lambda f: _int8(f / "model.safetensors"), "norm.weight is I8"),
  "another config": (
    lambda f: (f / "config.json").write_text(
      json.dumps(json.loads((f / "config.json").read_text()) | {"hidden_size": 64})
    ),
    "other shapes than config.json",
  ),
  "no tokenizer": (
    lambda f: [p.unlink() for p in f.glob("token*")],
    "holds no readable tokenizer",
  ),
  "another tokenizer": (_larger, "do not belong together"),
}


@pytest.fixture
def unread(monkeypatch):
  """Reading the weights of a base fails."""
  monkeypatch.setattr(hf_model, "_fill", lambda *_: pytest.fail("weights were read"))
  monkeypatch.setattr(gguf_model, "_fill", lambda *_: pytest.fail("weights were read"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_second_folder_is_refused_before_weights_are_read(
  name, disk, tmp_path, unread
):
  damage, message = FOLDERS[name]
  second = pathlib.Path(shutil.copytree(disk[1], tmp_path / "second"))
  damage(second)
  with pytest.raises(ValueError, match=message):
    jswarm.load_pool([disk[1], str(second)])


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda t: t.pop("blk.1.ffn_norm.weight"), "no tensor blk.1.ffn_norm.weight"),
    (_narrow, r"attn_k.weight has shape \(16, 64\)"),
    (_integers, "ffn_up.weight is quantised as I32"),
  ],
)
def test_a_second_gguf_file_is_refused_before_weights_are_read(
  change, message, disk, tmp_path, unread
):
  with pytest.raises(ValueError, match=message):
    jswarm.load_pool([disk[1], write_gguf(tmp_path / "second.gguf", change)])


def test_a_truncated_second_gguf_file_is_refused_before_weights_are_read(
  disk, tmp_path, unread
):
  second = pathlib.Path(shutil.copy(disk[3], tmp_path / "second.gguf"))
  _cut(second)
  with pytest.raises(ValueError, match="second.gguf is truncated"):
    jswarm.load_pool([disk[1], str(second)])


def test_an_adapter_of_another_base_is_refused_before_weights_are_read(disk, unread):
  _, base, adapters, file = disk
  with pytest.raises(ValueError, match="needs.*The adapter was made for"):
    jswarm.load_pool([adapters[0], f"{file}+{adapters[1]}"], base=base)


def test_a_pool_that_is_whole_passes_and_its_tokenizers_are_read_once(
  disk, monkeypatch
):
  _, base, adapters, file = disk
  read, load = [], load_lib.tokenizer_lib.load_tokenizer
  monkeypatch.setattr(
    load_lib.tokenizer_lib,
    "load_tokenizer",
    lambda path, *more: (read.append(path), load(path, *more))[1],
  )
  load_lib.load_pool(specs_lib.parse_specs([*adapters, file], base))
  assert read == [base, file]


@pytest.mark.parametrize(
  "load",
  [
    lambda root: jswarm.load_pool(["x"], base="y", dtype="float16"),
    lambda root: jswarm.load_system(root, dtype="float16"),
    lambda root: search.pool(config_lib.resolve_default({"pool.dtype": "float16"})),
  ],
)
def test_an_unknown_dtype_lists_the_known_ones(load, tmp_path, monkeypatch):
  monkeypatch.setattr(artifact, "read", lambda folder: ({"experts": {}}, None))
  with pytest.raises(ValueError, match="dtype='float16': allowed are float32, bfl"):
    load(tmp_path)


def _prompts():
  return [r["question"] for r in folders.records(test=6)["test"]]


def _said(found, pool):
  """What a system says with the pool that is still in memory."""
  config = config_lib.resolve_default(folders.SMALL)
  made = engine.make_experts(pool, config.engine)
  made.install(found.weights)
  questions = [prompts.Question(p) for p in _prompts()]
  terms = prompts.Terms(made, config.wording, limit=6, chat=False)
  items = waves.grid([artifact.job_of(found)], [questions])
  return [done.reply for done in waves.run(items, terms, waves.direct(made))]


def _with_gguf(disk, adapted):
  """Experts of two families: two adapters on a folder, and what is in a GGUF file."""
  root, _, adapters, file = disk
  if not adapted:
    return [*adapters, file]
  mine = write_adapter(root / "on-qwen", file, gguf_model.read_config(file))
  return [*adapters, {"base": file, "adapter": mine, "name": "tuned"}, file]


@pytest.mark.slow
@pytest.mark.parametrize("adapted", [False, True])
def test_two_families_and_a_gguf_file_are_searched_and_saved(adapted, disk, tmp_path):
  pool = jswarm.load_pool(_with_gguf(disk, adapted), base=disk[1])
  assert [(g.kind, g.config.family, g.config.width) for g in pool.groups] == [
    ("lora", "llama", 32),
    ("lora" if adapted else "full", "qwen3", 64),
  ]
  assert pool.groups[1].stops == (len(TOKENS) - 1,)
  result = jswarm.search(
    pool,
    folders.records(),
    utility=folders.said_something_new,
    workdir=str(tmp_path),
    config=folders.SMALL,
  )
  assert len(result.results["singles_dev"]) == len(pool.names)
  replies = jswarm.load_system(tmp_path / "best").generate(_prompts())
  assert any(replies) and replies == _said(result.system, pool)


def _saved_and_loaded(pool, folder, base=""):
  """The pool again, every expert written as a system would."""
  config = config_lib.resolve_default(folders.SMALL)
  made = engine.make_experts(pool, config.engine)
  entries = made.save(str(folder), made.weights, range(len(pool.names)))
  specs = [
    system._stored_spec(folder, name, entry, base) for name, entry in entries.items()
  ]
  return entries, load_lib.load_pool(specs)


@pytest.mark.parametrize("adapted", [False, True])
def test_every_expert_of_a_mixed_pool_comes_back_as_it_was(adapted, disk, tmp_path):
  pool = jswarm.load_pool(_with_gguf(disk, adapted), base=disk[1])
  _, again = _saved_and_loaded(pool, tmp_path)
  assert again.names == pool.names
  for before, after in zip(pool.groups, again.groups, strict=True):
    assert before.members == after.members and before.stops == after.stops
    assert load_lib.digest(before.tokenizer) == load_lib.digest(after.tokenizer)
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    jax.tree.map(np.testing.assert_array_equal, before.particles, after.particles)


@pytest.fixture
def hub(disk, tmp_path, monkeypatch):
  """The calls of `specs.resolve`; it knows two revisions of a base, an adapter."""
  second = folders.write_base(tmp_path / "second", seed=3)
  lora = write_adapter(tmp_path / "lora", "owner/base", folders.CONFIG)
  places = {
    ("owner/base", None): disk[1],
    ("owner/base", "v1"): disk[1],
    ("owner/base", "v2"): second,
    ("owner/lora", "r7"): lora,
    ("owner/lora", None): lora,
  }
  calls = []

  def resolve(path, revision=None):
    calls.append((path, revision))
    return places[path, revision]

  monkeypatch.setattr(specs_lib, "resolve", resolve)
  return calls


@pytest.mark.parametrize(
  "expert, asked",
  [
    (
      {"base": "owner/base", "adapter": "owner/lora", "revision": "r7"},
      {("owner/base", None), ("owner/lora", "r7")},
    ),
    (
      {"base": "owner/base", "adapter": "owner/lora", "base_revision": "v2"},
      {("owner/base", "v2"), ("owner/lora", None)},
    ),
    (
      {"path": "owner/lora", "revision": "r7", "base_revision": "v2"},
      {("owner/base", "v2"), ("owner/lora", "r7")},
    ),
    (
      {"path": "owner/base+owner/lora", "revision": "r7", "base_revision": "v1"},
      {("owner/base", "v1"), ("owner/lora", "r7")},
    ),
    ({"path": "owner/base", "revision": "v1"}, {("owner/base", "v1")}),
  ],
)
def test_each_repository_is_asked_for_its_own_revision(expert, asked, hub):
  jswarm.load_pool([expert])
  assert set(hub) == asked


def test_a_base_revision_without_an_adapter_is_refused(hub):
  with pytest.raises(ValueError, match="no adapter.*a whole model has a `revision`"):
    jswarm.load_pool([{"base": "owner/base", "base_revision": "v1"}])


def test_two_revisions_of_a_base_are_two_groups_of_adapters(hub):
  adapter = {"base": "owner/base", "adapter": "owner/lora"}
  pool = jswarm.load_pool(
    [
      {**adapter, "base_revision": "v1", "name": "old"},
      {**adapter, "base_revision": "v2", "name": "new"},
      {"base": "owner/base", "revision": "v1", "name": "plain"},
    ]
  )
  old, new = pool.groups
  assert (old.members, new.members) == ((0, 2), (1,))
  assert np.any(old.params["embed"] != new.params["embed"])


def test_two_revisions_of_a_model_are_two_experts_of_one_group(hub):
  pool = jswarm.load_pool(
    [
      {"base": "owner/base", "revision": "v1", "name": "old"},
      {"base": "owner/base", "revision": "v2", "name": "new"},
    ]
  )
  (group,) = pool.groups
  old, new = group.particles["embed"]
  assert group.members == (0, 1) and np.any(old != new)


def test_a_saved_adapter_stands_on_the_revision_that_it_stood_on(hub, tmp_path, disk):
  pool = jswarm.load_pool(
    [
      {"base": "owner/base", "adapter": "owner/lora", "base_revision": "v2"},
      {"base": "owner/base", "revision": "v2", "name": "plain"},
    ]
  )
  del hub[:]
  entries, _ = _saved_and_loaded(pool, tmp_path)
  assert {entry["base_revision"] for entry in entries.values()} == {"v2"}
  assert set(hub) == {("owner/base", "v2")}
  del hub[:]
  _saved_and_loaded(pool, tmp_path, base=disk[1])
  assert not hub


def test_two_experts_of_one_model_are_a_particle_each(disk, tmp_path):
  _, base, _, _ = disk
  other = folders.write_base(tmp_path / "other", seed=7)
  pool = jswarm.load_pool(
    [{"base": base, "name": "one"}, other, {"base": base, "name": "two"}]
  )
  (group,) = pool.groups
  assert [spec.name for spec in group.specs] == ["one", "two", "other"]
  assert group.members == (0, 2, 1)
  one, two, third = group.particles["embed"]
  assert np.all(one == two) and np.any(one != third)
  assert {len(x) for x in jax.tree.leaves(group.particles)} == {3}


@pytest.mark.parametrize(
  "made_for, warned",
  [
    ("someone/another-base", True),
    ("someone/BASE", False),
    ("/elsewhere/base/", False),
    ("", False),
  ],
)
def test_an_adapter_that_names_another_base_of_equal_shapes_is_warned_of(
  made_for, warned, disk, tmp_path, caplog
):
  adapter = write_adapter(tmp_path / "lora", made_for, folders.CONFIG)
  jswarm.load_pool([adapter], base=disk[1])
  said = [r.getMessage() for r in caplog.records if "was made for" in r.getMessage()]
  assert len(said) == warned
  if warned:
    assert made_for in said[0] and disk[1] in said[0] and "check that" in said[0]


def test_a_base_without_a_chat_template_is_told_only_to_those_who_ask_for_chat(
  tmp_path, caplog
):
  base = folders.write_base(tmp_path / "no-template")
  experts = engine.make_experts(jswarm.load_pool([base]), tiny.settings())
  experts.ask([Request(0, "plain", 2)])
  assert "chat template" not in caplog.text
  experts.ask([Request(0, "asked", 2, True)])
  assert "no-template has no chat template" in caplog.text


def test_the_wish_to_think_reaches_the_prompt_and_the_record(tmp_path, monkeypatch):
  base = pathlib.Path(folders.write_base(tmp_path / "base"))
  template = "{{ messages[0].content }}{{ ' no' if enable_thinking is false }}"
  (base / "chat_template.jinja").write_text(template)
  asked = {}
  for thinking in (None, False):
    pool = jswarm.load_pool([str(base)], thinking=thinking)
    made = engine.make_experts(pool, tiny.settings())
    asked[thinking] = made.ask([Request(0, "yes", 2, True)])[0].prompt_tokens
    assert pool.thinking is thinking and made.fixed
  assert asked[False] == asked[None] + 1
  plans = {}
  for thinking in (None, False):
    config = {**folders.SMALL, "pool.experts": (str(base),), "pool.thinking": thinking}
    resolved = config_lib.resolve_default(config)
    plans[thinking] = search.pool(resolved).thinking, resolved.flat["pool.thinking"]
  assert plans == {None: (None, None), False: (False, False)}


def test_of_whole_models_in_one_group_each_keeps_the_text_of_its_own_folder(tmp_path):
  one, two = (
    pathlib.Path(folders.write_base(tmp_path / name, seed=i))
    for i, name in enumerate(("one", "two"))
  )
  (two / "chat_template.jinja").write_text("Q: {{ messages[0].content }}")
  (two / "generation_config.json").write_text('{"eos_token_id": [1, 5]}')
  fields = json.loads((two / "config.json").read_text())
  fields["max_position_embeddings"] = 100
  (two / "config.json").write_text(json.dumps(fields))
  for order in ((one, two), (two, one)):
    (group,) = jswarm.load_pool([str(folder) for folder in order]).groups
    text = {path.name: group.text(row) for row, path in enumerate(order)}
    assert text["one"].tokenizer.chat_template is None
    assert text["two"].tokenizer.chat_template == "Q: {{ messages[0].content }}"
    assert {1, 5} <= set(text["two"].stops) and 5 not in text["one"].stops
    assert (text["one"].max_positions, text["two"].max_positions) == (256, 100)
