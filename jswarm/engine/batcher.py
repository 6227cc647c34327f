"""Keeps the lanes full: prompts of one base, many experts -> new tokens.

    prompts -> packs -> prefill, admit -> decode until lanes are free -> next prompts

Two kinds of programs: a prefill of a pack of T tokens, a decode of B lanes with C + M
slots; T, B, C and M come from short lists. A device that runs out of memory is given
half the lanes and half the pack from then on, and no prompt is lost.
"""

from collections.abc import Callable, Iterable, Sequence
import time

from absl import logging
import jax
import numpy as np

from jswarm.core import waits
from jswarm.distributed import devices
from jswarm.engine import adapter_forms, packing, programs, schedule
from jswarm.engine.counters import Statistics
from jswarm.engine.packing import Prompt
from jswarm.engine.schedule import Queue
from jswarm.model import lanes as lanes_lib
from jswarm.model import speculate
from jswarm.model.architecture import DecoderConfig
from jswarm.model.attention import SPAN_BLOCK, TOKEN_BLOCK
from jswarm.model.decoder import is_unstacked, make_decoder
from jswarm.model.sampling import Sampling

_LEAST_SLOTS, _LEAST_RING = 128, 8
_FEW = 8  # lanes of a tail, in which several tokens a step cost little more than one


class Server:
  """One base on its replicas."""

  def __init__(
    self,
    config: DecoderConfig,
    replicas: devices.Replicas,
    stops: Sequence[int],
    sampling: Sampling,
    *,
    rows: int,
    pack_tokens: int,
    statistics: Statistics,
    leaps: bool = False,
  ):
    self._whole, self._replicas, self._sampling = config, replicas, sampling
    self._decoder = make_decoder(config)
    if replicas.tensor > 1:
      self._decoder = make_decoder(
        devices.tensor_config(config, replicas.tensor), axis=devices.TENSOR
      )
    self._rows, self._pack = rows, pack_tokens
    self._opened, self._packed = 0, 0  # lanes and largest pack of the latest stream
    self._stops = replicas.share(np.asarray(stops, np.int32))
    self._statistics, self._leaps = statistics, leaps
    self._programs: dict[tuple, Callable] = {}
    self._shapes: set[tuple] = set()  # that were compiled

  def serve(
    self, weights: adapter_forms.Weights, feed: Iterable[Sequence[Prompt]], limit: int
  ) -> dict[int, list[int]]:
    """New tokens by prompt index; more prompts than lanes are served in turn.

    Args:
      weights: what all of them run on.
      feed: prompts in portions, asked for as lanes become free: a portion may be
        made while the one before is served.
      limit: at least that of every prompt.
    """
    said: dict[int, list[int]] = {}
    feed = _Feed(feed)
    while more := _unsaid(feed.taken, said) or feed.take(1):  # unsaid: memory ran out
      *long, short = schedule.by_length(more)
      try:
        for prompts in long:
          self._stream(weights, prompts, _Feed(()), limit, said)
        self._stream(weights, short, feed, limit, said)
      except jax.errors.JaxRuntimeError as error:
        self._halve(error)
    self._statistics.rows += len(feed.taken)
    return said

  def _halve(self, error):
    """Plans with half of what was open, or gives up where nothing is left to halve."""
    rows = max(1, self._opened // 2)
    pack = max(SPAN_BLOCK, self._packed // 2) if self._packed else self._pack
    if "RESOURCE_EXHAUSTED" not in str(error) or (
      self._opened <= 1 and pack >= min(self._pack, self._packed)
    ):
      raise error
    self._rows, self._pack = min(self._rows, rows), min(self._pack, pack)
    self._statistics.halved += 1
    logging.warning(
      "Out of device memory: from now on %d rows and packs of %d tokens.",
      self._rows,
      self._pack,
    )

  def _stream(self, weights, prompts, feed, limit, said):
    # The lanes stay as many as they are opened, so all of them need a prompt.
    prompts = prompts + feed.take(self._rows * self._replicas.count - len(prompts))
    queues = [
      Queue(mine)
      for mine in schedule.deal(prompts, self._replicas.count, weights.placed)
    ]
    if self._leaps:  # leaps leave holes, see `speculate.decode`
      limit = 2 * limit + speculate.DRAFT + 1
    ring = _LEAST_RING if limit <= _LEAST_RING else -(-limit // 16) * 16
    slots = packing.size_of(max(len(p.tokens) for p in prompts), _LEAST_SLOTS)
    lanes = self._open(weights, queues, slots, ring)
    while any(queue.left or queue.held for queue in queues):
      lanes = self._more(queues, feed, weights, lanes)
      lanes = self._fill(weights, queues, lanes)
      lanes = self._decode(weights, queues, lanes, feed.ended)
      self._harvest(queues, lanes, said)
      if feed.ended:
        lanes = self._shrink(weights, queues, lanes)

  def _more(self, queues, feed, weights, lanes):
    """Takes portions when fewer wait than there are lanes, until that many do."""
    count, left = len(queues[0].holder), [queue.left for queue in queues]
    if min(left) >= count:
      return lanes
    # One at least, but not all for a queue whose expert has no more prompts.
    portion = feed.take(max(1, count * len(queues) - sum(left)))
    if not portion:
      return lanes
    for queue, mine in zip(queues, schedule.deal(portion, len(queues), weights.placed)):
      queue.add(mine)
    ring = lanes.said.shape[-1]
    held = lanes.cache.positions.shape[-1] - ring
    wanted = packing.size_of(max(len(p.tokens) for p in portion), _LEAST_SLOTS)
    if wanted <= held:
      return lanes
    self._statistics.programs.add(("grow", count, held, wanted, ring))
    return self._program("grow", weights, lanes, wanted)(lanes)

  def _open(self, weights, queues, slots, ring):
    count = schedule.lanes_for(queues, self._rows, self._sizes(weights))
    self._opened, self._packed = count, 0
    for queue in queues:
      queue.open(count, schedule.lane_block(count))
    params = weights.params
    make = lambda: lanes_lib.empty(
      self._whole, count, slots, ring, params["embed"].dtype, is_unstacked(params)
    )
    if self._replicas.single and not self._replicas.one_by_one:
      return make()
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(make))
    blank = blank.replace(
      said=blank.said - 1,
      cache=blank.cache.replace(
        positions=blank.cache.positions - 1, end=np.int32(slots)
      ),
    )
    return self._replicas.split([blank] * len(queues), self._lane_specs(blank))

  def _lane_specs(self, lanes):
    return devices.lane_specs(lanes) if self._replicas.tensor > 1 else None

  def _fill(self, weights, queues, lanes):
    """Seats what waits and computes its prompts, pack by pack."""
    began = time.perf_counter()
    seated = [queue.seat() for queue in queues]
    prefix = packing.shared_prefix([p for seats in seated for _, p in seats])
    packs = [
      packing.packs(seats, self._pack, prefix, weights.apart) for seats in seated
    ]
    for turn in range(max(map(len, packs))):
      each = [p[turn] if turn < len(p) else None for p in packs]
      lanes = self._prefill(weights, queues, each, lanes, prefix)
    jax.block_until_ready(lanes.token)
    self._statistics.prefill_seconds += time.perf_counter() - began
    return lanes

  def _prefill(self, weights, queues, each, lanes, prefix):
    size = max(len(pack.tokens) for pack, _ in filter(None, each))
    self._packed = max(self._packed, size)
    longest = max(int(pack.length.max()) for pack, _ in filter(None, each))
    reach = size  # on CPU every block finds its own, so that packs share a program
    if self._replicas.platform != "cpu":
      reach = packing.size_of(longest, SPAN_BLOCK)
    lane_count = len(queues[0].holder)
    most = max(len(pack.begin) for pack, _ in filter(None, each))
    rows = [packing.row(entry, size, most, lane_count) for entry in each]
    for row in rows:
      computed = int((row["positions"] >= 0).sum())
      self._statistics.prefill_tokens += computed
      self._statistics.prefill_slots += size
      self._statistics.shared_tokens += int(row["length"].sum()) - computed
    owners = [row.pop("owners") for row in rows]
    if weights.apart and all(np.ptp(o) == 0 for o in owners):
      owners = [o[:1] for o in owners]  # one expert each: one large product
    call = self._program("prefill", weights, lanes, reach, prefix)
    key = ("prefill", size, most, reach, prefix, len(owners[0]) == 1)
    # In one piece, it depends on the lanes that its prompts go to.
    shape = () if self._replicas.one_by_one else _shape(queues, lanes)
    self._statistics.programs.add(key + shape)
    with self._compiling(f"a prefill of {size} tokens", (*key, *_shape(queues, lanes))):
      lanes = call(
        weights.params,
        weights.adapters,
        self._stops,
        lanes,
        self._replicas.split(self._mixture(weights, owners, TOKEN_BLOCK)),
        self._replicas.split(rows),
      )
    if not self._statistics.first_token:
      jax.block_until_ready(lanes.token)
      self._statistics.first_token = time.time()
    return lanes

  def _decode(self, weights, queues, lanes, ended):
    began = time.perf_counter()
    count = len(queues[0].holder)
    following = max(self._smaller(weights, queues), default=0) if ended else 0
    fewest = schedule.fewest(queues, count, following, ended)
    owners = [queue.owners for queue in queues]
    few = count <= _FEW and not any(queue.left for queue in queues)
    kind = "leap" if self._leaps and few else "decode"
    self._statistics.programs.add((kind, *_shape(queues, lanes)))
    deep = self._replicas.one_by_one and self._whole.layers > programs.SHALLOW
    kind = "steps" if deep and kind == "decode" else kind
    call = self._program(kind, weights, lanes)
    before = self._replicas.fetch(lanes.steps)
    with self._compiling(f"decode for {count} lanes", (kind, *_shape(queues, lanes))):
      lanes = call(
        weights.params,
        weights.adapters,
        self._stops,
        lanes,
        self._replicas.split(self._mixture(weights, owners, queues[0].block)),
        self._replicas.split([np.int32(f) for f in fewest]),
      )
    steps = [int(a - b) for a, b in zip(self._replicas.fetch(lanes.steps), before)]
    self._statistics.decode_steps += max(steps)
    self._statistics.decode_slots += sum(steps) * count
    self._statistics.decode_seconds += time.perf_counter() - began
    return lanes

  def _harvest(self, queues, lanes, said):
    active, tokens = (self._replicas.fetch(x) for x in (lanes.active, lanes.said))
    self._statistics.gathered_bytes += lanes.active.nbytes + lanes.said.nbytes
    for queue, going, words in zip(queues, active, tokens):
      for lane in queue.held:
        if not going[lane]:
          row = words[lane]
          said[queue.holder[lane].index] = row[row >= 0].tolist()
          self._statistics.new_tokens += len(said[queue.holder[lane].index])
          queue.holder[lane] = None

  def _compiling(self, what, shape):
    """Tells what the first call of a shape is about, which compiles its programs."""
    new = shape not in self._shapes
    self._shapes.add(shape)
    return waits.told(f"compiling {what}", new)

  def _sizes(self, weights):
    fine = self._replicas.platform == "cpu" and adapter_forms.large(self._own(weights))
    return schedule.FINE_LANES if fine else schedule.LANES

  def _smaller(self, weights, queues):
    """Fewer lanes that may do once nothing waits, the fewest first."""
    if any(queue.left for queue in queues):
      return []
    return [n for n in self._sizes(weights) if n < len(queues[0].holder)]

  def _shrink(self, weights, queues, lanes):
    """Fewer lanes for the last replies."""
    if not any(queue.held for queue in queues):
      return lanes
    size = next(
      (
        n
        for n in self._smaller(weights, queues)
        if all(queue.fits(n) for queue in queues)
      ),
      0,
    )
    if not size:
      return lanes
    self._statistics.programs.add(("take", size, *_shape(queues, lanes)))
    moves = [queue.shrink(size) for queue in queues]
    return self._program("take", weights, lanes)(lanes, self._replicas.split(moves))

  def _mixture(self, weights, owners, block):
    """What tells a queue's rows their experts: owners of blocks, or mix a row."""
    if weights.mix is None:
      return [np.asarray(o, np.int32) for o in owners]
    return [np.repeat(weights.mix[o], block, axis=0) for o in owners]

  def _program(self, kind, weights, lanes, *facts):
    """The function `kind`, spread over the replicas; jit keeps its shapes apart."""
    key = (kind, bool(weights.placed), type(weights.adapters), *facts)
    if key not in self._programs:
      self._programs[key] = self._spread(kind, weights, lanes, *facts)
    return self._programs[key]

  def _spread(self, kind, weights, lanes, *facts):
    eager, whole = self._replicas.one_by_one, jax.sharding.PartitionSpec()
    specs = self._lane_specs(self._one(lanes))
    run = programs.function(kind, self._decoder, self._sampling, *facts)
    if kind in ("grow", "take"):
      return self._replicas.each(
        run, 0, compiled=not eager, specs=(specs, whole), out=specs
      )
    split = self._replicas.tensor > 1
    inside = (
      *(
        devices.tensor_specs(x) if split else None
        for x in (self._own(weights), weights.adapters)
      ),
      whole,
      specs,
      whole,
      whole,
    )
    return self._replicas.each(
      run,
      3,
      donate=(3,),
      compiled=not (eager and kind in ("prefill", "steps")),
      specs=inside,
      out=specs,
      own=bool(weights.placed),
    )

  def _own(self, weights):
    """The params of one replica."""
    return self._one(weights.params) if weights.placed else weights.params

  def _one(self, tree):
    """The shapes that one replica sees of what was `split`."""
    if self._replicas.single:
      return tree
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)


class _Feed:
  """Prompts that come in portions.

  Attributes:
    taken: all that came, so that none is lost. ended: no more will.
  """

  def __init__(self, portions: Iterable[Sequence[Prompt]]):
    self._portions, self.taken, self.ended = iter(portions), [], False

  def take(self, least: int) -> list[Prompt]:
    """The next portions, until they hold `least` prompts or none is left."""
    first = len(self.taken)
    while len(self.taken) - first < least and not self.ended:
      portion = next(self._portions, None)
      self.ended = portion is None
      self.taken += portion or ()
    return self.taken[first:]


def _shape(queues, lanes):
  """Of a queue's lanes: B, C + M, M."""
  return len(queues[0].holder), lanes.cache.positions.shape[-1], lanes.said.shape[-1]


def _unsaid(prompts, said):
  return [p for p in prompts if p.index not in said]
