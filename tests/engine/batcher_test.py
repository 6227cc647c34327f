"""Keeping the lanes full: packing, refilling, shrinking and leaping change no reply."""

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jswarm.core.types import Request
from jswarm.engine import adapter_forms, batcher, engine, packing, schedule
from jswarm.engine.counters import Statistics
from jswarm.engine.group import Served
from jswarm.engine.packing import Prompt
from jswarm.engine.schedule import Queue
from jswarm.engine.spread import Programs
from jswarm.model import attention, lora, quantize, sampling
from jswarm.model.decoder import make_decoder
from jswarm.model.sampling import Sampling
from tests import tiny

WORDS = "one two three four five six seven eight nine ten one two three four".split()


def _requests(count, experts, limit=lambda i: 3 + i % 9):
  return [
    Request(
      i % experts, " ".join(WORDS[i % 4 : i % 4 + 1 + i % 11]) + f" {i % 7}", limit(i)
    )
    for i in range(count)
  ]


def _said(group, requests, **fields):
  experts = engine.make_experts(tiny.pool(group), tiny.settings(**fields))
  return [reply.text for reply in experts.ask(requests)]


@st.composite
def _prompts(draw):
  sizes = draw(
    st.lists(st.tuples(st.integers(1, 90), st.integers(0, 4)), min_size=1, max_size=40)
  )
  return [
    Prompt(i, owner, list(range(1, n + 1)), 4, i) for i, (n, owner) in enumerate(sizes)
  ]


@given(_prompts(), st.sampled_from([128, 256, 512]), st.sampled_from([0, 16, 32]))
@settings(max_examples=80, deadline=None)
def test_packs_hold_every_prompt_once_and_blocks_of_one_expert(prompts, most, prefix):
  prompts = [p._replace(tokens=[1000] * prefix + list(p.tokens)) for p in prompts]
  packs = [
    packing.lay(prompts, m, prefix) for m in packing.divide(prompts, most, prefix)
  ]
  assert sorted(i for p in packs for i in p.members) == list(range(len(prompts)))
  for pack in packs:
    assert len(pack.tokens) <= most and len(pack.tokens) % 128 == 0
    covered = np.zeros(len(pack.tokens), int)
    for row, i in enumerate(pack.members):
      own = len(prompts[i].tokens) - prefix
      where = slice(pack.begin[row], pack.begin[row] + own)
      assert pack.length[row] == len(prompts[i].tokens)
      assert pack.tokens[where].tolist() == prompts[i].tokens[prefix:]
      assert pack.positions[where].tolist() == list(range(prefix, prefix + own))
      root = slice(pack.root[row], pack.root[row] + prefix)
      assert pack.tokens[root].tolist() == prompts[i].tokens[:prefix]
      assert pack.positions[root].tolist() == list(range(prefix))
      blocks = np.arange(where.start, where.stop) // attention.TOKEN_BLOCK
      assert set(pack.owners[blocks]) == {prompts[i].owner}
      assert set(pack.roots[blocks]) == {pack.root[row]}
      covered[where] += 1
      covered[root] = 1
    assert covered.max() == 1 and ((pack.positions >= 0) == (covered == 1)).all()


def test_a_prefix_is_shared_where_enough_prompts_have_it():
  make = lambda n, owner, tail: Prompt(0, owner, [7] * n + tail, 4, 0)
  many = [make(40, 0, [i, i]) for i in range(4)]
  assert packing.shared_prefix(many) == 32
  assert packing.shared_prefix(many + [make(20, 0, [1])]) == 16
  assert packing.shared_prefix(many + [make(3, 0, [1])]) == 0
  assert packing.shared_prefix([make(40, i, [i]) for i in range(4)]) == 0
  assert packing.shared_prefix([make(16, 0, [])] * 5) == 0  # something must be left


@pytest.mark.slow
def test_an_expert_with_packs_of_its_own_says_the_same(monkeypatch):
  group, requests = tiny.lora_group(3), _requests(30, 3)
  asked = []
  lay = packing.lay
  monkeypatch.setattr(packing, "lay", lambda *a: asked.append(lay(*a)) or asked[-1])
  monkeypatch.setattr(adapter_forms, "_LARGE", 1e9)
  mixed = _said(group, requests, form="grouped", rows=32)
  assert any(len(set(p.owners)) > 1 for p in asked)
  asked.clear()
  monkeypatch.setattr(adapter_forms, "_LARGE", 0)
  monkeypatch.setattr(adapter_forms, "_QUICK", 0)
  monkeypatch.setattr(packing, "APART", 16)
  monkeypatch.setattr(packing, "_FULL", 0)
  assert _said(group, requests, form="grouped", rows=32) == mixed
  assert all(len(set(p.owners)) == 1 for p in asked)


def test_prompts_of_one_expert_have_packs_of_their_own_where_they_fill_them():
  make = lambda i, owner, tokens: (i, Prompt(i, owner, [1] * tokens, 4, 0))
  seats = [
    make(0, 0, 200),
    make(1, 0, 180),
    make(2, 0, 60),
    make(3, 1, 130),
    make(4, 1, 130),
    make(5, 2, 40),
  ]
  packs = packing.packs(seats, 2048, 0, apart=True)
  # Expert 0: 380 of 384 without its third; expert 1 would waste a third of 384.
  assert [[i for i, _ in mine] for _, mine in packs] == [[0, 1], [2, 3, 4, 5]]
  assert [len(pack.tokens) for pack, _ in packs] == [384, 512]
  assert len(packing.packs(seats, 2048, 0)) == 1
  (long,) = packing.packs([make(0, 0, 3000)], 2048, 0, apart=True)  # longer than a pack
  assert len(long[0].tokens) == 3072


def test_packs_grow_in_steps_of_an_eighth_at_least():
  sizes = [packing.pack_size(n) for n in range(1, 5000)]
  assert all(n <= size and size % 128 == 0 for n, size in enumerate(sizes, 1))
  assert all(size <= max(n + 127, n * 1.25) for n, size in enumerate(sizes, 1))
  assert len(set(sizes[:2048])) == 12


def test_a_pack_has_few_rows_where_it_holds_few_prompts():
  assert [packing.rows_of(2048, n) for n in (1, 16, 17, 128)] == [16, 16, 128, 128]
  assert [packing.rows_of(128, n) for n in (1, 2, 8)] == [1, 8, 8]


@pytest.mark.parametrize(
  "form", ["grouped", pytest.param("masked", marks=pytest.mark.slow)]
)
def test_prompts_that_share_a_prefix_say_what_each_says_alone(form):
  group = tiny.lora_group(2)
  head = "some words that come first in every prompt, long enough: "
  requests = [
    Request(i % 2, head + " ".join(WORDS[i % 4 : i % 4 + 1 + i % 9]), 8)
    for i in range(18)
  ]
  engine.reset_statistics()
  together = _said(group, requests, form=form, rows=32)
  assert engine.statistics()["shared_tokens"] >= 32 * 14
  assert together == [_said(group, [r], form=form)[0] for r in requests]
  assert len(set(together)) > 2


@given(_prompts(), st.sampled_from([(8, 1), (8, 2), (16, 4)]), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_lanes_are_given_in_blocks_of_one_expert_until_nothing_waits(
  prompts, size, seed
):
  queue, rng = Queue(prompts), np.random.default_rng(seed)
  queue.open(*size)
  seen = []
  while queue.left or queue.held:
    seen += [p.index for _, p in queue.seat()]
    for lane in queue.held:
      assert queue.holder[lane].owner == queue.owners[lane // queue.block]
    free = [lane for lane in queue.held if rng.uniform() < 0.5] or queue.held[:1]
    for lane in free:
      queue.holder[lane] = None
  assert sorted(seen) == list(range(len(prompts)))


def _queue(*rows):
  """A queue where so many prompts of each expert wait."""
  owners = [owner for owner, count in enumerate(rows) for _ in range(count)]
  return Queue([Prompt(i, owner, [1], 4, 0) for i, owner in enumerate(owners)])


def test_lanes_are_as_few_as_hold_all_blocks_unless_those_are_far_more():
  lanes = lambda *rows, sizes=schedule.FINE_LANES: schedule.lanes_for(
    [_queue(*rows)], 64, sizes
  )
  assert [lanes(n) for n in (1, 7, 9, 17, 25, 33, 400)] == [1, 8, 16, 24, 32, 64, 64]
  assert lanes(*[2] * 10) == 24  # ten blocks of two
  assert lanes(*[1] * 13) == 16 and lanes(*[3] * 6) == 24  # blocks of one, of two
  assert lanes(*[1] * 10, *[3] * 3) == 32  # 16 blocks
  assert lanes(*[1] * 28) == 32  # 64 would be double: some wait
  assert lanes(20, sizes=schedule.LANES) == 32


def test_any_number_of_lanes_may_be_the_most_and_holds_whole_blocks():
  for most in (*range(1, 130), 500, 512):
    assert schedule.lanes_for([_queue(600)], most) == most
    assert most % schedule.lane_block(most) == 0
  assert [schedule.lane_block(n) for n in schedule.FINE_LANES] == [
    1,
    1,
    1,
    2,
    2,
    2,
    4,
    8,
    16,
  ]


def test_no_queue_runs_to_its_last_token_while_others_come_back():
  queues = [_queue(5), _queue(20), _queue()]
  for queue in queues:
    queue.open(32, schedule.lane_block(32))
    queue.seat()
  fewest = lambda chosen, ended=True: schedule.fewest(chosen, 32, 8, ended)
  assert fewest(queues) == [5, 9, 1]
  assert fewest(queues[::2]) == [1, 1]
  assert fewest(queues[::2], ended=False) == [5, 1]
  queues[2].add([Prompt(i, 0, [1], 4, 0) for i in range(40)])
  queues[2].seat()
  assert fewest(queues) == [5, 9, 25]


@given(
  st.lists(st.integers(0, 80), min_size=1, max_size=4),
  st.sampled_from([0, 8, 32]),
  st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_every_queue_with_replies_ends_one_of_them_in_a_call(counts, following, ended):
  queues = [_queue(count) for count in counts]
  for queue in queues:
    queue.open(64, schedule.lane_block(64))
    queue.seat()
  for queue, n in zip(queues, schedule.fewest(queues, 64, following, ended)):
    assert n <= max(1, len(queue.held))


def test_a_base_is_large_by_what_one_replica_holds_of_it(monkeypatch):
  monkeypatch.setattr(adapter_forms, "_QUICK", 200)
  served = object.__new__(batcher.Batcher)
  served._programs = object.__new__(Programs)
  replicas = SimpleNamespace(platform="cpu", single=False)
  served._replicas = served._programs.replicas = replicas
  params = {"layers": {"q": np.zeros((8, 100))}}
  own = adapter_forms.Weights(params=params, placed=tuple(range(8)))
  assert served._sizes(own) == schedule.FEW_LANES
  assert served._sizes(adapter_forms.Weights(params=params)) == schedule.FINE_LANES


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_where_nobody_knows_the_memory_the_lanes_are_a_modest_number(platform):
  served = object.__new__(Served)
  served._replicas = SimpleNamespace(platform=platform, memory=lambda: 0)
  served.particles = SimpleNamespace(held=lambda: 1000)
  served.group = tiny.lora_group(2)
  assert served._fitting_rows() == 64


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_what_fits_fewer_lanes_moves_there_and_keeps_its_expert(rows, seed):
  queue, rng = _queue(*rows), np.random.default_rng(seed)
  queue.open(64, schedule.lane_block(64))
  queue.seat()
  for lane in queue.held:
    if rng.uniform() < 0.6:
      queue.holder[lane] = None
  before = {queue.holder[lane].index: lane for lane in queue.held}
  for size in schedule.FINE_LANES[:-4]:
    if not queue.fits(size):
      assert size < 2 * len(before)
      continue
    moved = queue.shrink(size)
    assert {queue.holder[lane].index: moved[lane] for lane in queue.held} == before
    for lane in queue.held:
      assert queue.holder[lane].owner == queue.owners[lane // queue.block]
    return
  assert len(before) > 32 or sum(rows) > 32


@pytest.mark.slow
def test_a_large_base_decodes_in_finer_lanes_and_says_the_same(monkeypatch):
  group, requests = tiny.lora_group(3), _requests(20, 3, lambda i: 3 + i % 9)
  coarse = _said(group, requests, rows=64)
  engine.reset_statistics()
  monkeypatch.setattr(adapter_forms, "_QUICK", 0)
  assert _said(group, requests, rows=64) == coarse
  lanes = {
    program[1]
    for each in engine._every
    for program in each.programs
    if program[0] == "decode"
  }
  assert 24 in lanes and lanes & {1, 8, 16}


@pytest.mark.slow
def test_more_prompts_than_lanes_are_refilled_and_say_the_same():
  group = tiny.lora_group(3)
  requests = _requests(40, 3)
  alone = [_said(group, [r])[0] for r in requests[:9]]
  for fields in (
    dict(rows=8, pack_tokens=128),
    dict(rows=32, pack_tokens=512),
    dict(rows=64, pack_tokens=2048),
  ):
    assert _said(group, requests, **fields)[:9] == alone
  assert _said(group, requests, rows=8, pack_tokens=128) == _said(
    group, requests, rows=64
  )


def _narrow(monkeypatch, most):
  """The lanes of all decodes from now on; with more than `most` memory runs out."""
  true, lanes = batcher.Batcher._decode, []

  def decode(self, stream, *rest):
    lanes.append(stream.count)
    if lanes[-1] > most:
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    return true(self, stream, *rest)

  monkeypatch.setattr(batcher.Batcher, "_decode", decode)
  return lanes


@pytest.mark.slow
def test_few_short_prompts_do_not_fix_the_lanes_of_all_that_follow(monkeypatch):
  true, opened = schedule.lanes_for, []
  monkeypatch.setattr(
    schedule, "lanes_for", lambda *a: opened.append(true(*a)) or opened[-1]
  )
  monkeypatch.setattr(schedule, "_LONG", 32)
  requests = [Request(0, f"{i} " + "x" * (40 if i < 31 else 8), 4) for i in range(64)]
  _said(tiny.lora_group(2), requests, form="grouped", rows=8)  # portions of 32
  assert opened == [8, 8]


@pytest.mark.parametrize("sizes", [[10, 1, 0, 1, 1, 0, 1, 20, 9], [1, 1, 30, 20, 9]])
def test_lanes_stay_open_while_portions_come_and_no_more_are_taken(monkeypatch, sizes):
  served = Served(tiny.lora_group(3), tiny.settings(form="grouped"), Statistics())
  prompts = [
    Prompt(i, i % 3, list(range(1, 4 + i % 5)), 2 + i % 9, i) for i in range(sum(sizes))
  ]
  serve_all = lambda feed: served._batcher.serve(
    served.particles.mixed("grouped"), feed, 10
  )
  whole, calls = serve_all([prompts]), []
  lanes = _narrow(monkeypatch, 8)

  def feed():
    for n in range(len(sizes)):
      calls.append(len(lanes))
      yield prompts[sum(sizes[:n]) : sum(sizes[: n + 1])]
    calls.append(len(lanes))  # known from here on: nothing more comes

  assert serve_all(feed()) == whole
  assert set(lanes[: calls[-1]]) == {8}
  assert calls[-2] > 0  # while the last portion was made, others were served


@pytest.mark.slow
@pytest.mark.parametrize("form", adapter_forms.FORMS)
def test_every_form_says_what_merged_weights_say(form):
  group = tiny.lora_group(4)
  requests = _requests(30, 4)
  assert _said(group, requests, form=form) == _said(group, requests, form="merged")


def test_the_cost_rule_merges_experts_that_own_many_rows():
  owners = [0] * 300 + [1] * 5 + [2] * 5
  assert adapter_forms.choose("auto", "cpu", owners, 3, False) == ("grouped", [0])
  assert adapter_forms.choose("auto", "gpu", owners, 3, False) == ("masked", [0])
  assert adapter_forms.choose("auto", "gpu", owners, 40, False) == ("grouped", [0])
  assert adapter_forms.choose("auto", "cpu", owners, 3, True) == ("masked", [0])
  assert adapter_forms.choose("auto", "cpu", owners, 3, False, mergeable=False) == (
    "grouped",
    [],
  )
  assert adapter_forms.choose("merged", "cpu", [2, 1, 2], 3, False)[1] == [1, 2]
  some = [0] * 32 + [1] * 31
  assert adapter_forms.choose("auto", "cpu", some, 3, False) == ("grouped", [])
  assert adapter_forms.choose("auto", "cpu", some, 3, False, dear=True) == (
    "grouped",
    [0],
  )


@pytest.mark.slow
def test_speculation_says_the_same_tokens_in_fewer_steps():
  group = tiny.lora_group(2)
  requests = _requests(8, 2, lambda i: 40)
  engine.reset_statistics()
  plain = _said(group, requests)
  steps = engine.statistics()["decode_steps"]
  engine.reset_statistics()
  assert _said(group, requests, speculate=True) == plain
  assert engine.statistics()["decode_steps"] < steps
  assert _said(group, requests[:1], speculate=True) == plain[:1]
  ragged = _requests(21, 2)
  assert _said(group, ragged, speculate=True) == _said(group, ragged)


def test_speculation_is_refused_where_tokens_are_drawn():
  with pytest.raises(ValueError, match="speculate needs greedy"):
    tiny.settings(speculate=True, sampling=sampling.Sampling(temperature=1.0))


def test_running_out_of_memory_halves_the_lanes_and_loses_no_row(monkeypatch):
  group, requests = tiny.lora_group(3), _requests(50, 3)
  plain = _said(group, requests, rows=8)
  true, calls = batcher.Batcher._decode, []

  def short(self, stream, *rest):
    calls.append(stream.count)
    if stream.count > 8 or len(calls) == 4:  # also on its way
      raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    return true(self, stream, *rest)

  monkeypatch.setattr(batcher.Batcher, "_decode", short)
  engine.reset_statistics()
  experts = engine.make_experts(tiny.pool(group), tiny.settings(rows=32))
  assert [r.text for r in experts.ask(requests)] == plain
  assert engine.statistics()["halved"] == 3 and calls[:3] == [32, 16, 8]
  calls[:] = [0] * 8
  experts.ask(requests)  # the size that fitted is remembered
  assert engine.statistics()["halved"] == 3 and max(calls) <= 4


@pytest.mark.slow
def test_lanes_are_halved_from_those_that_were_open(monkeypatch):
  group, requests = tiny.lora_group(3), _requests(60, 3)
  plain = _said(group, requests, rows=8)
  lanes = _narrow(monkeypatch, 8)
  engine.reset_statistics()
  assert _said(group, requests, rows=512, pack_tokens=2048) == plain
  assert lanes[:4] == [64, 32, 16, 8] and engine.statistics()["halved"] == 3


def test_memory_that_is_too_small_for_one_lane_is_an_error(monkeypatch):
  lanes = _narrow(monkeypatch, 0)
  long = Request(0, "x" * 200, 4)  # in a pack of its own, which is larger than allowed
  with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
    _said(tiny.lora_group(2), [long] * 2, rows=2, pack_tokens=128)
  assert lanes == [2, 1]


def test_another_error_of_the_device_is_not_swallowed(monkeypatch):
  def broken(*arguments):
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")

  monkeypatch.setattr(batcher.Batcher, "_decode", broken)
  with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
    _said(tiny.lora_group(2), _requests(4, 2))


@pytest.mark.slow
def test_int8_kernels_stay_close_and_carry_adapters():
  base, decoder = tiny.base(), make_decoder(tiny.CONFIG)
  rounded = quantize.quantize(base)
  kernel = rounded["layers"]["attn"]["q"]["kernel"]
  assert kernel.dtype == jnp.int8
  assert rounded["layers"]["attn_norm"]["scale"].dtype == jnp.float32
  back = kernel * rounded["layers"]["attn"]["q"]["scale"][:, None]
  assert np.abs(back - base["layers"]["attn"]["q"]["kernel"]).max() <= (
    rounded["layers"]["attn"]["q"]["scale"].max() * 0.5001
  )
  error = quantize.logit_error(decoder, base, rounded, list(range(1, 60)))
  assert 0 < error["mean"] < 0.2 and error["agree"] > 0.8
  replies = {
    form: _said(tiny.lora_group(3), _requests(6, 3), form=form, int8=True)
    for form in ("grouped", "masked")
  }
  assert replies["grouped"] == replies["masked"]
  with pytest.raises(ValueError, match="int8 rounds"):
    tiny.settings(int8=True, form="merged")


def test_grouped_adapters_gathered_for_a_loop_are_the_same():
  packed = lora.group(tiny.adapters(3)).replace(owners=jnp.array([2, 0]))
  gathered = lora.gather(packed)
  assert gathered.owners is None
  for name, factors in packed.layers.items():
    np.testing.assert_array_equal(gathered.layers[name]["A"], factors["A"][:, [2, 0]])


@pytest.mark.slow
def test_a_search_compiles_few_programs():
  engine.reset_statistics()
  experts = engine.make_experts(tiny.pool(tiny.lora_group(3)), tiny.settings(rows=32))
  rng = np.random.default_rng(0)
  for _ in range(12):  # waves of many sizes and lengths
    experts.ask(
      [
        Request(int(rng.integers(3)), "x" * int(rng.integers(4, 200)), 8)
        for _ in range(int(rng.integers(1, 40)))
      ]
    )
  found = engine.statistics()["programs"]
  assert found <= 14, found


@pytest.mark.slow
def test_programs_are_counted_as_they_are_compiled():
  statistics, drawn = Statistics(), Sampling(temperature=0.7)  # unlike other tests
  served = Served(
    tiny.lora_group(3), tiny.settings(rows=32, sampling=drawn), statistics
  )
  served._replicas.one_by_one = False  # as on other devices
  for count in (40, 5):  # the same packs for 32 lanes and for 8, and a tail
    served.ask([Request(0, f"{i} x", 3 + i % 6) for i in range(count)])
  assert {p[0] for p in statistics.programs} == {"prefill", "decode", "take"}
  compiled = [p._cache_size() for p in served._batcher._programs._made.values()]
  assert sum(compiled) == len(statistics.programs), statistics.programs


def test_statistics_count_what_was_asked():
  engine.reset_statistics()
  experts = engine.make_experts(tiny.pool(tiny.lora_group(2)), tiny.settings(rows=32))
  replies = experts.ask(_requests(20, 2))
  found = engine.statistics()
  assert found["rows"] == 20
  assert found["prefill_tokens"] == sum(r.prompt_tokens for r in replies)
  assert found["new_tokens"] == sum(r.new_tokens for r in replies)
  assert found["decode_slots"] >= found["new_tokens"] - 20
