"""How a pool is served."""

import dataclasses

from jswarm.engine.adapter_forms import FORMS
from jswarm.model.attention import SPAN_BLOCK
from jswarm.model.sampling import Sampling

SPACES = ("factors", "dense", "auto")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How a pool is served.

  Attributes:
    rows: B, most lanes of a device; 0: what its memory holds.
    pack_tokens: T, most tokens of a prefill.
    form: how adapters meet the base: one of `adapter_forms.FORMS`.
    speculate: draft the last replies of a wave from their prompts (greedy only).
    int8: kernels of the base in 8 bits; its logit error is logged.
    memo: file of replies that outlive a search (`store`); empty: none.
    devices: of this process; 0: all. tensor: how many of them hold one base together.
    max_prompt_tokens: longest prompt, chat template included; 0: what the model's
      context leaves.
    space: how adapters move: "factors" (A and B, as published) or "dense" (their
      products; exact, as coefficients over the initial experts); "auto": dense where
      the experts' A factors are unlike each other.
    sampling: how tokens are drawn; seed: of the draws.
  """

  rows: int
  pack_tokens: int
  form: str
  speculate: bool
  int8: bool
  memo: str
  devices: int
  tensor: int
  max_prompt_tokens: int
  space: str
  sampling: Sampling
  seed: int

  def __post_init__(self):
    if self.space not in SPACES:
      raise ValueError(f"pool.space={self.space!r}: allowed are {', '.join(SPACES)}.")
    if self.form not in FORMS:
      raise ValueError(f"engine.form={self.form!r}: allowed are {', '.join(FORMS)}.")
    if self.speculate and self.sampling.temperature:
      raise ValueError(
        "engine.speculate needs greedy decoding: set"
        " generation.temperature=0, or leave it off."
      )
    if self.int8 and self.form == "merged":
      raise ValueError(
        "engine.form='merged' adds adapters to the kernels, which"
        " engine.int8 rounds: use another form."
      )
    for field, least in (
      ("rows", 0),
      ("devices", 0),
      ("tensor", 1),
      ("pack_tokens", SPAN_BLOCK),
    ):
      if getattr(self, field) < least:
        raise ValueError(f"engine.{field}={getattr(self, field)}: at least {least}.")
