"""Programs of one base, spread over its replicas and made once for each kind."""

from collections.abc import Callable
from typing import Any

import jax

from jswarm.core.types import PyTree
from jswarm.distributed import devices
from jswarm.engine import adapter_forms, programs
from jswarm.model.architecture import DecoderConfig
from jswarm.model.decoder import make_decoder
from jswarm.model.lanes import Lanes
from jswarm.model.sampling import Sampling


class Programs:
  """What `programs.function` gives, run on every replica; jit keeps shapes apart.

  Attributes:
    config: of the whole base, whatever part of it a device holds.
    replicas: where it runs.
  """

  def __init__(
    self, config: DecoderConfig, replicas: devices.Replicas, sampling: Sampling
  ):
    self.config, self.replicas, self._sampling = config, replicas, sampling
    self._decoder = make_decoder(config)
    if replicas.tensor > 1:
      part = devices.tensor_config(config, replicas.tensor)
      self._decoder = make_decoder(part, axis=devices.TENSOR)
    self._made: dict[tuple, Callable] = {}

  def get(
    self, kind: str, weights: adapter_forms.Weights, lanes: Lanes, *facts: Any
  ) -> Callable:
    """The function `kind` for weights and lanes of this make."""
    key = (kind, bool(weights.placed), type(weights.adapters), *facts)
    if key not in self._made:
      self._made[key] = self._spread(kind, weights, lanes, *facts)
    return self._made[key]

  def own(self, weights: adapter_forms.Weights) -> PyTree:
    """The params of one replica."""
    return self._one(weights.params) if weights.placed else weights.params

  def lane_specs(self, lanes: Lanes) -> PyTree | None:
    """How the devices of a replica share its lanes; None where it has only one."""
    return devices.lane_specs(lanes) if self.replicas.tensor > 1 else None

  def _spread(self, kind, weights, lanes, *facts):
    run = programs.function(kind, self._decoder, self._sampling, *facts)
    eager, whole = self.replicas.one_by_one, jax.sharding.PartitionSpec()
    specs = self.lane_specs(self._one(lanes))
    if kind in ("grow", "take"):  # of lanes alone, or of lanes and where they go
      return self.replicas.each(
        run,
        0,
        2 if kind == "take" else 1,
        compiled=not eager,
        specs=(specs, whole),
        out=specs,
      )
    split = self.replicas.tensor > 1
    shared = [
      devices.tensor_specs(x) if split else None
      for x in (self.own(weights), weights.adapters)
    ]
    return self.replicas.each(
      run,
      3,
      3,
      donate=(3,),
      compiled=not (eager and kind in ("prefill", "steps")),
      specs=(*shared, whole, specs, whole, whole),
      out=specs,
      own=bool(weights.placed),
    )

  def _one(self, tree):
    """The shapes that one replica sees of what was `split`."""
    if self.replicas.single:
      return tree
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
