"""Prompts -> packs of tokens: what goes into one prefill. Host only.

A pack is several prompts end to end, so that nothing is padded to the longest; sizes
come from short lists, so that a search compiles few programs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jswarm.model.attention import SPAN_BLOCK, TOKEN_BLOCK

ROW = 16  # tokens of a pack for each of its R rows, at least
_PREFIXES = (16, 32, 64, 128, 256, 512)
APART = 256  # tokens of an expert that may have packs of its own
_FULL = 0.9  # of its slots a pack of one expert has to fill


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
  prompts only what follows it. Three prompts a, b of expert 0 and c of expert 1, drawn
  with P = 2, blocks of 4 tokens and R = 4:

      tokens     p p a a | a b b - | q q c c | - - - -     q: what expert 1 makes of p
      positions  0 1 2 3 | 4 2 3 . | 0 1 2 3 | . . . .
      owners     0       | 0       | 1       | 1           an expert begins a block
      roots      0       | 0       | 8       | 8

      row        a  b  c  -
      begin      2  5 10  0
      length     5  4  4  0
      root       0  0  8  0
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

  Finer than `size_of`, for packs that one expert cannot fill: more programs, less
  padding.
  """
  step = SPAN_BLOCK
  while count > 8 * step:
    step *= 2
  return max(1, -(-count // step)) * step


def coarse_size(count: int) -> int:
  """The smallest of 128 * {1, 2, 4, 8 ...} that holds `count`.

  For a base that computes a pack in less time than its program takes to compile.
  """
  return SPAN_BLOCK << max(0, -(-count // SPAN_BLOCK) - 1).bit_length()


def middle_size(count: int) -> int:
  """The smallest of 128 * {1, 2, 3, 4, 6, 8, 12 ...} that holds `count`."""
  return size_of(count, SPAN_BLOCK)


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
  of its own. Drawn with a block of 4, `most` 24, no prefix, and d of shorter kind:

      in order   aaaaaaaaaa (expert 0)  bbbbbb (0)  cccccc (1)  ddd (0)
      a          needs 10 + 3, the most that its expert's last block leaves empty
      b          needs 6, its expert is there: 19
      c          needs 6 + 3: does not fit
      d          needs 3: 22, the gap's

      [a b d]    aaaa | aaaa | aabb | bbbb | ddd-
      [c]        cccc | cc--
  """
  left = sorted(range(len(prompts)), key=lambda i: (*_kinship(prompts[i]), i))
  packs = []
  while left:
    chosen = _first_that_fit(prompts, left, most, prefix)
    packs.append(chosen)
    taken = set(chosen)
    left = [i for i in left if i not in taken]
  return packs


def _kinship(prompt: Prompt) -> tuple[int, int, int]:
  """Sorts prompts by like length, the longest first, among them by expert."""
  length = len(prompt.tokens)
  return -size_of(length, SPAN_BLOCK), prompt.owner, -length


def _first_that_fit(
  prompts: Sequence[Prompt], order: Sequence[int], most: int, prefix: int
) -> list[int]:
  """Of `order`, what goes into one pack; its first in any case."""
  chosen, used, owners = [], 0, set()
  for i in order:
    need = len(prompts[i].tokens) - prefix
    if prompts[i].owner not in owners:  # its prefix, and what a last block leaves empty
      need += TOKEN_BLOCK - 1 + prefix
    if chosen and used + need > most:
      continue
    chosen.append(i)
    owners.add(prompts[i].owner)
    used += need
    if len(chosen) >= most // ROW:
      break
  return chosen


def lay(
  prompts: Sequence[Prompt],
  members: Sequence[int],
  prefix: int = 0,
  sized: Callable[[int], int] = middle_size,
) -> Pack:
  """The members end to end, in the smallest pack that holds them.

  `sized`: the tokens of a pack for so many slots.
  """
  members = sorted(members, key=lambda i: (prompts[i].owner, i))
  runs, cursor = [], 0  # (owner, where its prefix begins, [(row, where it begins)])
  for row, i in enumerate(members):
    if not runs or prompts[i].owner != runs[-1][0]:
      cursor = -(-cursor // TOKEN_BLOCK) * TOKEN_BLOCK
      runs.append((prompts[i].owner, cursor, []))
      cursor += prefix
    runs[-1][2].append((row, cursor))
    cursor += len(prompts[i].tokens) - prefix
  size = sized(max(cursor, ROW * len(members)))
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
  return Pack(
    zeros(size),
    np.full(size, -1, np.int32),
    zeros(blocks),
    zeros(blocks),
    zeros(rows),
    zeros(rows),
    zeros(rows),
    [],
  )


def packs(seats, most, prefix, apart=False, coarse=False):
  """[(pack, its (lane, prompt) pairs)] of one replica.

  `apart`: prompts of one expert that fill a pack have it for themselves, and packs have
  finer sizes. `coarse`: they have coarser ones.
  """
  sized = coarse_size if coarse else middle_size
  if apart:
    sized = pack_size
  parts, rest = [], list(seats)
  for owner in sorted({p.owner for _, p in seats}) if apart else ():
    part = _filling([seat for seat in seats if seat[1].owner == owner], most, prefix)
    parts.append(part)
    rest = [seat for seat in rest if seat not in part]
  packs = []
  for part in (*parts, rest):
    prompts = [prompt for _, prompt in part]
    for members in divide(prompts, most, prefix):
      pack = lay(prompts, members, prefix, sized)
      packs.append((pack, [part[i] for i in pack.members]))
  return packs


def _filling(seats, most, prefix):
  """The most of one expert's seats that fill packs of their own, the longest first."""
  seats = sorted(seats, key=lambda seat: (-len(seat[1].tokens), seat[1].index))
  tokens = [
    prefix + sum(len(p.tokens) - prefix for _, p in seats[:n])
    for n in range(1, len(seats) + 1)
  ]
  good = [
    n
    for n, used in enumerate(tokens, 1)
    if used >= APART and (used > most or used >= _FULL * pack_size(used))
  ]
  return seats[: max(good, default=0)]


def row(entry, size, rows, lanes):
  """The arrays of one replica's pack, widened to `size` tokens and R = `rows`; padding
  goes nowhere."""
  blank = blank_pack(size, rows)
  pack, seats = entry if entry else (blank, [])
  blocks = len(blank.owners)
  widen = lambda x, fill, n: np.concatenate([x, np.full(n - len(x), fill, x.dtype)])
  column = lambda values, fill, dtype: np.array(
    list(values) + [fill] * (rows - len(seats)), dtype
  )
  return dict(
    tokens=widen(pack.tokens, 0, size),
    positions=widen(pack.positions, -1, size),
    owners=widen(pack.owners, 0, blocks),
    roots=widen(pack.roots, 0, blocks),
    begin=widen(pack.begin, 0, rows),
    length=widen(pack.length, 0, rows),
    root=widen(pack.root, 0, rows),
    lane=column([lane for lane, _ in seats], lanes, np.int32),
    limit=column([p.limit for _, p in seats], 0, np.int32),
    seed=column([p.seed for _, p in seats], 0, np.uint32),
  )
