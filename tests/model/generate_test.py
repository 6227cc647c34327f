"""generate and sampling: a row's reply is its own, in every batch and bucket."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.model.architecture import DecoderConfig
from jswarm.model.decoder import make_decoder, unstack
from jswarm.model.generate import generate
from jswarm.model.sampling import Sampling, nucleus, sample

V = 97
CONFIG = DecoderConfig(
  vocab=V,
  width=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  hidden=48,
  windows=(None, 6),
)
DECODER = make_decoder(CONFIG)
GREEDY = Sampling()
NOISY = Sampling(temperature=1.3, top_p=0.9)


def _params(seed=0):
  # Larger than at initialisation, so that logits have clear winners.
  return jax.tree.map(lambda x: 8 * x, DECODER.init(jax.random.key(seed)))


PARAMS = _params()


def _adapters(experts=3, rank=2):
  a, b = jax.random.split(jax.random.key(7))
  shape = (experts, CONFIG.layers, CONFIG.width, rank)
  out = CONFIG.heads * CONFIG.head_dim
  return {
    "q": {
      "A": jax.random.normal(a, shape),
      "B": jax.random.normal(b, (experts, CONFIG.layers, rank, out)),
    }
  }


def _run(
  prompts,
  limits=None,
  seeds=None,
  stops=(),
  sampling=GREEDY,
  new_tokens=8,
  width=12,
  params=PARAMS,
  adapters=None,
  mix=None,
):
  """Replies as lists of ids."""
  rows = len(prompts)
  tokens = np.full((rows, width), 5, np.int32)  # padding is a real token
  for row, prompt in zip(tokens, prompts):
    row[: len(prompt)] = prompt
  limits = [new_tokens] * rows if limits is None else limits
  seeds = range(rows) if seeds is None else seeds
  ids, counts = generate(
    DECODER,
    params,
    adapters,
    mix,
    jnp.asarray(tokens),
    jnp.asarray([len(p) for p in prompts], jnp.int32),
    jnp.asarray(limits, jnp.int32),
    jnp.asarray(stops, jnp.int32),
    jnp.asarray(list(seeds), jnp.uint32),
    new_tokens=new_tokens,
    sampling=sampling,
  )
  ids, counts = np.asarray(ids), np.asarray(counts)
  assert ids.shape == (rows, new_tokens)
  for row, count in zip(ids, counts):
    assert (row[:count] >= 0).all() and (row[count:] == -1).all()
  return [row[:count].tolist() for row, count in zip(ids, counts)]


def _prompts(rng, rows, longest=12):
  sizes = rng.integers(1, longest + 1, rows)
  return [rng.integers(0, V, size).tolist() for size in sizes]


@pytest.mark.parametrize("sampling", [GREEDY, NOISY])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_row_alone_says_what_it_says_in_a_ragged_batch(seed, sampling):
  rng = np.random.default_rng(seed)
  prompts, seeds = _prompts(rng, 5), rng.integers(0, 2**32, 5, dtype=np.uint32)
  limits = rng.integers(1, 9, 5)
  together = _run(prompts, limits, seeds, sampling=sampling)
  for b, prompt in enumerate(prompts):
    alone = _run([prompt], limits[b : b + 1], seeds[b : b + 1], sampling=sampling)
    assert alone == [together[b]]


def test_a_row_keeps_its_reply_in_a_wider_bucket():
  prompts = _prompts(np.random.default_rng(4), 3)
  assert _run(prompts, sampling=NOISY) == _run(prompts, sampling=NOISY, width=31)


def test_greedy_replies_are_those_of_a_loop_without_cache():
  prompts = _prompts(np.random.default_rng(5), 3)
  apply = jax.jit(DECODER.apply)
  for prompt, reply in zip(prompts, _run(prompts)):
    ids = list(prompt)
    for _ in range(8):
      x, index = np.zeros((1, 20), np.int32), np.arange(20, dtype=np.int32)[None]
      x[0, : len(ids)] = ids
      logits, _ = apply(PARAMS, x, np.where(index < len(ids), index, -1))
      ids.append(int(jnp.argmax(logits[0, len(ids) - 1])))
    assert reply == ids[len(prompt) :]


@pytest.mark.slow
def test_unstacked_params_give_the_same_replies():
  prompts = _prompts(np.random.default_rng(6), 3)
  experts = {"adapters": _adapters(), "mix": jnp.eye(3)}
  assert _run(prompts, **experts) == _run(prompts, params=unstack(PARAMS), **experts)


def test_each_row_is_said_by_its_own_expert():
  prompt, adapters = [3, 1, 4, 1, 5], _adapters()
  together = _run([prompt] * 3, adapters=adapters, mix=jnp.eye(3))
  assert len({tuple(reply) for reply in together}) == 3
  for e in range(3):
    own = {"q": {k: v[e : e + 1] for k, v in adapters["q"].items()}}
    assert _run([prompt], adapters=own, mix=jnp.ones((1, 1))) == [together[e]]


def test_every_row_has_its_own_limit():
  prompts = [[1, 2, 3]] * 5
  free = _run(prompts)[0]
  limited = _run(prompts, limits=[0, 1, 3, 8, 50])
  assert limited == [free[:0], free[:1], free[:3], free, free]


def test_a_row_stops_before_any_stop_token_and_the_others_go_on():
  prompts = _prompts(np.random.default_rng(8), 3)
  free = _run(prompts)
  for stops in ([free[0][2], -1], [free[1][0], free[2][7]], [-1, free[2][4]]):
    cut = lambda reply: next(
      (reply[:i] for i, token in enumerate(reply) if token in stops), reply
    )
    assert _run(prompts, stops=stops) == [cut(reply) for reply in free]


def test_one_new_token_is_the_smallest_program():
  prompts = [[1, 2, 3], [4]]
  first = [reply[:1] for reply in _run(prompts)]
  assert _run(prompts, new_tokens=1) == first


def test_a_filler_row_of_length_zero_changes_nothing():
  tokens = _run([[1, 2, 3], []], limits=[8, 0])
  assert tokens == [_run([[1, 2, 3]])[0], []]


def test_a_seed_repeats_its_reply_and_another_seed_differs():
  prompts = [[1, 2, 3]] * 2
  first = _run(prompts, seeds=[11, 12], sampling=NOISY)
  assert first == _run(prompts, seeds=[11, 12], sampling=NOISY)
  assert first[0] != first[1]
  assert first[::-1] == _run(prompts, seeds=[12, 11], sampling=NOISY)


def test_the_loop_ends_when_every_row_has_ended():
  """With all rows stopped at once, 4096 steps of capacity cost one prefill."""
  counted = []

  def apply(*args, **kwargs):
    jax.debug.callback(lambda: counted.append(1))
    return DECODER.apply(*args, **kwargs)

  decoder = DECODER._replace(apply=apply)
  ids, counts = generate(
    decoder,
    PARAMS,
    None,
    None,
    jnp.ones((2, 4), jnp.int32),
    jnp.full(2, 4),
    jnp.asarray([2, 3]),
    jnp.zeros(0, jnp.int32),
    jnp.zeros(2, jnp.uint32),
    new_tokens=256,
    sampling=GREEDY,
  )
  jax.block_until_ready(ids)
  jax.effects_barrier()
  assert counts.tolist() == [2, 3]
  assert len(counted) == 3  # the prefill gives token 0, two steps the others


def test_a_row_short_of_settings_is_an_error_that_names_them():
  with pytest.raises(ValueError, match=r"2 rows.*limits.*\(3,\)"):
    generate(
      DECODER,
      PARAMS,
      None,
      None,
      jnp.ones((2, 4), jnp.int32),
      jnp.full(2, 4),
      jnp.ones(3, jnp.int32),
      jnp.zeros(0, jnp.int32),
      jnp.zeros(2, jnp.uint32),
      new_tokens=2,
      sampling=GREEDY,
    )


# sampling


def test_top_p_keeps_the_smallest_set_with_enough_mass():
  p = jnp.asarray([0.1, 0.4, 0.05, 0.3, 0.15])
  kept = lambda top_p: np.flatnonzero(nucleus(p, top_p)).tolist()
  assert kept(0.3) == [1]
  assert kept(0.41) == [1, 3]
  assert kept(0.69) == [1, 3]
  assert kept(0.75) == [1, 3, 4]
  assert kept(0.9) == [0, 1, 3, 4]
  assert kept(0.99) == [0, 1, 2, 3, 4]


def test_top_p_agrees_with_a_sort_on_random_rows():
  compiled = jax.jit(nucleus)
  for seed in range(20):
    rng = np.random.default_rng(seed)
    p = jax.nn.softmax(jnp.asarray(rng.normal(0, 3, 500), jnp.float32))
    top_p = rng.uniform(0.05, 0.98)
    order = np.argsort(-np.asarray(p), kind="stable")
    count = 1 + np.searchsorted(np.cumsum(np.asarray(p, np.float64)[order]), top_p)
    assert np.flatnonzero(compiled(p, top_p)).tolist() == sorted(order[:count])


def test_equal_probabilities_at_the_border_are_kept_only_as_needed():
  assert nucleus(jnp.full(8, 0.125), 0.5).tolist() == [True] * 4 + [False] * 4
  p = jnp.asarray([0.125, 0.5, 0.125, 0.125, 0.125])
  assert nucleus(p, 0.6).tolist() == [True, True, False, False, False]


def test_a_certain_token_survives_any_top_p():
  p = jax.nn.softmax(jnp.asarray([0.0, 200.0, 0.0]))
  for top_p in (1e-6, 0.5, 0.999999):
    assert nucleus(p, top_p).tolist() == [False, True, False]


def test_samples_follow_the_renormalised_distribution():
  logits = jnp.log(jnp.asarray([0.5, 0.3, 0.15, 0.05]))
  draws = 20_000
  keys = jax.random.split(jax.random.key(0), draws)
  rows = jnp.broadcast_to(logits, (draws, 4))
  share = lambda s: np.bincount(np.asarray(sample(rows, keys, s)), minlength=4) / draws
  close = lambda found, wanted: np.testing.assert_allclose(found, wanted, atol=0.015)
  close(share(Sampling(temperature=1.0)), [0.5, 0.3, 0.15, 0.05])
  close(share(Sampling(temperature=1.0, top_p=0.7)), [0.625, 0.375, 0, 0])
  heat = np.asarray([0.5, 0.3, 0.15, 0.05]) ** 0.5
  close(share(Sampling(temperature=2.0)), heat / heat.sum())


def test_a_temperature_of_zero_takes_the_likeliest_token_whatever_the_key():
  logits = jax.random.normal(jax.random.key(0), (16, V))
  keys = jax.random.split(jax.random.key(1), 16)
  found = sample(logits, keys, GREEDY)
  assert found.dtype == jnp.int32
  assert found.tolist() == jnp.argmax(logits, axis=-1).tolist()


@pytest.mark.parametrize(
  "field, value",
  [
    ("temperature", -1.0),
    ("temperature", math.nan),
    ("top_p", 0.0),
    ("top_p", 1.5),
    ("temperature", math.inf),
  ],
)
def test_settings_that_cannot_be_are_errors(field, value):
  with pytest.raises(ValueError, match=f"{field} is .*allowed"):
    Sampling(**{field: value})


def test_equal_settings_share_a_compiled_program():
  _run([[1, 2]], sampling=Sampling(temperature=0.5))
  before = generate._cache_size()
  _run([[3, 4]], sampling=Sampling(temperature=0.5))
  assert generate._cache_size() == before
