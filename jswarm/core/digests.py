"""Names for trees of arrays: the same bytes have the same digest, on any machine."""

from collections.abc import Sequence
import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import PyTree


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
  here = [leaf for _, leaf in leaves if not isinstance(leaf, jax.Array)]
  if here:  # of the host: one after the other, so that the device never holds all
    found = [jax.device_get(_sums([leaf]))[0] for _, leaf in leaves]
  else:
    found = jax.device_get(_sums([leaf for _, leaf in leaves]))
  for (path, leaf), sums in zip(leaves, found):
    sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}{sums}".encode())
  return sha.hexdigest()


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
  return jax.jit(_vmapped_sums, out_shardings=whole)(leaves)


@jax.jit
def _vmapped_sums(leaves):
  return [jnp.stack(pair) for pair in jax.vmap(_sums)(leaves)]


@jax.jit
def _sums(leaves):
  """Of each leaf two sums of its bits, each weighted by place, modulo 2^32."""

  def one(x):
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    bits = bits.astype(jnp.uint32)
    place = sum(
      (
        jax.lax.broadcasted_iota(jnp.uint32, x.shape, d) * jnp.uint32(prime)
        for d, prime in zip(range(x.ndim), _PRIMES)
      ),
      jnp.uint32(1),
    )
    mixed = (bits ^ (bits >> 15)) * jnp.uint32(_PRIMES[0])
    return [
      jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32),
      jnp.sum((mixed ^ (mixed >> 13)) * (place * place | 1), dtype=jnp.uint32),
    ]

  return [one(x) for x in leaves]


_PRIMES = (2654435761, 2246822519, 3266489917, 668265263, 374761393)
