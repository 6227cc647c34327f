"""Next-token logits of several experts in lockstep, each with a cache of its own."""

import dataclasses

import jax
import numpy as np
import pytest

from jswarm.core.types import Request
from tests import tiny
from tests.engine.readings_test import experts_of, merged, whole

PROMPT = "what is two and two?"


def assert_next(logits, params, text):
  """Equal up to the constant that a softmax takes away."""
  wanted = whole(params, text)[0][-1]
  found = logits - np.logaddexp.reduce(logits)
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "fields",
  [{"form": "grouped"}, {"form": "masked"}, {"form": "merged"}, {"space": "dense"}],
)
def test_every_expert_says_at_every_step_what_it_says_of_the_whole_text(fields):
  group = tiny.lora_group(3)
  logits = experts_of(group, **fields).logits
  requests = [Request(e, PROMPT, 4) for e in (2, 0, 1)]
  texts = [list(PROMPT.encode()) for _ in requests]
  found, state = logits.prefill(requests)
  for t in range(4):
    assert np.stack(found).shape == (3, tiny.CONFIG.vocab)
    for request, row, text in zip(requests, found, texts):
      assert_next(row, merged(group, request.expert), text)
    token = int(np.sum(found, axis=0)[:256].argmax()) + t
    found, state = logits.step(state, [token] * 3)
    texts = [[*text, token] for text in texts]
  for request, row, text in zip(requests, found, texts):
    assert_next(row, merged(group, request.expert), text)


def test_experts_of_several_bases_and_prompts_go_in_lockstep_and_may_wait():
  adapters, full = tiny.lora_group(2), tiny.full_group(2, first=2)
  logits = experts_of(adapters, full).logits
  of = lambda e: (
    jax.tree.map(lambda x: x[e - 2], full.particles) if e > 1 else merged(adapters, e)
  )
  requests = [Request(e, p, 3) for p in (PROMPT, "a") for e in (3, 0, 2)]
  texts = [list(r.prompt.encode()) for r in requests]
  found, state = logits.prefill(requests)
  for fed in ([5, 6, 7, 8, 9, 10], [-1, 65, -1, 66, -1, 67], [70, 71, -1, 72, 73, 74]):
    before = found
    found, state = logits.step(state, fed)
    for i, token in enumerate(fed):
      if token < 0:
        np.testing.assert_array_equal(found[i], before[i])
      else:
        texts[i].append(token)
      assert_next(found[i], of(requests[i].expert), texts[i])


def test_a_greedy_decode_by_hand_says_what_the_pool_says():
  experts = experts_of(tiny.lora_group(2))
  reply = experts.ask([Request(1, PROMPT, 6)])[0]
  found, state = experts.logits.prefill([Request(1, PROMPT, 6)])
  said = []
  while (
    len(said) < 6 and (token := int(found[0].argmax())) not in (experts.logits.stops[1])
  ):
    said.append(token)
    found, state = experts.logits.step(state, [token])
  assert experts.logits.decode(1, said) == reply.text and len(said) == reply.new_tokens


def test_a_state_goes_on_with_the_weights_of_its_prefill():
  group = tiny.lora_group(2)
  experts = experts_of(group)
  _, state = experts.logits.prefill([Request(0, PROMPT, 2)])
  moved = tiny.adapters(2, seed=20)
  experts.install((moved,))
  old, _ = experts.logits.step(state, [65])
  new, _ = experts.logits.prefill([Request(0, PROMPT + "A", 0)])
  text = [*PROMPT.encode(), 65]
  assert_next(old[0], merged(group, 0), text)
  assert_next(new[0], merged(group, 0, moved), text)


def test_words_and_stops_are_those_of_each_expert():
  full = dataclasses.replace(tiny.full_group(1, first=1), stops=(256, 257))
  logits = experts_of(tiny.lora_group(1), full).logits
  assert logits.stops == ((257,), (256, 257))
  assert logits.tokens(1)["<0x41>"] == 65 and logits.decode(0, [65, 66, 257]) == "AB"


def test_a_step_that_cannot_be_says_why():
  logits = experts_of(tiny.lora_group(2)).logits
  _, first = logits.prefill([Request(0, PROMPT, 1), Request(1, PROMPT, 1)])
  with pytest.raises(ValueError, match="1 tokens for 2 rows"):
    logits.step(first, [65])
  with pytest.raises(ValueError, match="token 400 of a vocabulary of 259"):
    logits.step(first, [65, 400])
  _, last = logits.step(first, [65, 65])
  with pytest.raises(ValueError, match="stepped already"):
    logits.step(first, [65, 65])
  with pytest.raises(ValueError, match="larger limit"):
    logits.step(last, [65, 65])
  with pytest.raises(ValueError, match="250 tokens and 10 new ones.*context of 256"):
    logits.prefill([Request(0, "x" * 250, 10)])


def test_logits_along_a_text_and_prompts_given_in_tokens_are_those_of_the_text():
  group = tiny.lora_group(2)
  logits = experts_of(group).logits
  tokens = logits.encode(Request(1, PROMPT, 0))
  assert tokens == list(PROMPT.encode())
  found = logits.along(1, tokens)
  assert found.shape == (len(tokens), tiny.CONFIG.vocab)
  wanted = whole(merged(group, 1), tokens)[0]
  logs = found - np.logaddexp.reduce(found, axis=-1, keepdims=True)
  np.testing.assert_allclose(logs, wanted, rtol=1e-4, atol=1e-4)
  (last,), state = logits.begin([(1, tokens)], 2)
  np.testing.assert_allclose(last, found[-1], rtol=1e-4, atol=1e-4)
  (after,), _ = logits.step(state, [65])
  assert_next(after, merged(group, 1), [*tokens, 65])
