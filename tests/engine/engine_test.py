"""Serving a pool: one batch for many experts gives what each gives alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.core.types import Request
from jswarm.engine import engine
from jswarm.model import lora as lora_lib
from jswarm.model import sampling
from jswarm.pool.load import Group
from tests import tiny

PROMPTS = [
  "a",
  "what is two and two?",
  "the longest of these prompts, by some words",
  "short one",
  "tell me more",
]


def _requests(experts, limit=8, prompts=PROMPTS):
  return [Request(e, p, limit) for p in prompts for e in experts]


def _alone(group, expert, particles=None):
  """One expert merged into the base, served as a whole model."""
  particles = group.particles if particles is None else particles
  adapter = jax.tree.map(lambda x: x[expert], particles)
  merged = lora_lib.merge(group.params, adapter)
  full = Group(
    "full",
    (group.specs[expert],),
    (0,),
    group.config,
    group.tokenizer,
    group.stops,
    None,
    jax.tree.map(lambda x: x[None], merged),
  )
  return engine.make_experts(tiny.pool(full), tiny.settings())


def _texts(experts, requests):
  return [reply.text for reply in experts.ask(requests)]


def test_a_mixed_batch_says_what_each_merged_expert_says_alone():
  group = tiny.lora_group(3)
  experts = engine.make_experts(tiny.pool(group), tiny.settings())
  requests = _requests(range(3))
  replies = _texts(experts, requests)
  for e in range(3):
    mine = [r for q, r in zip(requests, replies) if q.expert == e]
    assert mine == _texts(_alone(group, e), _requests([0]))
  assert len(set(replies[:3])) > 1  # the adapters matter


def test_batch_size_and_company_do_not_change_a_reply():
  group = tiny.lora_group(3)
  requests = _requests(range(3))
  whole = _texts(
    engine.make_experts(tiny.pool(group), tiny.settings(rows=16)), requests
  )
  few = engine.make_experts(tiny.pool(group), tiny.settings(rows=2, pack_tokens=128))
  assert _texts(few, requests) == whole
  assert [_texts(few, [r])[0] for r in requests[:4]] == whole[:4]


def test_sampled_replies_depend_on_the_request_and_not_on_the_batch():
  group = tiny.lora_group(2)
  sampled = tiny.settings(sampling=sampling.Sampling(temperature=1.0, top_p=0.9))
  experts = engine.make_experts(tiny.pool(group), sampled)
  requests = _requests(range(2))
  together = _texts(experts, requests)
  assert [_texts(experts, [r])[0] for r in requests] == together
  other = tiny.settings(seed=1, sampling=sampled.sampling)
  assert _texts(engine.make_experts(tiny.pool(group), other), requests) != together


def test_three_updates_under_one_name_give_the_replies_of_a_cold_engine():
  group = tiny.lora_group(3)
  warm = engine.make_experts(tiny.pool(group), tiny.settings())
  seen = set()
  for step in range(3):
    weights = (tiny.adapters(3, seed=20 + step),)
    warm.install(weights)
    replies = _texts(warm, _requests(range(3)))
    cold = engine.make_experts(tiny.pool(group), tiny.settings())
    cold.install(weights)
    assert replies == _texts(cold, _requests(range(3)))
    seen.add(tuple(replies))
  assert len(seen) == 3


@pytest.mark.parametrize("form", ["auto", "grouped"])
def test_dense_coefficients_say_what_the_mixed_products_say(form):
  group, dense = tiny.lora_group(3), tiny.settings(space="dense", form=form)
  experts = engine.make_experts(tiny.pool(group), dense)
  factors = engine.make_experts(tiny.pool(group), tiny.settings())
  assert _texts(experts, _requests(range(3))) == _texts(factors, _requests(range(3)))
  mix = jnp.array([[0.5, 0.5, 0.0], [1.2, -0.3, 0.1], [0.0, 0.0, 0.0]])
  experts.install(({"mix": mix},))
  for e in range(3):
    wide = {
      n: {k: jnp.asarray(x)[None] for k, x in f.items()}
      for n, f in lora_lib.dense_adapter(group.particles, np.asarray(mix[e])).items()
    }
    assert _texts(experts, _requests([e])) == _texts(
      _alone(group, 0, wide), _requests([0])
    )


def test_adapters_that_did_not_begin_alike_move_as_dense_updates(caplog):
  apart = tiny.lora_group(3)
  same = {n: {**f, "A": f["A"][:1].repeat(3, 0)} for n, f in apart.particles.items()}
  alike = dataclasses.replace(apart, particles=same)
  with caplog.at_level("INFO"):
    moving = [
      engine.make_experts(tiny.pool(g), tiny.settings(space="auto")).weights[0]
      for g in (apart, alike)
    ]
  assert set(moving[0]) == {"mix"} and set(moving[1]) == set(apart.particles)
  assert "move as dense updates" in caplog.text and "move as factors" in caplog.text


def test_a_pool_of_several_bases_and_whole_models_answers_each_by_its_own():
  lora, full = tiny.lora_group(2), tiny.full_group(2, first=2)
  experts = engine.make_experts(tiny.pool(lora, full), tiny.settings())
  assert experts.groups == ((0, 1), (2, 3))
  requests = _requests(range(4), prompts=PROMPTS[:3])
  replies = _texts(experts, requests)
  alone = tiny.full_group(2)
  for e in range(2):
    mine = [r for q, r in zip(requests, replies) if q.expert == 2 + e]
    assert mine == _texts(
      engine.make_experts(tiny.pool(alone), tiny.settings()),
      _requests([e], prompts=PROMPTS[:3]),
    )
  weights = jax.tree.map(lambda x: x[::-1], experts.weights[1])
  experts.install((experts.weights[0], weights))
  swapped = _texts(experts, requests)
  assert [r for q, r in zip(requests, swapped) if q.expert == 3] == [
    r for q, r in zip(requests, replies) if q.expert == 2
  ]


def test_an_expert_alone_in_its_group_keeps_its_weights():
  experts = engine.make_experts(
    tiny.pool(tiny.lora_group(2), tiny.full_group(1, first=2)), tiny.settings()
  )
  assert experts.groups == ((0, 1),) and len(experts.weights) == 1


def test_replies_count_their_tokens_and_keep_their_limit():
  experts = engine.make_experts(tiny.pool(tiny.lora_group(1)), tiny.settings())
  short, long = experts.ask([Request(0, "abc", 2), Request(0, "abc", 6)])
  assert short.prompt_tokens == long.prompt_tokens == 3
  assert short.new_tokens <= 2 and long.new_tokens <= 6


def test_a_prompt_beyond_the_context_is_an_error_that_shows_it():
  experts = engine.make_experts(tiny.pool(tiny.lora_group(1)), tiny.settings())
  with pytest.raises(ValueError, match="400 tokens.*context of 256.*'xxxx"):
    experts.ask([Request(0, "x" * 400, 8)])


def test_replies_on_disk_are_those_of_the_same_bytes_and_never_stale(tmp_path):
  group, file = tiny.lora_group(3), str(tmp_path / "replies.sqlite")
  requests, plain = _requests(range(3)), tiny.settings()
  stored = tiny.settings(memo=file)
  cold = _texts(engine.make_experts(tiny.pool(group), plain), requests)
  engine.reset_statistics()
  assert _texts(engine.make_experts(tiny.pool(group), stored), requests) == cold
  assert engine.statistics()["stored"] == 0
  again = engine.make_experts(tiny.pool(group), stored)
  assert again.ask(requests) == engine.make_experts(tiny.pool(group), plain).ask(
    requests
  )
  assert engine.statistics()["stored"] == len(requests)
  moved = jax.tree.map(lambda x: x.at[1].multiply(2.0), again.weights[0])
  again.install((moved,))  # one expert under its old name: only its replies are new
  engine.reset_statistics()
  fresh = engine.make_experts(tiny.pool(group), plain)
  fresh.install((moved,))
  assert _texts(again, requests) == _texts(fresh, requests)
  assert engine.statistics()["stored"] == 2 * len(PROMPTS)


@pytest.mark.slow
def test_a_pool_lends_draws_of_what_it_came_with_whatever_moves_meanwhile():
  placed = engine.place(tiny.pool(tiny.lora_group(2)), tiny.settings())
  experts, drawn = placed.experts(), placed.sampled(1.5)
  asked = [Request(1, "what is two and two?", 8, draw=d) for d in range(3)]
  assert len({r.text for r in experts.ask(asked)}) == 1  # greedy
  before = drawn.ask(asked)
  assert len({r.text for r in before}) > 1
  moved = tiny.adapters(2, seed=20)
  experts.install((moved,))
  said = experts.ask(asked[:1])
  assert drawn.ask(asked) == before
  assert experts.ask(asked[:1]) == said  # and it stands as it was left
