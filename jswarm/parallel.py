"""The only file that knows devices: one function on many rows -> on many devices.

A pool's rows are dealt to desks, one a device. What all desks share (base, adapters)
is replicated once; what a desk owns (lanes, prompts) has a leading desk axis. The same
function runs on every desk, by `jax.pmap`: its while_loops stop independently, and
nothing is exchanged. A pool of whole models puts its experts on the desks instead, and
a base that does not fit one device is split over several (`tensor`): then a desk is a
row of the mesh ('expert', 'tensor'), and `jax.shard_map` takes pmap's place, which
cannot go there.
"""

from collections.abc import Callable, Sequence
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from jswarm.types import PyTree

EXPERT, TENSOR = "expert", "tensor"
_KEPT = 0.85  # share of a device's memory that is planned with


class Desks:
  """Equal desks, and how a function gets to all of them.

  Attributes:
    count: D, desks. tensor: devices of each.
    one_by_one: layers run as small programs: on one CPU device, where compiling a
      whole prefill for every shape would take longer than running it.
  """

  def __init__(self, devices: Sequence[jax.Device] | None = None, tensor: int = 1):
    devices = list(jax.local_devices() if devices is None else devices)
    if len(devices) % tensor:
      raise ValueError(f"engine.tensor={tensor} does not divide {len(devices)} devices:"
                       " give a divisor, or set engine.devices to a multiple.")
    self.devices, self.tensor = devices, tensor
    self.count = len(devices) // tensor
    self.platform = devices[0].platform
    self.single = len(devices) == 1
    self.one_by_one = self.single and self.platform == "cpu"
    self.mesh = Mesh(np.array(devices).reshape(self.count, tensor), (EXPERT, TENSOR),
                     axis_types=(jax.sharding.AxisType.Auto,) * 2)

  def share(self, tree: PyTree, specs: PyTree | None = None) -> PyTree:
    """Places what all desks use; `specs`: how each leaf is split inside a desk."""
    if self.single:
      return jax.device_put(tree, self.devices[0])
    if specs is None:
      specs = jax.tree.map(lambda _: PartitionSpec(), tree)
    return jax.tree.map(
        lambda x, s: jax.device_put(x, NamedSharding(self.mesh, s)), tree, specs)

  def split(self, trees: Sequence[PyTree], specs: PyTree | None = None) -> PyTree:
    """Places one tree on each desk."""
    if self.single:
      return jax.device_put(trees[0], self.devices[0])
    stacked = jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *trees)
    if specs is None:
      specs = jax.tree.map(lambda _: PartitionSpec(), stacked)
    return jax.tree.map(lambda x, s: jax.device_put(
        x, NamedSharding(self.mesh, PartitionSpec(EXPERT, *s))), stacked, specs)

  def fetch(self, tree: PyTree) -> list[PyTree]:
    """What each desk holds, on the host."""
    tree = jax.tree.map(np.asarray, jax.device_get(tree))
    if self.single:
      return [tree]
    return [jax.tree.map(lambda x: x[d], tree) for d in range(self.count)]

  def each(self, function: Callable, shared: int, *, donate: tuple[int, ...] = (),
           specs: Sequence[Any] = (), compiled: bool = True,
           own: bool = False) -> Callable:
    """`function`, run on every desk.

    Args:
      function: of arguments as one desk sees them.
      shared: so many leading arguments come from `share`, the rest from `split`.
      donate: arguments whose buffers may be reused.
      specs: where a desk has several devices: PartitionSpecs of the leading
        arguments inside a desk; the others are whole on each of its devices.
      compiled: False leaves a function of small programs as it is (`one_by_one`).
      own: the first argument has a desk axis too (`split`).
    """
    if self.single:
      return jax.jit(function, donate_argnums=donate) if compiled else function
    if self.tensor == 1:
      names = function.__code__.co_argcount
      axes = (None,) * shared + (0,) * (names - shared)
      axes = (0, *axes[1:]) if own else axes
      return jax.pmap(function, axis_name=EXPERT, in_axes=axes, devices=self.devices,
                      donate_argnums=donate)
    return jax.jit(self._mapped(function, shared, specs, own), donate_argnums=donate)

  def _mapped(self, function, shared, specs, own):
    """shard_map over both axes: a desk's axis of one is dropped and put back."""
    drop = lambda tree: jax.tree.map(lambda x: x[0], tree)
    whole = lambda i: i < shared and not (own and i == 0)

    def on_desk(*arguments):
      mine = [a if whole(i) else drop(a) for i, a in enumerate(arguments)]
      return jax.tree.map(lambda x: x[None], function(*mine))

    names = function.__code__.co_argcount
    inside = list(specs) + [PartitionSpec()] * (names - len(specs))
    lead = lambda s: PartitionSpec(EXPERT, *s)
    is_spec = lambda s: isinstance(s, PartitionSpec)
    in_specs = tuple(s if whole(i) else jax.tree.map(lead, s, is_leaf=is_spec)
                     for i, s in enumerate(inside))
    return jax.shard_map(on_desk, mesh=self.mesh, in_specs=in_specs,
                         out_specs=PartitionSpec(EXPERT), check_vma=False)

  def memory(self) -> int:
    """Bytes of a device that the engine may plan with; 0 if nobody knows."""
    stats = self.devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
      return int(stats["bytes_limit"] * _KEPT)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(pages * _KEPT / 2 / len(self.devices)) if self.platform == "cpu" else 0
