"""Pack of LLMs: weights by the prompt, one decode of all, vocabularies aligned."""

import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.baselines import methods, pack_of_llms
from jswarm.core.types import Experts, Logits, Request
from tests import fakes
from tests.baselines.settings import dev_of, setting

WORDS = ("</s>", "test", "question", "dev", "0", "1", "2", "3", "4", "the", "is", "so")


def _pool(tables, orders=None) -> Experts:
  """Experts whose next word depends on the last alone: tables [n][V, V] of logits.

  orders: of each expert, where it has the words in its own vocabulary.
  """
  size = len(WORDS)
  orders = orders or [np.arange(size)] * len(tables)
  held = {"scale": np.ones(len(tables))}
  ids = [{word: int(order[i]) for i, word in enumerate(WORDS)} for order in orders]
  named = [{i: word for word, i in each.items()} for each in ids]

  def read(e, token):
    row = np.empty(size, np.float32)
    row[orders[e]] = tables[e][list(orders[e]).index(token)] * held["scale"][e]
    return row

  def encode(request):
    known = [w for w in request.prompt.split() if w in ids[request.expert]]
    return [ids[request.expert][w] for w in known] or [0]

  def step(state, tokens):
    fed = [(e, t if t >= 0 else last) for (e, last), t in zip(state, tokens)]
    return [read(e, t) for e, t in fed], fed

  begin = lambda prompts, limit: step(
    [(e, t[-1]) for e, t in prompts], [-1] * len(prompts)
  )
  logits = Logits(
    prefill=lambda requests: begin([(r.expert, encode(r)) for r in requests], 0),
    step=step,
    encode=encode,
    begin=begin,
    along=lambda e, tokens: np.stack([read(e, t) for t in tokens]),
    tokens=lambda e: ids[e],
    decode=lambda e, tokens: " ".join(named[e][t] for t in tokens),
    stops=tuple((each["</s>"],) for each in ids),
  )

  def say(e, prompt):
    tokens, said = encode(Request(e, prompt, 5)), []
    while (
      len(said) < 5
      and (t := int(read(e, (tokens + said)[-1]).argmax())) != ids[e]["</s>"]
    ):
      said.append(t)
    return logits.decode(e, said)

  experts, _ = fakes.dictionary(say, [f"e{i}" for i in range(len(tables))])
  weights = ({"scale": jnp.ones(len(tables))},)
  return experts._replace(
    groups=(tuple(range(len(tables))),),
    weights=weights,
    install=lambda w: held.update(scale=np.asarray(w[0]["scale"])),
    logits=logits,
  )


def _tables(seed, num=3):
  return np.random.default_rng(seed).normal(0, 2, (num, len(WORDS), len(WORDS)))


PROMPT = "question 3 is so the 2 is 1"


@pytest.mark.parametrize("seed", range(6))
def test_the_mix_never_finds_the_prompt_less_likely_than_the_best_expert_does(seed):
  tables = _tables(seed).astype(np.float32)
  tokens = [WORDS.index(w) for w in PROMPT.split()]
  logits = [table[tokens] for table in tables]
  alone = [pack_of_llms.nll(each, tokens) for each in logits]
  weights, mixed = pack_of_llms.opt(logits, tokens)
  fused = pack_of_llms.nll(sum(w * z for w, z in zip(weights, logits)), tokens)
  assert fused <= min(alone) + 1e-5 and fused == pytest.approx(mixed, abs=1e-4)
  assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
  assert weights[int(np.argmin(alone))] > 0


def test_nll_is_the_mean_over_the_tokens_of_the_prompt_and_ends_do_not_count():
  logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1, 1, 1]], np.float32))
  assert pack_of_llms.nll(logits, [0, 1, 2]) == pytest.approx(
    -(np.log(0.25) + np.log(0.8)) / 2
  )
  assert pack_of_llms.nll(logits, [0, 1, 2], (2,)) == pytest.approx(-np.log(0.25))


def test_sim_is_the_softmax_of_the_perplexities():
  nll = np.array([1.0, 2.0, 3.0])
  wanted = np.exp(-nll / 0.5) / np.exp(-nll / 0.5).sum()
  np.testing.assert_allclose(pack_of_llms.sim(nll, 0.5), wanted)


def test_the_reply_is_the_greedy_decode_of_the_mixed_logits():
  tables = _tables(1)
  pool = pack_of_llms.with_fused(_pool(tables), "sim")
  tokens = [WORDS.index(w) for w in PROMPT.split()]
  nll = [pack_of_llms.nll(t[tokens].astype(np.float32), tokens, (0,)) for t in tables]
  mixed = np.tensordot(pack_of_llms.sim(np.array(nll)), tables, 1)
  said, last = [], tokens[-1]
  while len(said) < 6 and (last := int(mixed[last].argmax())) != 0:
    said.append(WORDS[last])
  (reply,) = pool.ask([Request(3, PROMPT, 6)])
  assert reply.text.split() == said and len(said) > 0
  assert reply.prompt_tokens == 3 * len(tokens)


def test_an_expert_that_alone_knows_the_prompt_decodes_alone():
  prompt = "question 3 is so the 2 1"
  tokens = [WORDS.index(w) for w in prompt.split()]
  tables = _tables(2)
  for a, b in zip(tokens, tokens[1:]):
    tables[:, a, b] -= 30
    tables[1, a, b] += 90
  tables[1, WORDS.index("1"), WORDS.index("4")] += 50
  pool = pack_of_llms.with_fused(_pool(tables))
  (reply,) = pool.ask([Request(3, prompt, 5)])
  assert reply.text == pool.ask([Request(1, prompt, 5)])[0].text
  assert reply.text.startswith("4")
  assert reply.prompt_tokens == len(tokens)  # of one expert


def test_prompts_decode_beside_each_other_as_alone():
  pool = pack_of_llms.with_fused(_pool(_tables(3)))
  asked = [Request(3, p, 1 + i) for i, p in enumerate(("so 1", PROMPT, "the", "dev 4"))]
  assert pool.ask(asked) == [pool.ask([request])[0] for request in asked]
  assert pool.ask([Request(0, PROMPT, 5), *asked])[1:] == pool.ask(asked)


@pytest.mark.parametrize("rule", pack_of_llms.RULES)
def test_the_order_of_a_vocabulary_does_not_matter(rule):
  tables = _tables(4)
  rng = np.random.default_rng(0)
  orders = [rng.permutation(len(WORDS)) for _ in tables]
  alike = pack_of_llms.with_fused(_pool(tables), rule)
  mapped = pack_of_llms.with_fused(_pool(tables, orders), rule)
  for prompt in (PROMPT, "test question 4", "so the 2"):
    asked = [Request(3, prompt, 6)]
    assert mapped.ask(asked)[0].text == alike.ask(asked)[0].text


def test_tokens_of_another_vocabulary_are_the_same_but_for_the_mark_or_the_nearest():
  reference = {"Ġthe": 0, "cats": 1, "x": 3}
  other = {"▁the": 5, "cat": 6, "dog": 7, "x": 8}
  np.testing.assert_array_equal(pack_of_llms.aligned(reference, other), [5, 6, -1, 8])
  assert pack_of_llms.distance("kitten", "sitting") == 3
  assert pack_of_llms.distance("", "abc") == 3


def test_it_is_an_expert_of_the_pool_that_does_not_move():
  base = _pool(_tables(5))
  pool = pack_of_llms.with_fused(base)
  asked = [Request(3, PROMPT, 5), Request(0, PROMPT, 5)]
  before = pool.ask(asked)
  pool.install(({"scale": jnp.array([-1.0, 1.0, 1.0])},))
  after = pool.ask(asked)
  assert after[0] == before[0] and after[1] != before[1]
  assert pool.room(3, 5) == min(pool.room(e, 5) for e in range(3))


def test_the_method_answers_from_the_pool_with_one_expert_more():
  right = lambda examples, replies: [float("so" in r) for r in replies]
  made = setting(_pool(_tables(6)), right)
  found = methods.find("pack_of_llms", made)
  assert found.experts.names[-1] == "pack_of_llms" and found.answerer.members() == [3]
  assert made.spent == 5 and found.notes == {"rule": "opt", "experts_a_call": 3}
  again = setting(found.experts, right)
  assert again.singles[3] == found.dev == dev_of(again, found.answerer)
