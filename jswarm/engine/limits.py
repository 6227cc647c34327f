"""What memory was found to hold: rows and packs, by the length of the prompts.

Nothing says beforehand what a program needs, so it is found by running out. A size that
did not fit is never tried again: not a larger one, and not with longer prompts.
"""

import jax

from jswarm.model.attention import SPAN_BLOCK


class Limits:
  """Most rows and most tokens of a pack that are planned with, for each length.

  Args:
    rows: B, with which one begins. pack: T, likewise.
  """

  def __init__(self, rows: int, pack: int):
    self._first = rows, pack
    self._found: dict[int, tuple[int, int]] = {}  # by length

  def rows(self, length: int) -> int:
    """B for prompts of this length."""
    return min(rows for rows, _ in self._known(length))

  def pack(self, length: int) -> int:
    """T for prompts of this length."""
    return min(pack for _, pack in self._known(length))

  def halve(self, length: int, rows: int, pack: int) -> bool:
    """Takes note that so many rows and packs of so many tokens did not fit.

    `pack` is 0 where no pack was made yet. False: there is nothing left to halve.
    """
    now = self.rows(length), self.pack(length)
    half = max(SPAN_BLOCK, pack // 2) if pack else now[1]
    if rows <= 1 and half >= min(now[1], pack):
      return False
    self._found[length] = min(now[0], max(1, rows // 2)), min(now[1], half)
    return True

  def _known(self, length):
    # What was too much for shorter prompts is too much for these.
    return [self._first, *(f for n, f in self._found.items() if n <= length)]


def is_out_of_memory(error: BaseException) -> bool:
  """Did the device have no room for what it was to compute?"""
  return isinstance(error, jax.errors.JaxRuntimeError) and (
    "RESOURCE_EXHAUSTED" in str(error)
  )
