"""The decoder on its own: padding, cache, layouts and mixtures of experts."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model import attention, layers, lora
from jswarm.model import decoder as decoder_lib
from jswarm.model.architecture import DecoderConfig, projection_shapes, rope_frequencies

PLAIN = DecoderConfig(
  vocab=61, width=32, layers=3, heads=4, kv_heads=2, head_dim=10, hidden=48
)
RICH = dataclasses.replace(
  PLAIN,
  activation="gelu_tanh",
  norm_offset=1.0,
  post_norms=True,
  qkv_bias=True,
  o_bias=True,
  qk_norm=True,
  attn_softcap=4.0,
  final_softcap=5.0,
  embed_scale=32**0.5,
  tied=False,
  rope_scaling=("linear", 2.0),
  local_rope_theta=100.0,
  windows=(4, None, 4),
)
CONFIGS = {"plain": PLAIN, "rich": RICH}
LENGTH = 11


@pytest.fixture(params=CONFIGS)
def model(request):
  return make(CONFIGS[request.param])


@functools.cache
def make(config):
  """(decoder, compiled; params), with weights so large that every part matters."""
  decoder = decoder_lib.make_decoder(config)
  decoder = decoder._replace(apply=jax.jit(decoder.apply))
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(decoder.init, jax.random.key(0))
  draw = lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype)
  return decoder, jax.tree.map(draw, shapes)


def sample_tokens(rows=2, length=LENGTH):
  tokens = np.random.default_rng(2).integers(0, PLAIN.vocab, (rows, length))
  positions = np.tile(np.arange(length)[None], (rows, 1))
  return jnp.asarray(tokens, jnp.int32), jnp.asarray(positions, jnp.int32)


def random_adapters(config, experts=3, rank=2, names=("q", "v", "o", "down")):
  rng, shapes = np.random.default_rng(3), projection_shapes(config)
  draw = lambda *shape: jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)
  return {
    name: {
      "A": draw(experts, config.layers, shapes[name][0], rank),
      "B": draw(experts, config.layers, rank, shapes[name][1]),
    }
    for name in names
  }


def test_params_have_the_published_tree():
  init = decoder_lib.make_decoder(RICH).init
  shapes = jax.tree.map(lambda x: x.shape, jax.eval_shape(init, jax.random.key(0)))
  biased = lambda i, o: {"kernel": (3, i, o), "bias": (3, o)}
  norm = {"scale": (3, 32)}
  attn = {
    "q": biased(32, 40),
    "k": biased(32, 20),
    "v": biased(32, 20),
    "o": biased(40, 32),
    "q_norm": {"scale": (3, 10)},
    "k_norm": {"scale": (3, 10)},
  }
  mlp = {
    "gate": {"kernel": (3, 32, 48)},
    "up": {"kernel": (3, 32, 48)},
    "down": {"kernel": (3, 48, 32)},
  }
  assert shapes == {
    "embed": (61, 32),
    "head": (32, 61),
    "final_norm": {"scale": (32,)},
    "layers": {
      "attn": attn,
      "mlp": mlp,
      "attn_norm": norm,
      "mlp_norm": norm,
      "post_attn_norm": norm,
      "post_mlp_norm": norm,
    },
  }


def test_a_tied_model_has_no_head():
  assert "head" not in make(PLAIN)[1]


def test_a_row_does_not_depend_on_the_rows_or_padding_beside_it(model):
  decoder, params = model
  tokens, positions = sample_tokens()
  alone, _ = decoder.apply(params, tokens[:1, :5], positions[:1, :5])
  none = jnp.full((2, LENGTH), -1)
  right = none.at[0, :5].set(jnp.arange(5)).at[1].set(positions[1])
  logits, _ = decoder.apply(params, tokens, right)
  np.testing.assert_allclose(logits[0, :5], alone[0], atol=1e-5)
  left_tokens = tokens.at[0, -5:].set(tokens[0, :5])
  left = none.at[0, -5:].set(jnp.arange(5)).at[1].set(positions[1])
  logits, _ = decoder.apply(params, left_tokens, left)
  np.testing.assert_allclose(logits[0, -5:], alone[0], atol=1e-5)


def test_padding_is_finite_also_where_a_row_has_nothing_else():
  decoder, params = make(RICH)
  tokens, _ = sample_tokens()
  loss = lambda p: jnp.sum(decoder.apply(p, tokens, jnp.full((2, LENGTH), -1))[0])
  value, gradient = jax.jit(jax.value_and_grad(loss))(params)
  chex.assert_tree_all_finite((value, gradient))


@pytest.mark.parametrize("unstacked", [False, True])
def test_the_cache_changes_nothing(model, unstacked):
  decoder, params = model
  tokens, positions = sample_tokens()
  whole, _ = decoder.apply(params, tokens, positions)
  params = decoder_lib.unstack(params) if unstacked else params
  cache = decoder_lib.empty_cache(decoder.config, 2, LENGTH + 3, jnp.float32, unstacked)
  parts = []
  for begin, end in ((0, 4), (4, 5), (5, 6), (6, LENGTH)):
    step = tokens[:, begin:end], positions[:, begin:end]
    part, cache = decoder.apply(params, *step, cache)
    parts.append(part)
  np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=2e-5)
  assert cache.end == LENGTH
  np.testing.assert_array_equal(cache.positions[:, LENGTH:], -1)


def test_padding_in_the_prompt_stays_invisible_in_the_cache():
  decoder, params = make(RICH)
  tokens, positions = sample_tokens(rows=1)
  whole, _ = decoder.apply(params, tokens[:, :6], positions[:, :6])
  cache = decoder_lib.empty_cache(decoder.config, 1, 12, jnp.float32)
  padded = jnp.where(positions < 5, positions, -1)
  _, cache = decoder.apply(params, tokens, padded, cache)
  last, _ = decoder.apply(params, tokens[:, 5:6], positions[:, 5:6], cache)
  np.testing.assert_allclose(last[:, 0], whole[:, 5], atol=2e-5)


@pytest.mark.slow
def test_layers_in_a_loop_equal_layers_in_a_scan():
  decoder, params = make(RICH)
  tokens, positions = sample_tokens()
  adapters, mix = random_adapters(decoder.config), jnp.eye(3)[:2]
  run = lambda p, a: decoder.apply(p, tokens, positions, adapters=a, mix=mix)[0]
  scanned = run(params, adapters)
  looped = decoder_lib.unstack(params)
  assert decoder_lib.is_unstacked(looped) and not decoder_lib.is_unstacked(params)
  assert decoder_lib.unstack(looped) is looped
  packed = lora.pack(adapters, unstacked=True)
  for other in (
    run(looped, adapters),
    run(looped, packed),
    run(params, lora.pack(adapters)),
  ):
    np.testing.assert_allclose(scanned, other, atol=2e-5)


@pytest.mark.slow
def test_blocks_of_queries_equal_all_queries_at_once(monkeypatch):
  decoder, params = make(RICH)
  tokens, positions = sample_tokens()
  whole, _ = decoder.apply(params, tokens, positions)
  monkeypatch.setattr(attention, "_QUERY_BLOCK", 4)
  apply = decoder_lib.make_decoder(decoder.config).apply

  @jax.jit  # anew, with the patch
  def loss(params):
    logits, _ = apply(params, tokens, positions)
    return jnp.mean(logits**2), logits

  gradient, blocks = jax.grad(loss, has_aux=True)(params)
  np.testing.assert_allclose(whole, blocks, atol=2e-5)
  chex.assert_tree_all_finite(gradient)


def test_at_gives_the_logits_of_one_token_a_row(model):
  decoder, params = model
  tokens, positions = sample_tokens()
  every, _ = decoder.apply(params, tokens, positions)
  some, _ = decoder.apply(params, tokens, positions, at=jnp.array([3, 9]))
  np.testing.assert_allclose(some, every[jnp.arange(2), jnp.array([3, 9])], atol=1e-5)


def test_a_token_sees_neither_the_future_nor_beyond_its_window():
  decoder, params = make(dataclasses.replace(PLAIN, windows=(4, 4, 4)))
  tokens, positions = sample_tokens(rows=1)
  logits, _ = decoder.apply(params, tokens, positions)
  other = lambda i: decoder.apply(params, tokens.at[0, i].add(1), positions)[0]
  moved = lambda i: np.abs(other(i) - logits)[0].max(axis=-1) > 1e-4
  # Three layers of window 4 reach back 3 * 3 tokens.
  np.testing.assert_array_equal(np.flatnonzero(moved(0)), np.arange(0, 10))
  np.testing.assert_array_equal(np.flatnonzero(moved(6)), np.arange(6, LENGTH))


def test_heads_of_a_group_share_their_keys_and_values():
  decoder, params = make(PLAIN)
  full, _ = make(dataclasses.replace(PLAIN, kv_heads=4))
  attn = dict(params["layers"]["attn"])
  for name in "kv":
    kernel = attn[name]["kernel"].reshape(3, 32, 2, 10)
    attn[name] = {"kernel": jnp.repeat(kernel, 2, axis=2).reshape(3, 32, 40)}
  repeated = {**params, "layers": {**params["layers"], "attn": attn}}
  a, _ = decoder.apply(params, *sample_tokens())
  b, _ = full.apply(repeated, *sample_tokens())
  np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_one_hot_mix_is_the_merged_expert(model):
  decoder, params = model
  adapters, mix = random_adapters(decoder.config), jnp.eye(3)[jnp.array([2, 0])]
  logits, _ = decoder.apply(params, *sample_tokens(), adapters=adapters, mix=mix)
  base, _ = decoder.apply(params, *sample_tokens())
  assert np.abs(logits - base).max() > 0.1
  for row, expert in enumerate((2, 0)):
    adapter = jax.tree.map(lambda x: x[expert], adapters)
    for base in (params, decoder_lib.unstack(params)):
      alone, _ = decoder.apply(lora.merge(base, adapter), *sample_tokens())
      np.testing.assert_allclose(logits[row], alone[row], atol=5e-5)


def test_mixing_coefficients_are_the_dense_mixture():
  decoder, params = make(PLAIN)
  adapters, mix = random_adapters(PLAIN), jnp.array([[0.2, -0.7, 1.5], [0, 0, 0]])
  logits, _ = decoder.apply(params, *sample_tokens(), adapters=adapters, mix=mix)
  dense = params
  for expert in range(3):
    part = jax.tree.map(lambda x: x[expert], adapters)
    weighted = {n: {"A": f["A"], "B": f["B"] * mix[0, expert]} for n, f in part.items()}
    dense = lora.merge(dense, weighted)
  mixed, _ = decoder.apply(dense, *sample_tokens())
  base, _ = decoder.apply(params, *sample_tokens())
  np.testing.assert_allclose(logits[0], mixed[0], atol=5e-5)
  np.testing.assert_allclose(logits[1], base[1], atol=1e-5)


def test_adapters_have_gradients():
  decoder, params = make(PLAIN)
  adapters = random_adapters(PLAIN, experts=1)
  loss = lambda a: jnp.mean(
    decoder.apply(params, *sample_tokens(), adapters=a, mix=jnp.ones((2, 1)))[0] ** 2
  )
  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(adapters)):
    assert np.abs(leaf).max() > 0


def test_bfloat16_params_give_float32_logits_near_the_float32_ones(model):
  decoder, params = model
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  tokens, positions = sample_tokens()
  cache = decoder_lib.empty_cache(decoder.config, 2, LENGTH, jnp.bfloat16)
  logits, cache = decoder.apply(rounded, tokens, positions, cache)
  exact, _ = decoder.apply(
    jax.tree.map(lambda x: x.astype(jnp.float32), rounded), tokens, positions
  )
  assert logits.dtype == jnp.float32
  assert np.abs(logits - exact).max() < 0.1 * np.abs(exact).max()


def test_a_single_bfloat16_token_is_like_one_of_many():
  decoder, params = make(PLAIN)
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  tokens, _ = sample_tokens(length=1)
  both, _ = decoder.apply(params, tokens, jnp.zeros((2, 1), jnp.int32))
  alone, _ = decoder.apply(params, tokens[:1], jnp.zeros((1, 1), jnp.int32))
  np.testing.assert_allclose(alone[0], both[0], atol=1e-3)


def test_one_config_is_one_pair_of_functions():
  again = dataclasses.replace(RICH, vocab=RICH.vocab)
  assert decoder_lib.make_decoder(RICH) is decoder_lib.make_decoder(again)
  assert decoder_lib.make_decoder(RICH) != decoder_lib.make_decoder(PLAIN)


def test_linear_scaling_stretches_positions_of_global_layers_only():
  frequencies = rope_frequencies(RICH)
  plain = rope_frequencies(dataclasses.replace(RICH, rope_scaling=None))
  np.testing.assert_allclose(frequencies[0] * 2, plain[0], rtol=1e-6)
  np.testing.assert_array_equal(frequencies[1], plain[1])


def test_llama3_scaling_keeps_short_waves_and_divides_long_ones():
  config = dataclasses.replace(
    PLAIN,
    head_dim=64,
    rope_theta=500000.0,
    rope_scaling=("llama3", 32.0, 1.0, 4.0, 8192),
  )
  before = rope_frequencies(dataclasses.replace(config, rope_scaling=None))[0]
  ratio = rope_frequencies(config)[0] / before
  np.testing.assert_allclose(ratio[:12], 1.0, rtol=1e-6)
  np.testing.assert_allclose(ratio[-12:], 1 / 32, rtol=1e-6)
  assert np.all(np.diff(ratio) <= 1e-6)


@pytest.mark.parametrize(
  "changes, found",
  [
    (dict(windows=(4,)), "windows has 1 entries but layers is 3"),
    (dict(activation="relu"), "relu"),
    (dict(kv_heads=3), "kv_heads 3"),
    (dict(head_dim=9), "head_dim 9"),
  ],
)
def test_an_impossible_config_says_what_is_wrong(changes, found):
  with pytest.raises(ValueError, match=found):
    dataclasses.replace(PLAIN, **changes)


def test_an_unknown_rope_scaling_lists_the_known_ones():
  config = dataclasses.replace(PLAIN, rope_scaling=("yarn", 4.0))
  with pytest.raises(ValueError, match="'linear', 'llama3'"):
    rope_frequencies(config)


@pytest.mark.parametrize("mix", [None, np.ones((2, 2), np.float32)])
def test_a_mix_that_does_not_fit_shows_both_shapes(mix):
  decoder, params = make(PLAIN)
  with pytest.raises(ValueError, match=r"\(2, 3\)"):
    decoder.apply(params, *sample_tokens(), adapters=random_adapters(PLAIN), mix=mix)


def test_adapters_of_unequal_rank_are_refused():
  adapters = random_adapters(PLAIN)
  adapters["q"] = random_adapters(PLAIN, rank=3)["q"]
  with pytest.raises(ValueError, match="pad ranks with zeros"):
    lora.pack(adapters)


def test_an_unstacked_cache_needs_unstacked_params():
  decoder, params = make(PLAIN)
  cache = decoder_lib.empty_cache(PLAIN, 2, LENGTH, jnp.float32, unstacked=True)
  with pytest.raises(ValueError, match="unstacked"):
    decoder.apply(params, *sample_tokens(), cache)


def test_one_shape_is_compiled_once():
  _, params = make(PLAIN)
  decoder = decoder_lib.make_decoder(PLAIN)
  traces = jax.jit(chex.assert_max_traces(decoder.apply, n=1))
  for length in (1, 2, 3):
    tokens, positions = sample_tokens()
    traces(params, tokens, jnp.where(positions < length, positions, -1))


@pytest.mark.parametrize("rows", [1, 2, 64, 65])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_turned_kernel_gives_the_same_product(rows, dtype):
  x, kernel = (
    jax.random.normal(jax.random.key(i), shape).astype(dtype)
    for i, shape in enumerate([(rows, 1, 32), (32, 24)])
  )
  wanted = x.astype(jnp.float32) @ kernel.astype(jnp.float32)
  for shape in ((rows, 1, 32), (1, rows, 32)):
    y = layers.dot_turned(x.reshape(shape), kernel.T).reshape(wanted.shape)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
