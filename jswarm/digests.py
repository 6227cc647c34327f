"""Names for trees of arrays: the same bytes have the same digest, on any machine."""

import hashlib

import jax
import numpy as np

from jswarm.types import PyTree


def digest(tree: PyTree, start: str = "") -> str:
  """sha256 of a text and of path, shape, dtype and bytes of every leaf, as hex."""
  sha = hashlib.sha256(start.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = np.asarray(leaf)
    sha.update(f"{jax.tree_util.keystr(path)}{leaf.shape}{leaf.dtype}".encode())
    sha.update(np.ascontiguousarray(leaf).view(np.uint8))
  return sha.hexdigest()
