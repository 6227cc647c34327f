"""How adapters meet the base: grouped, masked or merged, by a small cost rule.

  grouped  rows lie in blocks of one expert, a small product a block. The work does not
           grow with the pool, but each block reads its own factors: the form for CPU.
  masked   all factors side by side, each row masked to its own: large products without
           a gather, E times the low-rank work: the form for accelerators and pools of
           up to 16 experts, and for rows that mix experts (dense space), where grouped
           needs an adapter of E times the rank for every expert.
  merged   the base with one adapter added in: no extra work a token, one expert at a
           time. It pays where an expert owns enough rows to fill the lanes alone;
           sooner where low-rank products cost much.

`experiments.benchmark --suite=experts` measures them; of the row counts below that of
costly adapters is measured, the others count operations.
"""

from collections import Counter
from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from jswarm.core.types import PyTree

FORMS = ("auto", "grouped", "masked", "merged")
MASKED_EXPERTS = 16  # above, masking wastes more than a gather costs
_LARGE = 0.03  # numbers of an adapter, of those of the base
_QUICK = 10_000_000  # numbers of a base that runs in less time than a program compiles
MERGED_ROWS = {"cpu": 256, "gpu": 128, "tpu": 128}  # of one expert in one call
MERGED_COSTLY = 32  # the same where adapters are `costly`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
  """What one stream of rows runs on, placed on the replicas.

  Attributes:
    params: of the base, or merged, or of whole experts (then one a replica).
    adapters: `lora.Packed`, `lora.Grouped` or None.
    mix: float32 [E, E'], rows' mixtures by owner, for packed adapters.
    placed: the expert that each replica serves, where they have params of their own.
    apart: an expert whose prompts fill packs has them for itself (`costly` adapters).
    stops: int32 [S], what ends a reply of whole experts; None: as of the group.
  """

  params: PyTree
  adapters: PyTree = None
  mix: np.ndarray | None = None
  placed: tuple[int, ...] = ()
  apart: bool = False
  stops: jax.Array | None = None


def costly(platform: str, particles: PyTree, params: PyTree) -> bool:
  """Do low-rank products of rows in blocks cost much more than their work?

  On CPU many small products, one for each block, cost several times as much as one
  large product of the same work, which an expert can have that owns a pack; and none is
  needed where it is merged. Where adapters are too small for that to count, mixed packs
  are padded less; where the base is, the programs for both kinds cost more than they
  save.
  """
  leaves = jax.tree.leaves(particles)
  low = sum(x.size for x in leaves) / len(leaves[0])
  return platform == "cpu" and large(params) and low > _LARGE * _size(params)


def large(params: PyTree) -> bool:
  """Does a program of the base take longer to run than to compile?"""
  return _size(params) > _QUICK


def _size(params):
  return sum(x.size for x in jax.tree.leaves(params["layers"]))


def choose(
  form: str,
  platform: str,
  owners: Sequence[int],
  experts: int,
  mixed: bool,
  mergeable: bool = True,
  dear: bool = False,
) -> tuple[str, list[int]]:
  """(form of the mixed batch, experts that are served merged).

  Args:
    form: as configured. platform: of the devices.
    owners: the expert of each row of the call.
    experts: E of the group.
    mixed: rows mix experts (dense space): they are masked unless told otherwise.
    mergeable: adapters can be added to the kernels (not to int8 ones).
    dear: adapters are `costly`.
  """
  rows = Counter(owners)
  if form == "merged" or (experts == 1 and mergeable):
    return "masked", sorted(rows)
  if form != "auto":
    return form, []
  enough = MERGED_COSTLY if dear else MERGED_ROWS.get(platform, MERGED_ROWS["gpu"])
  alone = sorted(e for e, count in rows.items() if mergeable and count >= enough)
  few = experts <= MASKED_EXPERTS
  return "masked" if mixed or (platform != "cpu" and few) else "grouped", alone
