"""Scores and hidden states of a pool: text in, numbers out, experts side by side."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.core.types import Candidates, Request
from jswarm.engine import engine
from jswarm.formats.tokenizer import ByteTokenizer
from jswarm.model import lora
from jswarm.model.decoder import make_decoder
from tests import tiny

PROMPTS = ["what is two and two?", "a", "tell me a little more of it"]
ANSWERS = ("four", "five of them", " 4")
BOS = ByteTokenizer.bos_token_id


def experts_of(*groups, **fields):
  return engine.make_experts(tiny.pool(*groups), tiny.settings(**fields))


def merged(group, expert, particles=None):
  particles = group.particles if particles is None else particles
  return lora.merge(group.params, jax.tree.map(lambda x: x[expert], particles))


DECODER = make_decoder(tiny.CONFIG)
APPLY, STATES = jax.jit(DECODER.apply), jax.jit(DECODER.hidden)


def whole(params, text):
  """(log-softmax [T, V], states [T, D]) of one text, by the plain decoder."""
  tokens, positions = np.zeros((1, 64), np.int32), np.full((1, 64), -1, np.int32)
  tokens[0, : len(text)], positions[0, : len(text)] = text, np.arange(len(text))
  logits = np.asarray(APPLY(params, tokens, positions)[0])[0, : len(text)]
  states = np.asarray(STATES(params, tokens, positions)[0])[0, : len(text)]
  return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True), states


def likelihood(params, prompt, completion):
  before = list(prompt.encode()) or [BOS]
  text = [*before, *completion.encode()]
  logs, _ = whole(params, text)
  return [logs[t - 1, text[t]] for t in range(len(before), len(text))]


def assert_scores(found, params, candidates):
  for completion, out in zip(candidates.completions, found, strict=True):
    wanted = likelihood(params, candidates.prompt, completion)
    assert out.dtype == np.float32 and out.shape == (len(completion.encode()),)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-4)


ASKED = [Candidates(e, p, ANSWERS) for p in PROMPTS for e in (2, 0)]


@pytest.mark.parametrize("form", ["grouped", "masked", "merged"])
def test_completions_of_many_experts_score_as_each_does_alone(form):
  group = tiny.lora_group(3)
  scores = experts_of(group, form=form).score(ASKED)
  for candidates, found in zip(ASKED, scores, strict=True):
    assert_scores(found, merged(group, candidates.expert), candidates)
  assert abs(scores[0][0].sum() - scores[1][0].sum()) > 0.1  # the adapters matter


def test_company_and_batch_size_do_not_change_a_score():
  experts = experts_of(tiny.lora_group(3), form="grouped")
  small = experts_of(tiny.lora_group(3), form="grouped", pack_tokens=128)
  together = experts.score(ASKED)
  one = [experts.score([c])[0] for c in ASKED[:2]]
  for a, b in zip(together, [*one, *small.score(ASKED)[2:]], strict=True):
    for x, y in zip(a, b, strict=True):
      np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


def test_scores_and_states_are_of_the_weights_that_are_installed():
  group = tiny.lora_group(3)
  experts = experts_of(group)
  before = experts.score(ASKED[:1]), experts.hidden([Request(2, "a", 0)])
  moved = tiny.adapters(3, seed=20)
  experts.install((moved,))
  assert_scores(experts.score(ASKED[:1])[0], merged(group, 2, moved), ASKED[0])
  state = whole(merged(group, 2, moved), list(b"a"))[1].mean(axis=0)
  after = experts.hidden([Request(2, "a", 0)])
  np.testing.assert_allclose(after[0], state, rtol=1e-4, atol=1e-4)
  experts.install(experts.weights)
  np.testing.assert_array_equal(experts.score(ASKED[:1])[0][0], before[0][0][0])
  np.testing.assert_array_equal(experts.hidden([Request(2, "a", 0)]), before[1])


def test_dense_coefficients_score_as_the_products_they_mix():
  group = tiny.lora_group(3)
  experts = experts_of(group, space="dense")
  mix = np.array([[0.5, 0.5, 0.0], [1.2, -0.3, 0.1], [0.0, 0.0, 0.0]], np.float32)
  experts.install(({"mix": jnp.asarray(mix)},))
  for candidates in (Candidates(1, PROMPTS[0], ANSWERS), Candidates(0, "a", ANSWERS)):
    adapter = lora.dense_adapter(group.particles, mix[candidates.expert])
    params = lora.merge(group.params, jax.tree.map(jnp.asarray, adapter))
    assert_scores(experts.score([candidates])[0], params, candidates)


def test_whole_models_and_adapters_score_in_one_call():
  adapters, full = tiny.lora_group(2), tiny.full_group(2, first=2)
  asked = [Candidates(e, PROMPTS[0], ANSWERS) for e in (3, 0, 2, 1)]
  scores = experts_of(adapters, full).score(asked)
  for candidates, found in zip(asked, scores, strict=True):
    e = candidates.expert
    alone = jax.tree.map(lambda x, e=e: x[e - 2], full.particles)
    params = alone if e > 1 else merged(adapters, e)
    assert_scores(found, params, candidates)


def test_an_int8_base_scores_near_the_exact_one():
  group = tiny.lora_group(2)
  asked = [Candidates(1, PROMPTS[0], ANSWERS)]
  exact, rounded = (experts_of(group, int8=i).score(asked)[0] for i in (False, True))
  for a, b in zip(exact, rounded, strict=True):
    assert 0 < np.abs(a - b).max() < 1.5


def test_spaces_at_the_end_of_a_prompt_belong_to_the_completion():
  experts = experts_of(tiny.lora_group(2))
  ((moved,), (whole_,)) = experts.score(
    [Candidates(0, "what is ", ("it",)), Candidates(0, "what is", (" it",))]
  )
  np.testing.assert_allclose(moved, whole_, rtol=1e-6)
  assert moved.shape == (3,)


def test_a_prompt_without_tokens_begins_with_bos_and_nothing_scores_nothing():
  group = tiny.lora_group(2)
  experts = experts_of(group)
  empty = Candidates(1, "", ("four", ""))
  found, none = experts.score([empty, Candidates(0, "a", ())])
  assert_scores(found, merged(group, 1), empty)
  assert found[1].shape == (0,) and none == []
  assert experts.score([]) == []


class _Merging(ByteTokenizer):
  """Writes "ab" as one token, so that a seam can lie inside of a token."""

  def encode(self, text):
    return list(text.encode().replace(b"ab", b"\xf0"))


def test_the_tokens_of_a_completion_are_those_behind_as_many_as_the_prompt_has():
  group = dataclasses.replace(tiny.lora_group(1), tokenizer=_Merging())
  ((found,),) = experts_of(group).score([Candidates(0, "xa", ("bc",))])
  # Whole: x ab c; the prompt alone: x a; so c follows x a.
  logs, _ = whole(merged(group, 0), list(b"xac"))
  np.testing.assert_allclose(found, [logs[1, ord("c")]], rtol=1e-4)


def test_hidden_states_are_means_over_the_prompt_whatever_stands_beside_it():
  group = tiny.lora_group(3)
  experts = experts_of(group)
  requests = [Request(e, p, 0) for p in PROMPTS for e in (2, 0)]
  found = experts.hidden(requests)
  assert found.shape == (6, tiny.CONFIG.width) and found.dtype == np.float32
  for request, state in zip(requests, found):
    _, states = whole(merged(group, request.expert), list(request.prompt.encode()))
    np.testing.assert_allclose(state, states.mean(axis=0), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(experts.hidden(requests[3:4])[0], found[3], atol=1e-5)
  assert experts.hidden([]).shape == (0, 0)


@pytest.mark.slow
def test_states_of_unlike_sizes_are_refused_with_both():
  config = dataclasses.replace(tiny.CONFIG, width=24)
  other = dataclasses.replace(
    tiny.full_group(1, first=1),
    config=config,
    particles=jax.tree.map(lambda x: x[None], tiny.base(config=config)),
  )
  experts = experts_of(tiny.lora_group(1), other)
  with pytest.raises(ValueError, match="'lora0': 32, 'full1': 24"):
    experts.hidden([Request(0, "a", 0), Request(1, "a", 0)])
  assert experts.hidden([Request(1, "a", 0)]).shape == (1, 24)


def test_what_exceeds_the_context_is_refused_and_nothing_is_cut():
  experts = experts_of(tiny.lora_group(1))
  with pytest.raises(ValueError, match="260 tokens.*context of 256.*'xxx"):
    experts.score([Candidates(0, "x" * 250, ("y" * 10,))])
  with pytest.raises(ValueError, match="300 tokens.*context of 256.*'xxx"):
    experts.hidden([Request(0, "x" * 300, 0)])
  with pytest.raises(ValueError, match=r"no experts \[4\]: the pool has \[0\]"):
    experts.score([Candidates(4, "x", ("y",))])
