"""Keeps the lanes full: prompts of one base, many experts -> new tokens.

    prompts -> packs -> prefill, admit -> decode until lanes are free -> next prompts

Two kinds of programs: a prefill of a pack of T tokens, a decode of B lanes with C + M
slots; T, B, C and M come from short lists. A device that runs out of memory is given
half the lanes and half the pack from then on, for prompts of that length and beyond,
and no prompt is lost.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import time

from absl import logging
import jax
import numpy as np

from jswarm.core import waits
from jswarm.distributed import devices
from jswarm.engine import adapter_forms, packing, programs, schedule
from jswarm.engine.counters import Statistics
from jswarm.engine.limits import Limits, is_out_of_memory
from jswarm.engine.packing import Prompt
from jswarm.engine.schedule import Queue
from jswarm.engine.spread import Programs
from jswarm.model import lanes as lanes_lib
from jswarm.model import speculate
from jswarm.model.architecture import DecoderConfig
from jswarm.model.attention import SPAN_BLOCK, TOKEN_BLOCK
from jswarm.model.decoder import is_unstacked
from jswarm.model.lanes import Lanes
from jswarm.model.sampling import Sampling

_LEAST_SLOTS, _LEAST_RING = 128, 8
_FEW = 8  # lanes of a tail, in which several tokens a step cost little more than one


@dataclasses.dataclass
class Stream:
  """Prompts that share lanes, on their way to replies.

  Attributes:
    weights: what all of them run on.
    queues: of each replica: who waits, and who holds which lane.
    lanes: of all replicas, on the devices.
  """

  weights: adapter_forms.Weights
  queues: list[Queue]
  lanes: Lanes

  @property
  def count(self) -> int:
    """B, lanes of a replica."""
    return len(self.queues[0].holder)

  @property
  def shape(self) -> tuple[int, int, int]:
    """B, C + M, M of a replica's lanes."""
    slots, ring = self.lanes.cache.positions.shape[-1], self.lanes.said.shape[-1]
    return self.count, slots, ring

  @property
  def waits(self) -> bool:
    """Does any prompt wait for a lane?"""
    return any(queue.left for queue in self.queues)

  @property
  def holds(self) -> bool:
    """Does any prompt hold a lane?"""
    return any(queue.held for queue in self.queues)


class Batcher:
  """One base on its replicas.

  A stream of prompts goes through these steps, 2 to 6 until nothing waits or is held:

  1. open: lanes for the prompts that are there, as many as memory and they allow.
  2. refill: while fewer prompts wait than there are lanes, more are taken.
  3. prefill: free lanes are given to prompts, which are computed pack by pack.
  4. decode: all lanes, until enough of them have ended.
  5. harvest: what the ended ones said is taken, and they are free.
  6. shrink: once no more prompts come, the last ones move to fewer lanes.
  """

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
    fitting: Callable[[int], int] | None = None,
  ):
    """`rows`: most lanes; `fitting`: how many of so many slots there is memory for."""
    self._fitting = fitting or (lambda slots: rows)
    self._programs = Programs(config, replicas, sampling)
    self._config, self._replicas = config, replicas
    self._limits = Limits(rows, pack_tokens)
    # Length of prompts, lanes and largest pack of the latest stream.
    self._length, self._opened, self._packed = 0, 0, 0
    self._stops = replicas.share(np.asarray(stops, np.int32))
    self._statistics, self._leaps = statistics, leaps
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
    coming = _Feed(feed)
    while more := _unsaid(coming.taken, said) or coming.take(1):  # or memory ran out
      *long, short = schedule.by_length(more)
      try:
        for prompts in long:
          self._serve(weights, prompts, _Feed(()), limit, said)
        self._serve(weights, short, coming, limit, said)
      except jax.errors.JaxRuntimeError as error:
        self._halve(error)
    self._statistics.rows += len(coming.taken)
    return said

  def _halve(self, error: Exception) -> None:
    """Plans with half of what was open, or gives up where nothing is left to halve."""
    length = self._length
    if not is_out_of_memory(error) or not self._limits.halve(
      length, self._opened, self._packed
    ):
      raise error
    self._statistics.halved += 1
    logging.warning(
      "Out of device memory: from now on %d rows and packs of %d tokens for prompts of"
      " some %d tokens.",
      self._limits.rows(length),
      self._limits.pack(length),
      length,
    )

  def _serve(
    self,
    weights: adapter_forms.Weights,
    prompts: list[Prompt],
    feed: "_Feed",
    limit: int,
    said: dict[int, list[int]],
  ) -> None:
    """Serves prompts, and what the feed brings, in lanes of one make."""
    self._length = schedule.length_class(prompts)
    # The lanes stay as many as they are opened, so all of them need a prompt.
    rows = self._limits.rows(self._length)
    prompts = prompts + feed.take(rows * self._replicas.count - len(prompts))
    stream = self._open(weights, prompts, limit)
    while stream.waits or stream.holds:
      self._refill(stream, feed)
      self._prefill(stream)
      self._decode(stream, feed.ended)
      self._harvest(stream, said)
      if feed.ended:
        self._shrink(stream)

  # 1. Open.

  def _open(
    self, weights: adapter_forms.Weights, prompts: Sequence[Prompt], limit: int
  ) -> Stream:
    """Lanes for the prompts, all of them empty."""
    dealt = schedule.deal(prompts, self._replicas.count, weights.placed)
    queues = [Queue(mine) for mine in dealt]
    if self._leaps:  # leaps leave holes, see `speculate.decode`
      limit = 2 * limit + speculate.DRAFT + 1
    ring = _LEAST_RING if limit <= _LEAST_RING else -(-limit // 16) * 16
    slots = packing.size_of(max(len(p.tokens) for p in prompts), _LEAST_SLOTS)
    self._length = schedule.length_class(prompts)
    most = min(self._limits.rows(self._length), self._fitting(slots + ring))
    count = schedule.lanes_for(queues, most, self._sizes(weights))
    self._opened, self._packed = count, 0
    for queue in queues:
      queue.open(count, schedule.lane_block(count))
    return Stream(weights, queues, self._empty(weights, count, slots, ring))

  def _empty(
    self, weights: adapter_forms.Weights, count: int, slots: int, ring: int
  ) -> Lanes:
    """Lanes that hold nothing, on every replica."""
    params = weights.params
    make = lambda: lanes_lib.empty(
      self._config, count, slots, ring, params["embed"].dtype, is_unstacked(params)
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
    specs = self._programs.lane_specs(blank)
    return self._replicas.split([blank] * self._replicas.count, specs)

  # 2. Refill.

  def _refill(self, stream: Stream, feed: "_Feed") -> None:
    """Takes portions when fewer wait than there are lanes, until that many do."""
    queues, left = stream.queues, [queue.left for queue in stream.queues]
    if min(left) >= stream.count:
      return
    # One at least, but not all for a queue whose expert has no more prompts.
    portion = feed.take(max(1, stream.count * len(queues) - sum(left)))
    if not portion:
      return
    dealt = schedule.deal(portion, len(queues), stream.weights.placed)
    for queue, mine in zip(queues, dealt):
      queue.add(mine)
    count, slots, ring = stream.shape
    held = slots - ring
    wanted = packing.size_of(max(len(p.tokens) for p in portion), _LEAST_SLOTS)
    if wanted > held:
      self._length = max(self._length, schedule.length_class(portion))
      self._statistics.programs.add(("grow", count, held, wanted, ring))
      grow = self._programs.get("grow", stream.weights, stream.lanes, wanted)
      stream.lanes = grow(stream.lanes)

  # 3. Prefill.

  def _prefill(self, stream: Stream) -> None:
    """Seats what waits and computes its prompts, pack by pack."""
    began = time.perf_counter()
    seated = [queue.seat() for queue in stream.queues]
    prefix = packing.shared_prefix([p for seats in seated for _, p in seats])
    most = self._limits.pack(self._length)
    apart, coarse = stream.weights.apart, self._quick(stream.weights)
    packs = [packing.packs(seats, most, prefix, apart, coarse) for seats in seated]
    for turn in range(max(map(len, packs))):
      self._compute([p[turn] if turn < len(p) else None for p in packs], prefix, stream)
    jax.block_until_ready(stream.lanes.token)
    self._statistics.prefill_seconds += time.perf_counter() - began

  def _compute(self, each: Sequence, prefix: int, stream: Stream) -> None:
    """Computes one pack a replica, None where it has none, and admits its prompts."""
    # 1. The shape that holds the packs of all replicas.
    packs = [entry[0] for entry in each if entry]
    size = max(len(pack.tokens) for pack in packs)
    most = max(len(pack.begin) for pack in packs)
    self._packed = max(self._packed, size)
    reach = size  # on CPU every block finds its own, so that packs share a program
    if self._replicas.platform != "cpu":
      reach = packing.size_of(max(int(p.length.max()) for p in packs), SPAN_BLOCK)
    # 2. The packs as arrays, and whose tokens they are.
    rows = [packing.row(entry, size, most, stream.count) for entry in each]
    self._statistics.prefilled(rows, size)
    owners = [row.pop("owners") for row in rows]
    if stream.weights.apart and all(np.ptp(o) == 0 for o in owners):
      owners = [o[:1] for o in owners]  # one expert each: one large product
    # 3. In one piece, the program depends on the lanes that its prompts go to.
    key = ("prefill", size, most, reach, prefix, len(owners[0]) == 1)
    shape = () if self._replicas.one_by_one else stream.shape
    self._statistics.programs.add(key + shape)
    compute = self._programs.get("prefill", stream.weights, stream.lanes, reach, prefix)
    with self._compiling(f"a prefill of {size} tokens", (*key, *stream.shape)):
      stream.lanes = compute(
        stream.weights.params,
        stream.weights.adapters,
        self._ends(stream.weights),
        stream.lanes,
        self._replicas.split(_mixture(stream.weights, owners, TOKEN_BLOCK)),
        self._replicas.split(rows),
      )
    if not self._statistics.first_token:
      jax.block_until_ready(stream.lanes.token)
      self._statistics.first_token = time.time()

  # 4. Decode.

  def _decode(self, stream: Stream, ended: bool) -> None:
    """Decodes all lanes until so few are active that it pays to stop."""
    began = time.perf_counter()
    following = max(self._smaller(stream), default=0) if ended else 0
    fewest = schedule.fewest(stream.queues, stream.count, following, ended)
    owners = [queue.owners for queue in stream.queues]
    kind = self._kind(stream)
    decode = self._programs.get(kind, stream.weights, stream.lanes)
    before = self._replicas.fetch(stream.lanes.steps)
    told = f"decode for {stream.count} lanes"
    with self._compiling(told, (kind, *stream.shape)):
      stream.lanes = decode(
        stream.weights.params,
        stream.weights.adapters,
        self._ends(stream.weights),
        stream.lanes,
        self._replicas.split(_mixture(stream.weights, owners, stream.queues[0].block)),
        self._replicas.split([np.int32(f) for f in fewest]),
      )
    after = self._replicas.fetch(stream.lanes.steps)
    steps = [int(a - b) for a, b in zip(after, before)]
    self._statistics.decoded(steps, stream.count, time.perf_counter() - began)

  def _kind(self, stream: Stream) -> str:
    """How the stream is decoded: in one program, by leaps, or step by step."""
    few = stream.count <= _FEW and not stream.waits
    kind = "leap" if self._leaps and few else "decode"
    self._statistics.programs.add((kind, *stream.shape))
    deep = self._replicas.one_by_one and self._config.layers > programs.SHALLOW
    return "steps" if deep and kind == "decode" else kind

  # 5. Harvest.

  def _harvest(self, stream: Stream, said: dict[int, list[int]]) -> None:
    """Takes what the lanes that have ended said, and frees them."""
    lanes = stream.lanes
    active, tokens = (self._replicas.fetch(x) for x in (lanes.active, lanes.said))
    self._statistics.gathered_bytes += lanes.active.nbytes + lanes.said.nbytes
    for queue, going, words in zip(stream.queues, active, tokens):
      for lane in queue.held:
        if not going[lane]:
          row = words[lane]
          index = queue.holder[lane].index
          said[index] = row[row >= 0].tolist()
          self._statistics.new_tokens += len(said[index])
          queue.holder[lane] = None

  # 6. Shrink.

  def _shrink(self, stream: Stream) -> None:
    """Fewer lanes for the last replies, where they fit in."""
    if not stream.holds:
      return
    fitting = (
      n for n in self._smaller(stream) if all(queue.fits(n) for queue in stream.queues)
    )
    size = next(fitting, 0)
    if size:
      self._statistics.programs.add(("take", size, *stream.shape))
      take = self._programs.get("take", stream.weights, stream.lanes)
      moves = [queue.shrink(size) for queue in stream.queues]
      stream.lanes = take(stream.lanes, self._replicas.split(moves))

  def _compiling(self, what: str, shape: tuple):
    """Tells what the first call of a shape is about, which compiles its programs."""
    new = shape not in self._shapes
    self._shapes.add(shape)
    return waits.told(f"compiling {what}", new)

  def _ends(self, weights: adapter_forms.Weights) -> jax.Array:
    """What ends a reply: of whole experts their own, not the first one's."""
    return self._stops if weights.stops is None else weights.stops

  def _sizes(self, weights: adapter_forms.Weights) -> Sequence[int]:
    """Numbers of lanes that a replica may have."""
    if self._replicas.platform != "cpu":
      return schedule.LANES
    return schedule.FEW_LANES if self._quick(weights) else schedule.FINE_LANES

  def _quick(self, weights: adapter_forms.Weights) -> bool:
    """Does a program take longer to compile than to run?"""
    large = adapter_forms.large(self._programs.own(weights))
    return self._replicas.platform == "cpu" and not large

  def _smaller(self, stream: Stream) -> list[int]:
    """Fewer lanes that may do once nothing waits, the fewest first."""
    if stream.waits:
      return []
    return [n for n in self._sizes(stream.weights) if n < stream.count]


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


def _mixture(
  weights: adapter_forms.Weights, owners: Sequence[np.ndarray], block: int
) -> list[np.ndarray]:
  """What tells a replica's rows their experts: owners of blocks, or mix a row."""
  if weights.mix is None:
    return [np.asarray(o, np.int32) for o in owners]
  return [np.repeat(weights.mix[o], block, axis=0) for o in owners]


def _unsaid(prompts: Sequence[Prompt], said: dict[int, list[int]]) -> list[Prompt]:
  return [p for p in prompts if p.index not in said]
