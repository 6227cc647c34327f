"""The only file that knows devices: one function on many rows -> on many devices.

A pool's rows are dealt to replicas, the devices that run one copy: one each. What all
replicas share (base, adapters) is copied to them once; what a replica owns (lanes,
prompts) has a leading replica axis. The same function runs on every replica, by
`jax.pmap`: its while_loops stop independently, and nothing is exchanged. A pool of
whole models puts its experts on the replicas instead, and a base that does not fit one
device is split over several (`tensor`): then a replica is a row of the mesh ('expert',
'tensor'), and `jax.shard_map` takes pmap's place, which cannot go there.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from jswarm.core.types import PyTree

EXPERT, TENSOR, COPY = "expert", "tensor", "copy"
_KEPT = 0.85  # share of a device's memory that is planned with


class Replicas:
  """Equal replicas, and how a function gets to all of them.

  Attributes:
    count: D, replicas. tensor: devices of each.
    one_by_one: layers run as small programs: on one CPU device, where compiling a
      whole prefill for every shape would take longer than running it.
  """

  def __init__(self, devices: Sequence[jax.Device] | None = None, tensor: int = 1):
    devices = list(jax.local_devices() if devices is None else devices)
    if len(devices) % tensor:
      raise ValueError(
        f"engine.tensor={tensor} does not divide {len(devices)} devices:"
        " give a divisor, or set engine.devices to a multiple."
      )
    self.devices, self.tensor = devices, tensor
    self.count = len(devices) // tensor
    self.platform = devices[0].platform
    self.single = len(devices) == 1
    self.one_by_one = self.single and self.platform == "cpu"
    self.mesh = Mesh(
      np.array(devices).reshape(self.count, tensor),
      (EXPERT, TENSOR),
      axis_types=(jax.sharding.AxisType.Auto,) * 2,
    )

  def share(self, tree: PyTree, specs: PyTree | None = None) -> PyTree:
    """Places what all replicas use; `specs`: how each leaf is split inside of one."""
    if self.single:
      return jax.device_put(tree, self.devices[0])
    if specs is None:
      specs = jax.tree.map(lambda _: PartitionSpec(), tree)
    return jax.tree.map(
      lambda x, s: jax.device_put(x, NamedSharding(self.mesh, s)), tree, specs
    )

  def split(self, trees: Sequence[PyTree], specs: PyTree | None = None) -> PyTree:
    """Places one tree on each replica; they are never stacked on the host."""
    if self.single:
      return jax.device_put(trees[0], self.devices[0])
    if specs is None:
      specs = jax.tree.map(lambda _: PartitionSpec(), trees[0])

    def place(spec, *leaves):
      leaves = [np.asarray(leaf) for leaf in leaves]
      sharding = NamedSharding(self.mesh, PartitionSpec(EXPERT, *spec))
      return jax.make_array_from_callback(
        (len(leaves), *leaves[0].shape),
        sharding,
        lambda index: leaves[index[0].start or 0][index[1:]][None],
      )

    return jax.tree.map(
      place, specs, *trees, is_leaf=lambda s: isinstance(s, PartitionSpec)
    )

  def fetch(self, tree: PyTree) -> list[PyTree]:
    """What each replica holds, on the host."""
    tree = jax.tree.map(np.asarray, jax.device_get(tree))
    if self.single:
      return [tree]
    return [jax.tree.map(lambda x: x[d], tree) for d in range(self.count)]

  def each(
    self,
    function: Callable,
    shared: int,
    split: int,
    *,
    donate: tuple[int, ...] = (),
    specs: Sequence[Any] = (),
    out: Any = None,
    own: bool = False,
    compiled: bool = True,
  ) -> Callable:
    """`function`, run on every replica.

    Args:
      function: of arguments as one replica sees them.
      shared: so many leading arguments come from `share`.
      split: so many after them come from `split`.
      donate: arguments whose buffers may be reused.
      specs, out: where a replica has several devices: how arguments and result are
        split inside it, one tree of PartitionSpecs each.
      own: the first argument has a replica axis too (`split`).
      compiled: False leaves a function of small programs as it is (`one_by_one`).
    """
    if self.single:
      return jax.jit(function, donate_argnums=donate) if compiled else function
    whole = [i < shared and not (own and i == 0) for i in range(shared + split)]
    if self.tensor == 1:
      return jax.pmap(
        function,
        axis_name=EXPERT,
        devices=self.devices,
        in_axes=tuple(None if w else 0 for w in whole),
        donate_argnums=donate,
      )
    return jax.jit(self._mapped(function, whole, specs, out), donate_argnums=donate)

  def _mapped(self, function, whole, specs, out):
    """shard_map over both axes; inside, a replica's own axis has one entry."""
    drop = lambda tree: jax.tree.map(lambda x: x[0], tree)
    lead = lambda tree: jax.tree.map(
      lambda s: PartitionSpec(EXPERT, *s),
      tree,
      is_leaf=lambda s: isinstance(s, PartitionSpec),
    )

    def on_replica(*arguments):
      mine = [a if w else drop(a) for w, a in zip(whole, arguments)]
      return jax.tree.map(lambda x: x[None], function(*mine))

    return jax.shard_map(
      on_replica,
      mesh=self.mesh,
      check_vma=False,
      out_specs=lead(out),
      in_specs=tuple(s if w else lead(s) for w, s in zip(whole, specs)),
    )

  def place(self, path: Sequence[str], leaf: np.ndarray) -> jax.Array:
    """One leaf of a base, as `share` would place it: each device takes its part."""
    if self.tensor == 1:
      return jax.device_put(leaf, self.devices[0])
    return jax.make_array_from_callback(
      leaf.shape,
      NamedSharding(self.mesh, _tensor_spec(set(path), leaf.ndim)),
      lambda index: leaf[index],
    )

  def spread(self, particles: PyTree) -> PyTree:
    """Particles [P, ...] over as many devices as divide P: none holds all of them."""
    sharding = _over(jax.tree.leaves(particles)[0].shape[0], self.devices)
    return jax.device_put(particles, sharding) if sharding else particles

  def stack(self, shape: tuple[int, ...], read: Callable[[int], np.ndarray]):
    """One leaf [P, ...] of whole models, over the devices of all processes.

    Args:
      shape: of the leaf. read: reads it for one particle; called for those alone that
        this process holds.
    """
    sharding = _over(shape[0], self._everywhere())
    if not sharding:
      return stacked(read, shape[0])
    return jax.make_array_from_callback(
      shape,
      sharding,
      lambda index: np.stack([read(i) for i in range(*index[0].indices(shape[0]))]),
    )

  def _everywhere(self):
    """Devices of all processes: as many of each as here, or all."""
    whole = len(self.devices) == jax.local_device_count()
    of: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
      of.setdefault(device.process_index, []).append(device)
    return [
      device
      for devices in of.values()
      for device in (devices if whole else devices[: len(self.devices)])
    ]

  def memory(self) -> int:
    """Bytes of a device that the engine may plan with; 0 if nobody knows."""
    stats = self.devices[0].memory_stats() or {}
    if "bytes_limit" in stats:
      return int(stats["bytes_limit"] * _KEPT)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(pages * _KEPT / 2 / len(self.devices)) if self.platform == "cpu" else 0


def stacked(read: Callable[[int], np.ndarray], count: int) -> np.ndarray:
  """read(0) ... read(count - 1) as one array, with no second copy of all of them."""
  first = read(0)
  if count == 1:
    return first[None]
  made = np.empty((count, *first.shape), first.dtype)
  made[0] = first
  for i in range(1, count):
    made[i] = read(i)
  return made


def particle(particles: PyTree, index: int) -> PyTree:
  """Leaves [...] of one particle that this process holds."""
  return jax.tree.map(lambda x: _particle(x, index), particles)


def is_spread(x) -> bool:
  """Do several devices hold this array?"""
  return isinstance(x, jax.Array) and len(x.sharding.device_set) > 1


def holders(leaf) -> list[tuple[int, ...]]:
  """For each particle of a leaf [P, ...] the processes that hold it; () if all do."""
  if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
    return [()] * leaf.shape[0]
  held = [set() for _ in range(leaf.shape[0])]
  for device, index in leaf.sharding.devices_indices_map(leaf.shape).items():
    for i in range(*index[0].indices(leaf.shape[0])):
      held[i].add(device.process_index)
  return [tuple(sorted(ranks)) for ranks in held]


def _particle(x, index):
  if not is_spread(x):
    return x[index]
  for shard in x.addressable_shards:  # from where it lies, past the other devices
    held = range(*shard.index[0].indices(x.shape[0]))
    if index in held:
      return shard.data[held.index(index)]
  raise ValueError(
    f"particle {index} is held by the processes {holders(x)[index]} alone"
    f" and was asked of {jax.process_index()}."
  )


def _over(size, devices):
  """How `size` particles are spread over devices; None: not at all."""
  chosen = order(size, devices)
  if not chosen:
    return None
  mesh = Mesh(
    np.array(chosen), (EXPERT, COPY), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  return NamedSharding(mesh, PartitionSpec(EXPERT))


def order(size: int, devices: Sequence[jax.Device]) -> list[list[jax.Device]]:
  """[n][copies] devices that hold `size` particles, `size / n` each; [] where n is 1.

  So many devices as divide `size`, each process in turn, and copies on others where a
  process would else hold nothing, which could not take part in what all compute.
  """
  seen, turn = {}, {}
  for device in devices:
    turn[device] = seen[device.process_index] = seen.get(device.process_index, -1) + 1
  in_turn = sorted(devices, key=lambda d: (turn[d], d.process_index))
  for count in range(min(size, len(in_turn)), 1, -1):
    if size % count:
      continue
    for copies in range(1, len(in_turn) // count + 1):
      chosen = in_turn[: count * copies]
      if {d.process_index for d in chosen} == set(seen):
        return [chosen[i::count] for i in range(count)]
  return []


def local_devices(count: int = 0) -> list[jax.Device]:
  """The first `count` local devices; 0: all of them."""
  every = jax.local_devices()
  if count > len(every):
    raise ValueError(
      f"engine.devices={count}: this process has {len(every)}"
      f" ({every[0].platform}); 0 takes all."
    )
  return every[:count] if count else every


def tensor_config(config, tensor: int):
  """What each of `tensor` devices holds of a decoder: heads and mlp are split.

  Raises:
    ValueError: they cannot be split into that many parts.
  """
  for field in ("kv_heads", "hidden"):
    if getattr(config, field) % tensor:
      raise ValueError(
        f"engine.tensor={tensor}: the base has {field}="
        f"{getattr(config, field)}, which it does not divide."
      )
  return dataclasses.replace(
    config,
    heads=config.heads // tensor,
    kv_heads=config.kv_heads // tensor,
    hidden=config.hidden // tensor,
  )


def tensor_specs(tree: PyTree) -> PyTree:
  """PartitionSpecs of params or adapters inside a replica, by the names on the path.

  What makes heads or hidden units is split by its output, what reads them by its
  input; the rest is on every device.
  """
  name = lambda key: str(getattr(key, "key", getattr(key, "name", "")))
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: _tensor_spec(set(map(name, path)), leaf.ndim), tree
  )


def _tensor_spec(names, ndim):
  reads, makes = names & {"o", "down"}, names & {"q", "k", "v", "gate", "up"}
  by_output = makes and "A" not in names
  by_input = reads and names & {"kernel", "kernel_t", "A"}
  axis = ndim - 1 if by_output else ndim - 2 if by_input else None
  if "kernel_t" in names and axis is not None:
    axis = 2 * ndim - 3 - axis  # the other one of the last two
  return PartitionSpec(*(TENSOR if i == axis else None for i in range(ndim)))


def lane_specs(lanes: PyTree) -> PyTree:
  """PartitionSpecs of lanes in a replica: its devices hold the cache of their heads."""
  whole = jax.tree.map(lambda _: PartitionSpec(), lanes)
  heads = lambda x: PartitionSpec(*[None] * (x.ndim - 3), TENSOR)
  return whole.replace(
    cache=whole.cache.replace(
      k=jax.tree.map(heads, lanes.cache.k), v=jax.tree.map(heads, lanes.cache.v)
    )
  )
