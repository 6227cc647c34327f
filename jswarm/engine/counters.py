"""What serving did, in numbers: for benchmarks and for the log."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np


@dataclasses.dataclass
class Statistics:
  """What serving did: tokens, slots that held them, seconds, programs.

  Attributes:
    rows: prompts answered; stored: answered from disk.
    prefill_tokens: computed, without padding; prefill_slots: with it.
    shared_tokens: of prompts, taken from a prefix that was computed once.
    new_tokens: kept; decode_slots: lanes x steps computed. decode_steps: of a replica.
    prefill_seconds, decode_seconds, text_seconds: device twice, tokenizers.
    programs: shapes of prefill, decode, leap, take and grow that were compiled.
    halved: times that memory ran out.
    gathered_bytes: fetched from the devices: tokens and flags.
    first_token: `time.time` when the first pack had its first tokens; 0: not yet.
  """

  rows: int = 0
  stored: int = 0
  prefill_tokens: int = 0
  prefill_slots: int = 0
  shared_tokens: int = 0
  new_tokens: int = 0
  decode_slots: int = 0
  decode_steps: int = 0
  prefill_seconds: float = 0.0
  decode_seconds: float = 0.0
  text_seconds: float = 0.0
  halved: int = 0
  gathered_bytes: int = 0
  first_token: float = 0.0
  programs: set = dataclasses.field(default_factory=set)

  def prefilled(self, rows: Sequence[Mapping[str, np.ndarray]], size: int) -> None:
    """Counts packs of `size` slots; `rows` as `packing.row` makes them."""
    for row in rows:
      computed = int((row["positions"] >= 0).sum())
      self.prefill_tokens += computed
      self.prefill_slots += size
      self.shared_tokens += int(row["length"].sum()) - computed

  def decoded(self, steps: Sequence[int], lanes: int, seconds: float) -> None:
    """Counts steps of each replica with so many lanes; the longest decides."""
    self.decode_steps += max(steps)
    self.decode_slots += sum(steps) * lanes
    self.decode_seconds += seconds

  def reset(self) -> None:
    """Counts from zero again."""
    fresh = Statistics()
    for field in dataclasses.fields(fresh):
      setattr(self, field.name, getattr(fresh, field.name))

  def __add__(self, other: "Statistics") -> "Statistics":
    """The work of both; the first token is the earlier of the two."""
    both = Statistics()
    for field in dataclasses.fields(both):
      a, b = getattr(self, field.name), getattr(other, field.name)
      setattr(both, field.name, a | b if field.name == "programs" else a + b)
    firsts = [s.first_token for s in (self, other) if s.first_token]
    both.first_token = min(firsts, default=0.0)
    return both

  def summary(self) -> dict[str, float]:
    """JSON-able, with the share of prefill that was padding."""
    fields = {k: v for k, v in dataclasses.asdict(self).items() if k != "programs"}
    waste = 1 - self.prefill_tokens / self.prefill_slots if self.prefill_slots else 0.0
    return {**fields, "programs": len(self.programs), "prefill_padding": waste}
