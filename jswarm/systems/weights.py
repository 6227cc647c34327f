"""The weights that a system carries, under a name for what each expert says on them."""

from collections.abc import Sequence
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp

from jswarm.core import quick
from jswarm.core.digests import digest, fingerprints
from jswarm.core.types import Experts, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
  """Weights of all groups of a pool.

  Attributes:
    trees: for each group leaves [E_group, ...], as `Experts.weights`.
    versions: for each expert a digest of all that its replies depend on: its weights,
      base, tokenizer, stops. Equal versions say the same, whatever stands beside them.
    sources: weights that together serve whatever these serve; see `Mixed`.
  """

  trees: tuple[PyTree, ...]
  versions: tuple[str, ...]
  sources: tuple["Weights", ...] = ()

  def are(self, trees: tuple[PyTree, ...]) -> bool:
    """Are these very arrays the trees? Equal copies of them are not looked for."""
    mine, others = jax.tree.leaves(self.trees), jax.tree.leaves(trees)
    return len(mine) == len(others) and all(map(lambda a, b: a is b, mine, others))


class Mixed(Weights):
  """Weights of one set for most experts, of another set for some.

  Calls on them are served by the two sets as they are; the trees are put together only
  for who asks for them.
  """

  def __init__(
    self,
    most: Weights,
    some: Weights,
    taken: Sequence[bool],
    groups: Sequence[Sequence[int]],
  ):
    """
    Args:
      most, some: the two sets.
      taken: for each expert of the pool, is it of `some`?
      groups: the experts of each group, as `Experts.groups`.
    """
    versions = tuple(
      b if take else a for a, b, take in zip(most.versions, some.versions, taken)
    )
    object.__setattr__(self, "versions", versions)
    object.__setattr__(self, "sources", (most, some))
    object.__setattr__(self, "_taken", [[taken[e] for e in g] for g in groups])

  @functools.cached_property
  def trees(self) -> tuple[PyTree, ...]:
    most, some = self.sources
    return tuple(
      _pick(jnp.asarray(taken), a, b)
      for taken, a, b in zip(self._taken, most.trees, some.trees)
    )


@quick.jit
def _pick(taken, most, some):
  """Leaves [E_group, ...]: of `some` where taken [E_group]."""
  pick = jax.vmap(lambda take, a, b: jnp.where(take, b, a))
  return jax.tree.map(lambda a, b: pick(taken, a, b), most, some)


def named(experts: Experts, trees: tuple[PyTree, ...]) -> Weights:
  """The weights with their versions; several processes have to call it together."""
  return Weights(trees, tuple(versions(experts, trees)))


def versions(experts: Experts, trees: tuple[PyTree, ...]) -> list[str]:
  """A digest for each expert of the weights that it answers with."""
  names = [
    f"{name}{fixed}"
    for name, fixed in itertools.zip_longest(experts.names, experts.fixed, fillvalue="")
  ]
  digests = [digest(None, name)[:24] for name in names]
  for members, group in zip(experts.groups, trees, strict=True):
    moving = fingerprints(group, [names[expert] for expert in members])
    for expert, version in zip(members, moving):
      digests[expert] = version[:24]
  return digests


class Standing:
  """Serves calls on many weights from one pool: knows what stands on the device.

  Attributes:
    first: the weights that the pool came with, which a system without weights has.
  """

  def __init__(self, experts: Experts):
    self._experts = experts
    self.first = self._now = named(experts, experts.weights)

  def parts(
    self, calls: Sequence[tuple[int, Weights]]
  ) -> list[tuple[Weights, list[int]]]:
    """Which calls (expert, weights) are made on which weights, turn by turn.

    An expert that is the same in two weights is asked on either of them: first comes
    what stands there now, then the others as they are named, so that weights are moved
    as seldom as possible.
    """
    left, parts = list(range(len(calls))), []
    wanted = itertools.chain.from_iterable([*w.sources, w] for _, w in calls)
    for weights in [self._now, *wanted]:
      if not left:
        break
      serves = lambda i: (
        calls[i][1].versions[calls[i][0]] == weights.versions[calls[i][0]]
      )
      mine = [i for i in left if serves(i)]
      if mine:
        parts.append((weights, mine))
        left = [i for i in left if not serves(i)]
    return parts

  def install(self, weights: Weights) -> None:
    """Puts weights on the device, if they do not stand there."""
    if weights is not self._now:
      self._experts.install(weights.trees)
      self._now = weights
