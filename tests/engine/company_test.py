"""An expert in a pool answers as it does alone, whatever stands beside it."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jswarm.core.types import Request
from jswarm.engine import engine
from jswarm.pool.load import Text
from tests import tiny

PROMPTS = ["a", "what is two and two?", "the longest of these prompts, by some words"]
FORMS = {
  "grouped": {"form": "grouped"},
  "masked": {"form": "masked"},
  "merged": {"form": "merged"},
  "dense": {"space": "dense"},
  "dense grouped": {"space": "dense", "form": "grouped"},
  "int8": {"int8": True},
  "int8 masked": {"int8": True, "form": "masked"},
}


def _requests(experts, prompts=PROMPTS, limit=8, chat=False):
  return [Request(e, p, limit, chat) for p in prompts for e in experts]


def _only(group, row, **fields):
  """A pool of one expert of a group, alone."""
  one = dataclasses.replace(
    group,
    specs=(group.specs[row],),
    members=(0,),
    particles=jax.tree.map(lambda x: x[row : row + 1], group.particles),
    texts=group.texts[row : row + 1],
    **fields,
  )
  return engine.make_experts(tiny.pool(one), tiny.settings())


def _replies(experts, requests, expert):
  asked = [r for r in requests if r.expert == expert]
  both = zip(requests, experts.ask(requests), strict=True)
  said = [reply for request, reply in both if request.expert == expert]
  assert len(said) == len(asked) > 0
  return said


def _in_order(group, order):
  return dataclasses.replace(
    group,
    specs=tuple(group.specs[i] for i in order),
    particles=jax.tree.map(lambda x: x[np.array(order)], group.particles),
    texts=tuple(group.texts[i] for i in order) if group.texts else (),
  )


@pytest.fixture(scope="module", name="lora")
def _lora():
  """Three adapters, and what each says alone (base in 8 bits?, which)."""
  group = tiny.lora_group(3)

  @functools.cache
  def alone(int8, row):
    settings = tiny.settings(int8=int8, form="grouped" if int8 else "auto")
    one = dataclasses.replace(_in_order(group, [row]), members=(0,))
    return engine.make_experts(tiny.pool(one), settings).ask(_requests([0]))

  assert len({alone(False, row)[1].text for row in range(3)}) == 3
  return group, alone


def _mostly_slow(names, *fast):
  """Each form compiles programs of its own: a few of them are for every day."""
  return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("form", _mostly_slow(FORMS, "grouped", "masked"))
def test_in_every_form_each_adapter_says_what_it_says_alone(form, lora):
  group, alone = lora
  experts = engine.make_experts(tiny.pool(group), tiny.settings(**FORMS[form]))
  requests = _requests(range(3))
  for row in range(3):
    assert _replies(experts, requests, row) == alone("int8" in form, row)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["grouped", "masked"])
def test_the_order_of_the_pool_and_the_number_of_rows_do_not_matter(form, lora):
  group, alone = lora
  for order, rows in zip(itertools.permutations(range(3)), (1, 2, 3, 5, 8, 16)):
    settings = tiny.settings(rows=rows, form=form)
    experts = engine.make_experts(tiny.pool(_in_order(group, order)), settings)
    requests = _requests(range(3))[: 3 + rows]
    for place, row in enumerate(order):
      said = _replies(experts, requests, place)
      assert said == alone(False, row)[: len(said)]


# A neighbour that was never checked, or has just been moved.
DAMAGE = {
  "huge": lambda x: x * 1e30,
  "huge both ways": lambda x: (x * 1e38).at[..., ::2].multiply(-1.0),
  "infinite": lambda x: jnp.full_like(x, jnp.inf),
  "no numbers": lambda x: jnp.full_like(x, jnp.nan),
}


@pytest.mark.parametrize("damage", _mostly_slow(DAMAGE, "no numbers"))
@pytest.mark.parametrize("form", ["grouped", "masked"])
def test_a_broken_adapter_does_not_change_what_its_neighbours_say(form, damage, lora):
  group, alone = lora
  for place in (0, 2):  # before and behind them, in packs and lanes
    break_ = lambda x, place=place: x.at[place].set(DAMAGE[damage](x[place]))
    experts = engine.make_experts(tiny.pool(group), tiny.settings(form=form))
    experts.install((jax.tree.map(break_, experts.weights[0]),))
    requests = _requests(range(3))
    for row in {0, 1, 2} - {place}:
      assert _replies(experts, requests, row) == alone(False, row)


def _words(start, template):
  """259 tokens of a byte-level vocabulary whose ids begin elsewhere: equal in size."""
  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  letters = letters[start:] + letters[:start]
  tokens = [*letters, "<pad>", "<eos>", "<bos>"]
  model = models.BPE({t: i for i, t in enumerate(tokens)}, [])
  tokenizer = Tokenizer(model)
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  if start:
    tokenizer.post_processor = processors.TemplateProcessing(
      single="<bos> $A", special_tokens=[("<bos>", 258)]
    )
  return PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    eos_token="<eos>",
    bos_token="<bos>",
    chat_template=template,
  )


@pytest.fixture(scope="module", name="whole")
def _whole():
  """Three whole models of one size, each with a text of its own."""
  group = tiny.full_group(3)
  texts = (
    Text(_words(0, None), (257,), 256),
    Text(_words(7, "Q: {{ messages[0].content }} A:"), (257, 70, 71, 72), 200),
    Text(_words(0, "{{ messages[0].content | upper }}"), tuple(range(40, 90)), 128),
  )
  return dataclasses.replace(group, texts=texts)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("chat", [pytest.param(False, marks=pytest.mark.slow), True])
def test_whole_models_keep_their_own_tokenizer_template_and_stops(chat, devices, whole):
  if devices > len(jax.local_devices()):
    pytest.skip("one device")
  requests = _requests(range(3), chat=chat)
  alone = [_only(whole, row).ask(_requests([0], chat=chat)) for row in range(3)]
  assert len({r.prompt_tokens for said in alone for r in said[:1]}) > 1
  for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
    pool = tiny.pool(_in_order(whole, order))
    experts = engine.make_experts(pool, tiny.settings(devices=devices))
    for place, row in enumerate(order):
      assert _replies(experts, requests, place) == alone[row]


def test_room_counts_stops_names_and_readings_are_each_experts_own(whole):
  experts = engine.make_experts(tiny.pool(whole), tiny.settings())
  alone = [_only(whole, row) for row in range(3)]
  for row, one in enumerate(alone):
    for text in ("", "some words\n", "é"):
      assert experts.count(row, text) == one.count(0, text)
      assert experts.clip(row, text, 3) == one.clip(0, text, 3)
    assert experts.room(row, 20) == one.room(0, 20)
    assert experts.logits.stops[row] == one.logits.stops[0]
    assert experts.logits.tokens(row) == one.logits.tokens(0)
    (mine,) = experts.hidden([Request(row, "some words", 1)])
    (own,) = one.hidden([Request(0, "some words", 1)])
    np.testing.assert_allclose(mine, own, atol=1e-5)
  assert len(set(experts.fixed)) == 3


def test_a_saved_expert_takes_its_own_text_along(whole, tmp_path):
  experts = engine.make_experts(tiny.pool(whole), tiny.settings())
  experts.save(str(tmp_path), experts.weights, range(3))
  for row, text in enumerate(whole.texts):
    folder = tmp_path / "experts" / whole.specs[row].name
    saved = PreTrainedTokenizerFast.from_pretrained(folder)
    assert saved.chat_template == text.tokenizer.chat_template
    assert saved.encode("some words") == text.tokenizer.encode("some words")
    assert (
      f'"max_position_embeddings": {text.max_positions}'
      in (folder / "config.json").read_text()
    )
    for stop in text.stops:
      assert str(stop) in (folder / "generation_config.json").read_text()
