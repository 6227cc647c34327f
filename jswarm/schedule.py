"""What goes where: prompts -> packs of tokens, and lanes of a batch. Host only.

A pack is several prompts end to end, so that nothing is padded to the longest; sizes
come from a short list, so that a search compiles few programs. All of it is a function
of the requests: the same requests are served in the same batches.
"""

from collections import Counter
from collections.abc import Sequence
import itertools
from typing import NamedTuple

import numpy as np

from jswarm.attention import SPAN_BLOCK, TOKEN_BLOCK

ROW = 16  # tokens of a pack for each of its R rows, at least
_LONG = 512  # prompts beyond have lanes of their own, for 2, 4 ... times as many tokens
_PREFIXES = (16, 32, 64, 128, 256, 512)
APART = 384  # tokens of an expert that fill packs of its own
REFILL = 4  # a quarter of the lanes is free: time for the next prompts
LANES = (1, 8, 32, 64, 128, 256, 512)
# A step of a large base on CPU takes time by its lanes: here more programs pay.
FINE_LANES = (1, 8, 16, 24, 32, 64, 128, 256, 512)
_WIDER = 1.5  # times the lanes, rather than prompts that wait for a block of their own


class Prompt(NamedTuple):
  """One request as the device sees it; `owner` is the expert's row in its group."""

  index: int
  owner: int
  tokens: Sequence[int]
  limit: int
  seed: int


class Pack(NamedTuple):
  """Prompts end to end in R rows (`rows_of`); unused ones have the length 0.

  With a prefix of P tokens, it lies once before the prompts of each expert, and of the
  prompts only what follows it.
  """

  tokens: np.ndarray  # int32 [T]
  positions: np.ndarray  # int32 [T], -1 is padding
  owners: np.ndarray  # int32 [T // 32], expert of each block of tokens
  roots: np.ndarray  # int32 [T // 32], where its expert's prefix begins
  begin: np.ndarray  # int32 [R], of what follows the prefix
  length: np.ndarray  # int32 [R], prefix included
  root: np.ndarray  # int32 [R], where the prefix of the row begins
  members: list[int]  # which prompts, as given; row r is members[r]


def size_of(count: int, least: int) -> int:
  """The smallest of least * {1, 2, 3, 4, 6, 8, 12 ...} that holds `count`."""
  size = least
  while size < count:
    size = size * 3 // 2 if size * 3 // 2 >= count and size >= 2 * least else size * 2
  return size


def pack_size(count: int) -> int:
  """The smallest of 128 * {1, 2 ... 8, 10, 12, 14, 16, 20 ...} that holds `count`.

  Finer than `size_of`, for packs that one expert cannot fill: more programs, less padding.
  """
  step = SPAN_BLOCK
  while count > 8 * step:
    step *= 2
  return max(1, -(-count // step)) * step


def doubled(count: int, least: int) -> int:
  """The smallest of least * {1, 2, 4, 8 ...} that holds `count`."""
  while least < count:
    least *= 2
  return least


def lane_block(lanes: int) -> int:
  """Lanes that share an expert where rows lie in blocks: fewer, larger products."""
  most = 1 if lanes <= 16 else max(2, lanes // 32)
  return next(n for n in range(most, 0, -1) if lanes % n == 0)


def shared_prefix(prompts: Sequence[Prompt]) -> int:
  """P, first tokens that all prompts have in common, from a short list; 0: too few.

  What each expert makes of them is computed once a pack instead of once a prompt.
  """
  owners = len({p.owner for p in prompts})
  if len(prompts) < 2 * owners + 1:
    return 0
  low, high = (pick(p.tokens for p in prompts) for pick in (min, max))
  most = min(min(len(p.tokens) for p in prompts) - 1, len(low), len(high))
  same = next((i for i in range(most) if low[i] != high[i]), most)
  return max((p for p in _PREFIXES if p <= same), default=0)


def divide(prompts: Sequence[Prompt], most: int, prefix: int = 0) -> list[list[int]]:
  """Prompts for each of several packs of at most `most` tokens, blocks included.

  Prompts of like length stay together, since attention reaches as far back as the
  longest of a pack needs, and among them experts, since each begins a block of its own;
  gaps are filled by the first prompt that fits. A prompt longer than `most` has a pack
  of its own.
  """
  order = sorted(range(len(prompts)), key=lambda i: (
    -size_of(len(prompts[i].tokens), SPAN_BLOCK), prompts[i].owner,
    -len(prompts[i].tokens), i))
  packs = []
  while order:
    chosen, used, owners = [], 0, set()
    for i in order:
      need = len(prompts[i].tokens) - prefix
      need += 0 if prompts[i].owner in owners else TOKEN_BLOCK - 1 + prefix
      if chosen and used + need > most:
        continue
      chosen.append(i)
      owners.add(prompts[i].owner)
      used += need
      if len(chosen) >= most // ROW:
        break
    packs.append(chosen)
    taken = set(chosen)
    order = [i for i in order if i not in taken]
  return packs


def lay(prompts: Sequence[Prompt], members: Sequence[int], prefix: int = 0,
        fine: bool = False) -> Pack:
  """The members end to end, in the smallest pack that holds them, of `fine` sizes."""
  members = sorted(members, key=lambda i: (prompts[i].owner, i))
  runs, cursor = [], 0  # (owner, where its prefix begins, [(row, where it begins)])
  for row, i in enumerate(members):
    if not runs or prompts[i].owner != runs[-1][0]:
      cursor = -(-cursor // TOKEN_BLOCK) * TOKEN_BLOCK
      runs.append((prompts[i].owner, cursor, []))
      cursor += prefix
    runs[-1][2].append((row, cursor))
    cursor += len(prompts[i].tokens) - prefix
  least = max(cursor, ROW * len(members))
  size = pack_size(least) if fine else size_of(least, SPAN_BLOCK)
  pack = blank_pack(size, rows_of(size, len(members)))
  for owner, root, rows in runs:
    blocks = slice(root // TOKEN_BLOCK, None)  # the next run takes its own over
    pack.owners[blocks], pack.roots[blocks] = owner, root
    _write(pack, root, prompts[members[rows[0][0]]].tokens[:prefix], 0)
    for row, begin in rows:
      ids = prompts[members[row]].tokens
      _write(pack, begin, ids[prefix:], prefix)
      pack.begin[row], pack.length[row], pack.root[row] = begin, len(ids), root
  return pack._replace(members=list(members))


def _write(pack, begin, ids, position):
  where = slice(begin, begin + len(ids))
  pack.tokens[where] = ids
  pack.positions[where] = position + np.arange(len(ids))


def rows_of(size: int, count: int) -> int:
  """R for `count` prompts: an empty row costs as much cache traffic as a full one."""
  few = size // (8 * ROW)
  return few if count <= few else size // ROW


def blank_pack(size: int, rows: int) -> Pack:
  """A pack of padding alone."""
  zeros = lambda n: np.zeros(n, np.int32)
  blocks = size // TOKEN_BLOCK
  return Pack(zeros(size), np.full(size, -1, np.int32), zeros(blocks), zeros(blocks),
              zeros(rows), zeros(rows), zeros(rows), [])


def by_length(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
  """Prompts that share lanes, longest first: a lane has slots for the longest of them."""
  classes: dict[int, list[Prompt]] = {}
  for prompt in prompts:
    classes.setdefault(doubled(len(prompt.tokens), _LONG), []).append(prompt)
  return [classes[size] for size in sorted(classes, reverse=True)]


class Desk:
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
    for queue in self.waiting.values():
      queue.sort(key=lambda p: (-len(p.tokens), p.index))

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
        # The longest queue first, so that all queues end together.
        self.owners[block] = max(self.waiting, key=lambda o: (len(self.waiting[o]), -o))
      queue = self.waiting.get(int(self.owners[block]), [])
      for lane in free:
        if queue:
          self.holder[lane] = queue.pop(0)
          seated.append((lane, self.holder[lane]))
    self.waiting = {o: q for o, q in self.waiting.items() if q}
    return seated

  def fits(self, lanes: int) -> bool:
    """Do so many lanes hold all that is held and waits, in blocks of one expert?"""
    block = lane_block(lanes)
    rows = Counter({owner: len(queue) for owner, queue in self.waiting.items()})
    rows.update(self.holder[lane].owner for lane in self.held)
    return sum(-(-n // block) for n in rows.values()) <= lanes // block

  def shrink(self, lanes: int) -> np.ndarray:
    """Moves what is held to fewer lanes, which `fits`: the old lane of each."""
    block = lane_block(lanes)
    by_owner: dict[int, list[int]] = {}
    for lane in self.held:
      by_owner.setdefault(self.holder[lane].owner, []).append(lane)
    parts = [(o, old[i:i + block]) for o, old in sorted(by_owner.items())
             for i in range(0, len(old), block)]
    index = np.full(lanes, len(self.holder), np.int32)
    holder = [None] * lanes
    self.owners = np.zeros(lanes // block, np.int32)
    for b, (owner, old) in enumerate(parts):
      self.owners[b] = owner
      for i, lane in enumerate(old):
        index[b * block + i], holder[b * block + i] = lane, self.holder[lane]
    self.holder, self.block = holder, block
    return index


def lanes_for(desks: Sequence[Desk], most: int, sizes: Sequence[int] = LANES) -> int:
  """How many lanes desks with these queues get, `most` at most."""
  allowed = [n for n in sizes if n < most] + [most]
  prompts = max(desk.left for desk in desks)
  enough = next((n for n in allowed if n >= prompts), allowed[-1])
  wider = (n for n in allowed if enough <= n <= _WIDER * enough)
  return next((n for n in wider if all(desk.fits(n) for desk in desks)), enough)


def deal(prompts, count, owners=()):
  """Prompts for each desk: equally many, of few experts; where desks have owners, each
  to a desk of its expert."""
  order = sorted(prompts, key=lambda p: (p.owner, -len(p.tokens), p.index))
  if not owners:
    cuts = [d * len(order) // count for d in range(count + 1)]
    return [order[a:b] for a, b in zip(cuts, cuts[1:])]
  dealt = [[] for _ in range(count)]
  turns = {o: itertools.cycle([d for d in range(count) if owners[d] == o])
           for o in set(owners)}
  for prompt in order:
    dealt[next(turns[prompt.owner])].append(prompt)
  return dealt


def packs(seats, most, prefix, apart=False):
  """[(pack, its (lane, prompt) pairs)] of one desk.

  `apart`: an expert with enough tokens has packs of its own, of finer sizes.
  """
  tokens: Counter[int] = Counter()
  for _, prompt in seats:
    tokens[prompt.owner] += len(prompt.tokens) - prefix
  alone = sorted(o for o in tokens if apart and tokens[o] >= APART)
  parts = [[seat for seat in seats if seat[1].owner == o] for o in alone]
  parts.append([seat for seat in seats if seat[1].owner not in alone])
  packs = []
  for part in parts:
    prompts = [prompt for _, prompt in part]
    for members in divide(prompts, most, prefix):
      pack = lay(prompts, members, prefix, apart)
      packs.append((pack, [part[i] for i in pack.members]))
  return packs


def row(entry, size, rows, lanes):
  """The arrays of one desk's pack, widened to `size` tokens and R = `rows`; padding
  goes nowhere."""
  blank = blank_pack(size, rows)
  pack, seats = entry if entry else (blank, [])
  blocks = len(blank.owners)
  widen = lambda x, fill, n: np.concatenate([x, np.full(n - len(x), fill, x.dtype)])
  column = lambda values, fill, dtype: np.array(
    list(values) + [fill] * (rows - len(seats)), dtype)
  return dict(
    tokens=widen(pack.tokens, 0, size), positions=widen(pack.positions, -1, size),
    owners=widen(pack.owners, 0, blocks), roots=widen(pack.roots, 0, blocks),
    begin=widen(pack.begin, 0, rows), length=widen(pack.length, 0, rows),
    root=widen(pack.root, 0, rows),
    lane=column([lane for lane, _ in seats], lanes, np.int32),
    limit=column([p.limit for _, p in seats], 0, np.int32),
    seed=column([p.seed for _, p in seats], 0, np.uint32))


def fewest(desks, lanes, next_size, ended):
  """Decode until fewer lanes than this are active, desk by desk.

  Desks wait for each other: where one comes back early, none runs to its last token.

  Args:
    next_size: fewer lanes that may do, 0: none. ended: no more prompts will come.
  """
  each = [_fewest(desk, lanes, next_size, ended) for desk in desks]
  if max(each) <= 1:
    return each
  return [n if n > 1 else max(1, len(desk.held)) for n, desk in zip(each, desks)]


def _fewest(desk, lanes, next_size, ended):
  if desk.left or not ended:  # one reply ends, or nothing would ever be refilled
    return min(len(desk.held), lanes - lanes // REFILL + 1)
  if len(desk.held) > next_size > 0:
    return next_size + 1
  # So few as fit, but in too many blocks: after the next reply perhaps not.
  return max(1, len(desk.held)) if next_size and not desk.fits(next_size) else 1
