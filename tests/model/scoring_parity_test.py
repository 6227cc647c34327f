"""Scores, hidden states and fused steps of every family: transformers is the oracle.

Two adapters of peft share a batch with their prompts, right-padded; errors are counted
relative to the largest number of each row.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.formats import peft_adapter
from jswarm.model import fusion, lora, scoring
from jswarm.model.decoder import make_decoder, unstack
from tests.model import parity_test as parity

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # of peft and transformers

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")
OWNERS, BEGINS, FED = (1, 0, 1), (5, 2, 1), (4, 17, 60)
ROWS = (*parity.PROMPTS, [9, 8, 7, 6, 5, 4, 3, 2, 1, 11])


def experts(name, folder):
  """(two peft models, config, params, their adapters [E, ...])."""
  made = [
    parity.make_adapter(folder / str(i), name, seed=i + 1, target_modules=parity.ALL)
    for i in range(2)
  ]
  config, params = made[0][1:]
  loaded = [
    peft_adapter.load_adapter(folder / str(i) / "adapter", config) for i in range(2)
  ]
  stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *loaded)
  return [m for m, *_ in made], config, params, stacked


def reference(model, row):
  """(log-softmax [T, V], logits [T, V], last hidden state [T, D])."""
  with torch.no_grad():
    out = model(torch.tensor([row]), output_hidden_states=True)
  logs = torch.log_softmax(out.logits[0].float(), dim=-1)
  return logs.numpy(), out.logits[0].numpy(), out.hidden_states[-1][0].numpy()


def assert_near(ours, theirs):
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(np.asarray(ours) / scale, theirs / scale, atol=1e-4)


def _first_is_fast(names):
  """All but the first are slow: they differ in what parity_test compares already."""
  first, *others = names
  return [first, *(pytest.param(n, marks=pytest.mark.slow) for n in others)]


@pytest.mark.parametrize("name", _first_is_fast(FAMILIES))
def test_scores_states_and_steps_are_those_of_transformers(name, tmp_path):
  models, config, params, adapters = experts(name, tmp_path)
  decoder = make_decoder(config)
  tokens, positions = parity.right_padded(ROWS)
  lengths = jnp.sum(positions >= 0, axis=1, dtype=jnp.int32)
  grouped = lora.group(adapters).replace(owners=jnp.asarray(OWNERS, jnp.int32))
  given = decoder, params, grouped, None

  compiled = jax.jit(scoring.log_probs, static_argnames=("decoder", "most"))
  scores = compiled(*given, tokens, lengths, jnp.asarray(BEGINS), most=9)
  means = jax.jit(scoring.mean_states, static_argnames="decoder")(
    *given, tokens, lengths
  )
  begun = jax.jit(fusion.prefill, static_argnames=("decoder", "steps"))(
    *given, tokens, lengths, steps=1
  )
  after = jax.jit(fusion.step, static_argnames="decoder")(
    *given, begun, jnp.asarray(FED)
  )
  for b, (owner, row, begin) in enumerate(zip(OWNERS, ROWS, BEGINS)):
    logs, logits, states = reference(models[owner], [*row, FED[b]])
    wanted = np.array([logs[t - 1, row[t]] for t in range(begin, len(row))])
    assert_near(scores[b, : len(wanted)], wanted)
    assert_near(means[b], states[: len(row)].mean(axis=0))
    assert_near(begun.logits[b], logits[len(row) - 1])
    assert_near(after.logits[b], logits[len(row)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2", "gemma3"])
def test_masked_adapters_and_layers_in_a_list_give_the_same(name, tmp_path):
  models, config, params, adapters = experts(name, tmp_path)
  tokens, positions = parity.right_padded(ROWS)
  lengths = jnp.sum(positions >= 0, axis=1, dtype=jnp.int32)
  packed, mix = lora.pack(adapters, unstacked=True), jnp.eye(2)[jnp.asarray(OWNERS)]
  given = make_decoder(config), unstack(params), packed, mix
  means = scoring.mean_states(*given, tokens, lengths)
  scores = scoring.log_probs(*given, tokens, lengths, jnp.asarray(BEGINS), most=9)
  for b, (owner, row, begin) in enumerate(zip(OWNERS, ROWS, BEGINS)):
    logs, _, states = reference(models[owner], row)
    wanted = np.array([logs[t - 1, row[t]] for t in range(begin, len(row))])
    assert_near(scores[b, : len(wanted)], wanted)
    assert_near(means[b], states.mean(axis=0))
