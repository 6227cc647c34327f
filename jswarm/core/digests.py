"""Names for trees of arrays: the same bytes have the same digest, on any machine."""

from collections.abc import Sequence
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import quick
from jswarm.core.types import PyTree

_PART = 1 << 26  # bytes of a leaf that are worked on at a time


def digest(tree: PyTree, start: str = "") -> str:
  """sha256 of a text and of path, shape, dtype and bytes of every leaf, as hex."""
  sha = hashlib.sha256(start.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = np.asarray(leaf)
    sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
    sha.update(np.ascontiguousarray(leaf).view(np.uint8).data)
  return sha.hexdigest()


def fingerprint(tree: PyTree, start: str = "") -> str:
  """The same of two sums over every leaf in place of its bytes, made where it lies.

  For whole models: nothing goes to the host. It tells files that were replaced, not
  somebody who wants two models to have one name.
  """
  sha = hashlib.sha256(start.encode())
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  large = [_in_parts(leaf) for _, leaf in leaves]
  small = [leaf for (_, leaf), parts in zip(leaves, large) if not parts]
  found = iter(jax.device_get(_sums(small)) if small else ())
  for (path, leaf), parts in zip(leaves, large):
    sums = _sums_of_parts(leaf) if parts else next(found)
    sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}{sums}".encode())
  return sha.hexdigest()


def _in_parts(leaf) -> bool:
  """Is a leaf too large to be copied to a device, or worked on, as a whole?"""
  spread = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
  return not spread and leaf.nbytes > _PART


def _sums_of_parts(leaf):
  """`_sums` of one leaf, part by part: both are sums modulo 2^32."""
  axis = int(np.argmax(leaf.shape))
  size = max(1, _PART * leaf.shape[axis] // leaf.nbytes)
  total = np.zeros(2, np.uint32)
  for first in range(0, leaf.shape[axis], size):
    part = leaf[(slice(None),) * axis + (slice(first, first + size),)]
    ahead = np.uint32(first * _PRIMES[axis] % 2**32)
    total += np.array(jax.device_get(_sums([part], ahead))[0], np.uint32)
  return [np.asarray(part) for part in total]  # as they come from the device


def fingerprints(particles: PyTree, starts: Sequence[str]) -> list[str]:
  """`fingerprint` of each particle of leaves [P, ...], named starts[P].

  Particles may be spread over the devices of several processes, which then have to
  call it together.
  """
  leaves = jax.tree_util.tree_leaves_with_path(particles)
  sums = _each_sums([leaf for _, leaf in leaves])
  shas = [hashlib.sha256(start.encode()) for start in starts]
  for (path, leaf), two in zip(leaves, sums):
    for sha, pair in zip(shas, np.asarray(two).T):
      sha.update(
        f"{jax.tree_util.keystr(path)}{leaf.shape[1:]}{leaf.dtype}"
        f"{pair.tolist()}".encode()
      )
  return [sha.hexdigest() for sha in shas]


def _each_sums(leaves):
  """Of each leaf [P, ...] its two sums for every particle: uint32 [2, P]."""
  sharding = getattr(leaves[0], "sharding", None)
  if not isinstance(sharding, jax.sharding.NamedSharding):
    return _vmapped_sums(leaves)
  whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
  return quick.jit(_vmapped_sums, out_shardings=whole)(leaves)


@quick.jit
def _vmapped_sums(leaves):
  return [jnp.stack(pair) for pair in jax.vmap(_sums)(leaves)]


@quick.jit
def _sums(leaves, ahead=0):
  """Of each leaf two sums of its bits, each weighted by place, modulo 2^32.

  `ahead`: what is added to every place, for a part of a leaf.
  """

  def one(x):
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    bits = bits.astype(jnp.uint32)
    place = sum(
      (
        jax.lax.broadcasted_iota(jnp.uint32, x.shape, d) * jnp.uint32(prime)
        for d, prime in zip(range(x.ndim), _PRIMES)
      ),
      jnp.uint32(1) + jnp.uint32(ahead),
    )
    mixed = (bits ^ (bits >> 15)) * jnp.uint32(_PRIMES[0])
    return [
      jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32),
      jnp.sum((mixed ^ (mixed >> 13)) * (place * place | 1), dtype=jnp.uint32),
    ]

  return [one(x) for x in leaves]


_PRIMES = (2654435761, 2246822519, 3266489917, 668265263, 374761393)
