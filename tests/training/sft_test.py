"""Tuning: reproducible, resumable, on completions alone."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model import decoder, lora
from jswarm.model.architecture import DecoderConfig
from jswarm.tasks.synthetic import words
from jswarm.training import data, sft

TOKENIZER = words.tokenizer()
CONFIG = DecoderConfig(
  vocab=64,
  width=16,
  layers=2,
  heads=2,
  kv_heads=1,
  head_dim=8,
  hidden=24,
  max_positions=128,
)
DECODER = decoder.make_decoder(CONFIG)
SETTINGS = sft.Settings(
  steps=12,
  batch=8,
  multiple=64,
  lr=2e-2,
  warmup=2,
  rank=2,
  alpha=4.0,
  targets=("q", "v", "down"),
  eval_every=6,
)


@pytest.fixture(scope="module")
def params():
  return DECODER.init(jax.random.key(3))


@pytest.fixture(scope="module")
def rows():
  return {
    split: tokenize(words.records({"max": 1.0, "pick": 1.0}, split, 40, 0))
    for split in ("train", "dev")
  }


def tokenize(records, max_tokens=64):
  return data.tokenize(TOKENIZER, records, chat=False, max_tokens=max_tokens)


def tune(params, rows, settings=SETTINGS, **more):
  return sft.sft(DECODER, params, rows["train"], rows["dev"], settings, **more)


def test_a_bad_line_is_named_by_file_and_line(tmp_path):
  path = tmp_path / "data.jsonl"
  good = json.dumps({"prompt": "p", "completion": "c"})
  for line, message in {
    "{": r"data.jsonl:3: not JSON",
    "[1]": r"data.jsonl:3: found a list",
    '{"prompt": "p"}': r'data.jsonl:3: "completion" is nothing.*fields here: prompt',
    '{"prompt": 7, "completion": "c"}': r'data.jsonl:3: "prompt" is 7',
  }.items():
    path.write_text(f"{good}\n\n{line}\n")
    with pytest.raises(ValueError, match=message):
      data.read_jsonl(path)
  path.write_text(f"{good}\n\n{good}\n")
  assert len(data.read_jsonl(path)) == 2
  path.write_text("\n")
  with pytest.raises(ValueError, match="no records"):
    data.read_jsonl(path)


def test_only_the_completion_and_the_end_token_are_learnt():
  made = tokenize(
    [
      {"prompt": "Q: max 3 8 5 A:", "completion": "8"},
      {"prompt": "Q: add 1 2 ; add 2 2 A:", "completion": "3 4"},
    ]
  )
  batch = data.pad(made, [0, 1], batch=3, multiple=4)
  assert batch.tokens.shape == (3, 12)
  learnt = [TOKENIZER.decode(t[w > 0]) for t, w in zip(batch.tokens, batch.weights)]
  assert learnt == ["8 <eos>", "3 4 <eos>", ""]
  assert (batch.positions[0] >= 0).sum() == 8 and (batch.positions[2] == -1).all()


def test_too_long_records_are_left_out_and_none_left_is_an_error(rows):
  records = words.records({"max": 1.0}, "train", 30, 0, talk=0.5)
  longest = max(len(t) for t in tokenize(records).tokens)
  assert 0 < len(tokenize(records, longest - 1).tokens) < 30
  with pytest.raises(ValueError, match="none of 30 records fits max_tokens=5"):
    tokenize(records, 5)


def test_no_records_to_train_on_are_refused():
  with pytest.raises(ValueError, match="no records to train on"):
    tokenize([])


def test_an_epoch_has_every_row_once_in_batches_of_like_length():
  lengths = np.random.default_rng(0).integers(5, 60, 203)
  plan = data.plan_epoch(lengths, 8, 16, np.random.default_rng(1))
  assert sorted(np.concatenate(plan)) == list(range(203))
  assert sorted(map(len, plan))[1:] == [8] * 25
  spread = [len(set(-(-lengths[batch] // 16))) for batch in plan]
  assert sum(n > 1 for n in spread) <= 3


def test_a_batch_is_a_function_of_seed_and_step(rows):
  one, other = (data.Loader(rows["train"], 8, 8, seed=4) for _ in range(2))
  later = [one(step) for step in range(14)][13]  # in the third epoch
  chex.assert_trees_all_equal(later, other(13))
  assert one.steps_per_epoch == 5
  assert not np.array_equal(
    one(0).tokens, data.Loader(rows["train"], 8, 8, seed=5)(0).tokens
  )


def test_the_loss_is_the_mean_over_completion_tokens(params, rows):
  batch = data.pad(rows["train"], [0, 1, 2], batch=4, multiple=8)
  logits, _ = DECODER.apply(params, batch.tokens, batch.positions)
  total, count = sft.cross_entropy(logits, batch)
  logp = np.asarray(jax.nn.log_softmax(logits))
  expected = [
    -logp[b, t - 1, batch.tokens[b, t]] for b, t in zip(*np.nonzero(batch.weights))
  ]
  assert count == len(expected)
  np.testing.assert_allclose(total, np.sum(expected), rtol=1e-5)


def test_a_fresh_adapter_changes_nothing(params, rows):
  adapter = sft.init_adapter(jax.random.key(0), CONFIG, SETTINGS)
  assert {n: (f["A"].shape, f["B"].shape) for n, f in adapter.items()} == {
    "down": ((2, 24, 2), (2, 2, 16)),
    "q": ((2, 16, 2), (2, 2, 16)),
    "v": ((2, 16, 2), (2, 2, 8)),
  }
  chex.assert_trees_all_equal(lora.merge(params, adapter), params)


def test_the_adapter_that_comes_out_has_the_dev_loss_that_was_measured(params, rows):
  trained = tune(params, rows)
  assert list(trained.dev_loss) == [6, 12]
  loss = lambda p, _, b: sft.cross_entropy(
    DECODER.apply(p, b.tokens, b.positions)[0], b
  )
  dev_loss = sft.make_dev_loss(loss, rows["dev"], SETTINGS)
  merged = lora.merge(params, trained.weights)
  assert dev_loss(merged, {}) == pytest.approx(trained.dev_loss[12], rel=1e-4)
  assert trained.dev_loss[12] < dev_loss(params, {}) - 0.01


def test_equal_seeds_give_equal_weights_and_others_do_not(params, rows):
  first = tune(params, rows).weights
  chex.assert_trees_all_equal(first, tune(params, rows).weights)
  other = tune(params, rows, dataclasses.replace(SETTINGS, seed=1)).weights
  assert not np.array_equal(first["q"]["B"], other["q"]["B"])
  fresh = sft.init_adapter(jax.random.key(0), CONFIG, SETTINGS)
  assert not np.array_equal(first["q"]["A"], fresh["q"]["A"])  # A is tuned too


class Interrupted(Exception):
  pass


def interrupt(monkeypatch, at):
  class Loader(data.Loader):
    def __call__(self, step):
      if step == at:
        raise Interrupted
      return super().__call__(step)

  monkeypatch.setattr(sft, "Loader", Loader)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["adapter", "base"])
def test_an_interrupted_run_continues_bit_for_bit(
  params, rows, tmp_path, monkeypatch, what
):
  settings = dataclasses.replace(SETTINGS, save_every=4)

  def go(folder):
    if what == "base":
      return sft.pretrain(DECODER, rows["train"], rows["dev"], settings, folder=folder)
    return tune(params, rows, settings, folder=folder)

  unbroken = go(tmp_path / "unbroken")
  interrupt(monkeypatch, at=10)
  with pytest.raises(Interrupted):
    go(tmp_path / "broken")
  interrupt(monkeypatch, at=5)  # what was done is not done again
  continued = go(tmp_path / "broken")
  chex.assert_trees_all_equal(continued.weights, unbroken.weights)
  assert continued.dev_loss == unbroken.dev_loss


def test_a_folder_of_another_run_is_refused(params, rows, tmp_path):
  settings = dataclasses.replace(SETTINGS, save_every=6)
  tune(params, rows, settings, folder=tmp_path)
  with pytest.raises(ValueError, match=r"run with lr=0.02, this one has lr=0.03"):
    tune(params, rows, dataclasses.replace(settings, lr=0.03), folder=tmp_path)
  with pytest.raises(ValueError, match="data="):
    tune(params, {**rows, "train": rows["dev"]}, settings, folder=tmp_path)


def test_the_learning_rate_warms_up_and_falls_as_a_cosine():
  rate = sft.learning_rate(sft.Settings(steps=100, lr=2.0, warmup=10, final=0.1))
  np.testing.assert_allclose(
    [rate(0), rate(5), rate(10), rate(55), rate(100)], [0, 1, 2, 1.1, 0.2], rtol=1e-5
  )


def test_a_long_gradient_is_clipped():
  tx = sft.optimizer(sft.Settings(steps=10, warmup=0, clip=1.0))
  weights = {"kernel": jnp.zeros(4)}

  def change(scale):
    grads = {"kernel": jnp.asarray([3.0, 4.0, 0.0, 0.0]) * scale}
    return tx.update(grads, tx.init(weights), weights)[1]

  chex.assert_trees_all_close(change(1.0), change(100.0), rtol=1e-5)


def test_norms_do_not_decay():
  tx = sft.optimizer(sft.Settings(steps=10, warmup=0, lr=0.1, weight_decay=0.5))
  weights = {"scale": jnp.ones(2), "kernel": jnp.ones(2)}
  zero = jax.tree.map(jnp.zeros_like, weights)
  updates, _ = tx.update(zero, tx.init(weights), weights)
  np.testing.assert_allclose(updates["scale"], 0)
  np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(params, rows):
  broken = {**params, "embed": params["embed"] * jnp.nan}
  with pytest.raises(ValueError, match="the loss of x is nan at step 12: lower lr"):
    tune(broken, rows, name="x")


@pytest.mark.parametrize(
  "field, value",
  [("steps", 0), ("lr", 0.0), ("rank", 0), ("targets", ("q", "w")), ("targets", ())],
)
def test_impossible_settings_are_refused(field, value):
  with pytest.raises(ValueError, match=field):
    sft.Settings(**{"steps": 1, field: value})
