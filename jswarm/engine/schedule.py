"""Which prompt has which lane of which device, and when the next ones come. Host only.

All of it is a function of the requests: the same requests are served in the same
batches. What is computed for a prompt that has a lane is in `packing`.
"""

from collections import Counter
from collections.abc import Sequence
import itertools

import numpy as np

from jswarm.engine.packing import Prompt

_LONG = 512  # prompts beyond have lanes of their own, for 2, 4 ... times as many tokens
REFILL = 4  # a quarter of the lanes is free: time for the next prompts
LANES = (1, 8, 32, 64, 128, 256, 512)
# Of a small base on CPU a program takes longer to compile than it saves.
FEW_LANES = (8, 64, 512)
# A step of a large base on CPU takes time by its lanes: here more programs pay.
FINE_LANES = (1, 8, 16, 24, 32, 64, 128, 256, 512)
_WIDER = 1.5  # times the lanes, rather than prompts that wait for a block of their own


def doubled(count: int, least: int) -> int:
  """The smallest of least * {1, 2, 4, 8 ...} that holds `count`."""
  while least < count:
    least *= 2
  return least


def lane_block(lanes: int) -> int:
  """Lanes that share an expert where rows lie in blocks: fewer, larger products."""
  most = 1 if lanes <= 16 else max(2, lanes // 32)
  return next(n for n in range(most, 0, -1) if lanes % n == 0)


def length_class(prompts: Sequence[Prompt]) -> int:
  """The length, from a short list, that holds the longest of the prompts."""
  return doubled(max(len(p.tokens) for p in prompts), _LONG)


def by_length(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
  """Prompts that share lanes, longest first: a lane has slots for the longest."""
  classes: dict[int, list[Prompt]] = {}
  for prompt in prompts:
    classes.setdefault(doubled(len(prompt.tokens), _LONG), []).append(prompt)
  return [classes[size] for size in sorted(classes, reverse=True)]


class Queue:
  """The lanes of one device and the prompts that wait for them.

  Attributes:
    waiting: prompts by expert, longest first.
    holder: the prompt in each lane, None where it is free.
    owners: int32 [B / block], the expert of each block of lanes.
  """

  def __init__(self, prompts: Sequence[Prompt]):
    self.waiting: dict[int, list[Prompt]] = {}
    self.add(prompts)
    self.holder: list[Prompt | None] = []
    self.owners = np.zeros(0, np.int32)

  def add(self, prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
      self.waiting.setdefault(prompt.owner, []).append(prompt)
    for line in self.waiting.values():
      line.sort(key=lambda p: (-len(p.tokens), p.index))

  def open(self, lanes: int, block: int) -> None:
    self.holder, self.block = [None] * lanes, block
    self.owners = np.zeros(lanes // block, np.int32)

  @property
  def left(self) -> int:
    """Prompts that wait."""
    return sum(map(len, self.waiting.values()))

  @property
  def held(self) -> list[int]:
    """Lanes that are taken."""
    return [i for i, prompt in enumerate(self.holder) if prompt is not None]

  def seat(self) -> list[tuple[int, Prompt]]:
    """Gives free lanes to waiting prompts: (lane, prompt), which it takes off."""
    seated = []
    for block in range(len(self.owners)):
      lanes = range(block * self.block, (block + 1) * self.block)
      free = [i for i in lanes if self.holder[i] is None]
      if len(free) == self.block and self.left:
        # The longest line first, so that all queues end together.
        self.owners[block] = max(self.waiting, key=lambda o: (len(self.waiting[o]), -o))
      line = self.waiting.get(int(self.owners[block]), [])
      for lane in free:
        if line:
          self.holder[lane] = line.pop(0)
          seated.append((lane, self.holder[lane]))
    self.waiting = {o: q for o, q in self.waiting.items() if q}
    return seated

  def fits(self, lanes: int) -> bool:
    """Do so many lanes hold all that is held and waits, in blocks of one expert?"""
    block = lane_block(lanes)
    rows = Counter({owner: len(line) for owner, line in self.waiting.items()})
    rows.update(self.holder[lane].owner for lane in self.held)
    return sum(-(-n // block) for n in rows.values()) <= lanes // block

  def shrink(self, lanes: int) -> np.ndarray:
    """Moves what is held to fewer lanes, which `fits`: the old lane of each."""
    block = lane_block(lanes)
    by_owner: dict[int, list[int]] = {}
    for lane in self.held:
      by_owner.setdefault(self.holder[lane].owner, []).append(lane)
    parts = [
      (o, old[i : i + block])
      for o, old in sorted(by_owner.items())
      for i in range(0, len(old), block)
    ]
    index = np.full(lanes, len(self.holder), np.int32)
    holder = [None] * lanes
    self.owners = np.zeros(lanes // block, np.int32)
    for b, (owner, old) in enumerate(parts):
      self.owners[b] = owner
      for i, lane in enumerate(old):
        index[b * block + i], holder[b * block + i] = lane, self.holder[lane]
    self.holder, self.block = holder, block
    return index


def lanes_for(queues: Sequence[Queue], most: int, sizes: Sequence[int] = LANES) -> int:
  """How many lanes each of these queues gets, `most` at most."""
  allowed = [n for n in sizes if n < most] + [most]
  prompts = max(queue.left for queue in queues)
  enough = next((n for n in allowed if n >= prompts), allowed[-1])
  wider = (n for n in allowed if enough <= n <= _WIDER * enough)
  return next((n for n in wider if all(queue.fits(n) for queue in queues)), enough)


def deal(prompts, count, owners=()):
  """Prompts for each queue: equally many, of few experts; where replicas have owners,
  each to the queue of one that has its expert."""
  order = sorted(prompts, key=lambda p: (p.owner, -len(p.tokens), p.index))
  if not owners:
    cuts = [d * len(order) // count for d in range(count + 1)]
    return [order[a:b] for a, b in zip(cuts, cuts[1:])]
  dealt = [[] for _ in range(count)]
  turns = {
    o: itertools.cycle([d for d in range(count) if owners[d] == o]) for o in set(owners)
  }
  for prompt in order:
    dealt[next(turns[prompt.owner])].append(prompt)
  return dealt


def fewest(
  queues: Sequence[Queue], lanes: int, next_size: int, ended: bool
) -> list[int]:
  """Decode until fewer lanes than this are active, queue by queue.

  Queues wait for each other: where one comes back early, none runs to its last token.

  Args:
    lanes: of each queue. next_size: fewer lanes that may do, 0: none.
    ended: no more prompts will come.

  Returns:
    For each queue at least 1, which is: until all of its replies have ended.
  """
  each = [_fewest(queue, lanes, next_size, ended) for queue in queues]
  if max(each) <= 1:
    return each
  # Those that could run to their end come back with the others, a reply later at most.
  return [n if n > 1 else _next_reply(queue) for n, queue in zip(each, queues)]


def _fewest(queue: Queue, lanes: int, next_size: int, ended: bool) -> int:
  """`fewest` of one queue that waits for no other."""
  # 1. Prompts wait, or may come: until a quarter of the lanes is free for them. Where
  #    fewer than that are held, until one reply ends, or they would never be refilled.
  if queue.left or not ended:
    return min(len(queue.held), lanes - lanes // REFILL + 1)
  # 2. The last replies, too many for fewer lanes: until they are that many.
  if len(queue.held) > next_size > 0:
    return next_size + 1
  # 3. So few as fit, but in too many blocks: after the next reply perhaps not.
  if next_size and not queue.fits(next_size):
    return _next_reply(queue)
  # 4. Nothing to wait for: to the last token.
  return 1


def _next_reply(queue: Queue) -> int:
  """`fewest` that stops when the next reply ends."""
  return max(1, len(queue.held))
