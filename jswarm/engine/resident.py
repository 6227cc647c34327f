"""Particles -> what a stream of rows runs on, placed on the replicas.

A group's particles are adapters or whole models. Here they are laid out for the form
that `forms` chose, merged, rounded or split over devices, once an update; and saved.
"""

import dataclasses
import os
import pathlib

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core import files
from jswarm.core.digests import digest, fingerprint
from jswarm.core.types import PyTree
from jswarm.distributed import devices
from jswarm.distributed.devices import Replicas, tensor_specs
from jswarm.engine import adapter_forms
from jswarm.formats import hf_model, peft_adapter, tokenizer
from jswarm.model import decoder, lora, quantize
from jswarm.model.architecture import DecoderConfig
from jswarm.pool import load

_COPIES = (
  7  # positions, velocities, own bests, the best, the initial, the given, served
)
_PROBE = (
  "A train leaves at nine and arrives at noon. How long is the journey? It takes"
  " three hours, because twelve minus nine is three."
)


class Resident:
  """The experts of one group on its replicas.

  Attributes:
    group: as loaded, without what is kept in the form that is served.
    start: its particles as they came, float32.
    dense: particles are coefficients over the initial adapters.
    costly: see `adapter_forms.costly`.
    vocabularies: of each expert the fingerprint of its tokenizer.
    fixed: of each expert a name of what does not move: base, tokenizer, stops.
  """

  def __init__(
    self,
    group: load.Group,
    replicas: Replicas,
    dense: bool,
    int8: bool,
    keep: bool = True,
  ):
    self.group, self._replicas, self._int8 = group, replicas, int8
    self._dtype = jax.tree.leaves(group.particles)[0].dtype
    self.dense = dense and group.kind == "lora"
    single = len(group.members) == 1
    still = self.dense or single  # particles that never move
    whole = group.kind == "full"
    # A whole model that is alone in its group is served as it was read: one copy.
    self._lone = whole and single and replicas.count == 1 and not int8
    self.vocabularies = [
      tokenizer.fingerprint(group.text(i).tokenizer) for i in range(len(group.members))
    ]
    self.fixed = self._names((group.params, group.particles if still else None))
    self._base = {"base_digest": group.base_digest(), "dtype": str(group.dtype)}
    self.start: PyTree = None
    self._params = None
    if self._lone:
      first = lambda x: jax.device_put(x[0])
      self._params = self._place(_moved(group.particles, first, keep))
    elif whole:
      dtype = self._dtype if single else jnp.float32
      place = lambda x: _spread_out(x, replicas, dtype)
      self.start = _moved(group.particles, place, keep)
    else:
      self.start = _start(group, replicas, self.dense)
      self._params = self._place(_moved(group.params, jax.device_put, keep))
    self.group = dataclasses.replace(
      group, params=None, particles=group.particles if self.dense else None
    )
    self.costly = not whole and adapter_forms.costly(
      replicas.platform, group.particles, self._params
    )
    self.install(self.start)

  def install(self, particles: PyTree) -> None:
    """Serves these particles from now on."""
    self._particles = particles
    self._digests: dict[int, str] = {}
    # What is laid out of them, by the three ways to serve them.
    self._mixed: dict[str, adapter_forms.Weights] = {}  # by form
    self._alone: dict[int, adapter_forms.Weights] = {}  # by expert, one at most
    self._placed: dict[tuple[int, ...], adapter_forms.Weights] = {}  # one round

  @property
  def installed(self) -> PyTree:
    """The particles that are served now."""
    return self._particles

  def holders(self) -> list[tuple[int, ...]]:
    """For each expert the processes that hold its weights; () if all do."""
    if self._lone:
      return [()]
    return devices.holders(jax.tree.leaves(self.start)[0])

  def held(self) -> int:
    """Bytes of base and particles on the first device."""
    return sum(
      x.addressable_shards[0].data.nbytes
      for x in jax.tree.leaves((self._params, self.start))
    )

  def version(self, owner: int) -> str:
    """Digest of what expert `owner` answers with: base, adapter, tokenizer, stops."""
    if self._lone:
      return digest(None, self.fixed[0])
    if owner not in self._digests:
      particles = devices.particle(self._particles, owner)
      fixed = self.group.particles if self.dense else None
      self._digests[owner] = digest((particles, fixed), self.fixed[owner])
    return self._digests[owner]

  def mixed(self, form: str) -> adapter_forms.Weights:
    """All experts in one batch. Laid out once an update, not once a batch."""
    if form not in self._mixed:
      dtype, unstacked = self._params["embed"].dtype, decoder.is_unstacked(self._params)
      factors = self.group.particles if self.dense else self._particles
      if self.dense and form == "grouped":  # blocks of one expert: its own sum
        factors = lora.dense_adapters(factors, np.asarray(self._particles["mix"]))
      lay_out = lora.pack if form == "masked" else lora.group
      size, adapters = len(self.group.members), lay_out(factors, dtype, unstacked)
      mix = (
        np.asarray(self._particles["mix"])
        if self.dense
        else np.eye(size, dtype=np.float32)
      )
      self._mixed[form] = adapter_forms.Weights(
        params=self._params,
        mix=mix if form == "masked" else None,
        adapters=self._replicas.share(adapters, self._specs(adapters)),
        apart=form == "grouped" and self.costly,
      )
    return self._mixed[form]

  def alone(self, owner: int) -> adapter_forms.Weights:
    """One expert, merged or whole; one of them is placed at a time."""
    if owner not in self._alone:
      self._alone.clear()  # before the next is placed: memory holds one
      self._alone[owner] = adapter_forms.Weights(
        params=self._expert(owner), stops=self._stops(owner)
      )
    return self._alone[owner]

  def on_replicas(self, placed: tuple[int, ...]) -> adapter_forms.Weights:
    """Expert placed[d] on replica d; kept while all of them fit one round."""
    if placed not in self._placed:
      self._placed.clear()  # as above
      trees = [self._layout(self._rounded(self._whole(o), o)) for o in placed]
      self._placed[placed] = adapter_forms.Weights(
        params=self._replicas.split(trees, self._specs(trees[0])),
        placed=placed,
        stops=self._stops(placed[0]),  # those of all, see `Served._rounds`
      )
    return self._placed[placed]

  def _whole(self, owner: int) -> PyTree:
    """Params of a full-weight expert, in the dtype that it is served in."""
    mine = devices.particle(self._particles, owner)
    return jax.tree.map(lambda x: x.astype(self._dtype), mine)

  def _expert(self, owner: int) -> PyTree:
    if self._lone:
      return self._params
    if self.group.kind == "full":
      return self._place(self._whole(owner), owner)
    adapter = self._adapter(self._particles, owner)
    return _merge(self._params, self._replicas.share(adapter, self._specs(adapter)))

  def _adapter(self, particles: PyTree, i: int) -> PyTree:
    """Factors of one expert, without an expert axis."""
    if self.dense:
      mix = np.asarray(particles["mix"][i])
      return lora.dense_adapter(self.group.particles, mix)
    return devices.particle(particles, i)

  def _names(self, unmoved: PyTree) -> list[str]:
    """`fixed`. Nothing here outlives the call: it would keep what was loaded alive."""
    names: dict[str, str] = {}
    fixed = []
    for i, vocabulary in enumerate(self.vocabularies):
      words = f"{self._config(i)}{self.group.text(i).stops}{self._dtype}{vocabulary}"
      if words not in names:
        names[words] = fingerprint(unmoved, words)
      fixed.append(names[words])
    return fixed

  def _layout(self, params: PyTree) -> PyTree:
    # Stacked layers are copied at every step by the CPU backend.
    if self._replicas.platform != "cpu":
      return params
    return decoder.unstack(params, give_away=True)

  def _place(self, params: PyTree, owner: int = 0) -> PyTree:
    """Laid out for the replicas; the tree of `params` is used up."""
    # One name for all of them: what another one held would not be freed on the way.
    params = jax.device_put(params)
    params = self._rounded(params, owner)
    params = self._layout(params)
    return self._replicas.share(params, self._specs(params))

  def _rounded(self, params: PyTree, owner: int) -> PyTree:
    if not self._int8:
      return params
    rounded = quantize.quantize(params)
    words = self.group.text(owner).tokenizer
    probe = tokenizer.encode(words, [_PROBE], False)[0]
    error = quantize.logit_error(
      decoder.make_decoder(self.group.config), params, rounded, probe
    )
    logging.info(
      "int8 base: log-probabilities move by %.4f on average, %.3f at most;"
      " %.1f %% of the likeliest tokens stay.",
      error["mean"],
      error["max"],
      100 * error["agree"],
    )
    return rounded

  def _config(self, owner: int) -> DecoderConfig:
    """Of one expert: whole models of a group may differ in their context."""
    most = self.group.text(owner).max_positions
    return dataclasses.replace(self.group.config, max_positions=most)

  def _stops(self, owner: int) -> jax.Array | None:
    """What ends the replies of a whole expert; None for adapters, which share it."""
    if self.group.kind != "full":
      return None
    return self._replicas.share(np.asarray(self.group.text(owner).stops, np.int32))

  def _specs(self, tree: PyTree) -> PyTree | None:
    return tensor_specs(tree) if self._replicas.tensor > 1 else None

  def save(self, folder: str, particles: PyTree | None, i: int) -> dict:
    """Writes one expert below `folder/experts`; where it is and what it stands on."""
    group = self.group
    spec = group.specs[i]
    place = os.path.join("experts", spec.name)
    target = os.path.join(folder, place)
    particles = self.start if particles is None else particles
    if group.kind == "full":
      whole = self._params if self._lone else devices.particle(particles, i)
      text = group.text(i)
      hf_model.save_whole(target, self._config(i), whole, text.tokenizer, text.stops)
      return {"kind": "full", "path": place}
    adapter = jax.tree.map(np.asarray, self._adapter(particles, i))
    peft_adapter.save_adapter(target, adapter, spec.base, group.config)
    base, revision = spec.source
    entry = {"kind": "lora", "path": place, "base": base}
    entry |= self._base | self._save_text(folder, i)
    return {**entry, "base_revision": revision} if revision else entry

  def _save_text(self, folder: str, i: int) -> dict:
    """Writes tokenizer and stops of the base once below `folder/tokenizers`."""
    text, base = self.group.text(i), self.group.specs[i].base
    if not hasattr(text.tokenizer, "save_pretrained"):  # bytes need no files
      return {}
    name = pathlib.PureWindowsPath(base).stem
    place = os.path.join("tokenizers", f"{name}-{self.vocabularies[i][:8]}")
    target = os.path.join(folder, place)
    if not os.path.isdir(target):
      text.tokenizer.save_pretrained(target)
      stops = {"eos_token_id": list(text.stops)}
      files.write_json(os.path.join(target, "generation_config.json"), stops)
    return {"tokenizer": place}


def _start(group: load.Group, replicas: Replicas, dense: bool) -> PyTree:
  """Adapters as they came, in float32, where a swarm has room for them."""
  if dense:
    return jax.device_put(lora.dense_start(len(group.members)))
  particles = jax.tree.map(lambda x: np.asarray(x, np.float32), group.particles)
  if _large(particles, replicas):
    particles = replicas.spread(particles)
  return jax.device_put(particles)


def _spread_out(x, replicas: Replicas, dtype) -> jax.Array:
  """A leaf of whole models from the host, or from where it was read to: no device holds
  all of them."""
  if not devices.is_spread(x):
    x = replicas.stack(x.shape, lambda i: np.asarray(x[i], dtype))
  return jnp.asarray(x, dtype)


def _moved(tree: PyTree, place, keep: bool) -> PyTree:
  """place(leaf) of every leaf, one after the other; unless `keep`, the tree is emptied
  on the way, so that no more than one leaf is in memory twice."""
  made = {}
  for name in list(tree):
    part = tree[name] if keep else tree.pop(name)
    inner = isinstance(part, dict)
    made[name] = _moved(part, place, keep) if inner else place(part)
    jax.block_until_ready(made[name])
  return made


def _large(particles: PyTree, replicas: Replicas) -> bool:
  """Would the copies that a swarm keeps of its particles crowd a device?"""
  size = sum(x.nbytes for x in jax.tree.leaves(particles))
  return 0 < replicas.memory() / 4 < _COPIES * size


@jax.jit
def _merge_layers(layers: PyTree, adapter: PyTree) -> PyTree:
  return lora.merge({"layers": layers}, adapter)["layers"]


def _merge(params: PyTree, adapter: PyTree) -> PyTree:
  """The base with one adapter added in; layer by layer where there is a list."""
  layers = params["layers"]
  if not isinstance(layers, list):
    return {**params, "layers": _merge_layers(layers, adapter)}
  each = lora.by_layer(adapter, len(layers))
  return {**params, "layers": [_merge_layers(*pair) for pair in zip(layers, each)]}
