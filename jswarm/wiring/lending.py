"""What the model wing lends to methods: draws, merged models, trained ones.

  placed pool -> sampling, deltas;  the base on disk + updates -> serve
  a pool's training config -> train

Updates are named by their places in a whole model, "layers/attn/q/kernel".
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from jswarm.baselines.base import Deltas, Lent
from jswarm.core.types import Experts
from jswarm.engine import engine
from jswarm.model.architecture import PROJECTIONS
from jswarm.pool import load, specs
from jswarm.training import pool as training_pool
from jswarm.training import sources as sources_lib
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, training
from jswarm.wiring.config import Resolved


def lent(
  config: Resolved, placed: engine.Placed, trained: ConfigDict | None = None
) -> Lent:
  """What can be done with a pool.

  Args:
    config: of the pool. placed: as it stands on the devices.
    trained: the config with which its experts were made, like configs/relay_pool.py;
      None: nothing can be trained.
  """
  mixable = [s for s in placed.served if len(s.group.members) > 1]
  train = None
  if trained is not None:
    train = functools.partial(_train, config, training.arguments(trained))
  return Lent(
    sampling=placed.sampled,
    train=train,
    deltas=lambda: [_deltas(config, s) for s in mixable],
    serve=functools.partial(_serve, config, mixable),
  )


def _deltas(config: Resolved, served) -> Deltas:
  """{place in a whole model: read() -> float32 [E, ...]} of one group."""
  group, particles = served.group, served.particles
  if group.kind == "lora":
    factors = group.particles if particles.dense else particles.start
    places = {n: f"layers/{PROJECTIONS[n]}/{n}/kernel" for n in factors}
    return {places[n]: functools.partial(_product, f) for n, f in factors.items()}
  # Whole models: of what they are updates has to be said.
  if not config.pool.base:
    return {}
  base = _whole(config, (config.pool.base, None), "base")
  alike = dataclasses.replace(group.config, max_positions=0)
  same_words = load.digest(base.tokenizer) == load.digest(group.tokenizer)
  if dataclasses.replace(base.config, max_positions=0) != alike or not same_words:
    return {}
  zero, own = _by_place(base.particles), _by_place(particles.start)
  return {name: functools.partial(_minus, own[name], zero[name]) for name in own}


def _product(factors: Mapping[str, Any]) -> np.ndarray:
  """A B of each expert: float32 [E, L, D, n]."""
  a, b = jnp.asarray(factors["A"]), jnp.asarray(factors["B"])
  return np.asarray(jnp.matmul(a, b, precision="highest"), np.float32)


def _minus(models: jax.Array, base: np.ndarray) -> np.ndarray:
  return np.asarray(models, np.float32) - np.asarray(base, np.float32)


def _by_place(tree: Any) -> dict[str, Any]:
  """{"layers/attn/q/kernel": leaf}."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


def _whole(config: Resolved, source: tuple[str, str | None], name: str) -> load.Group:
  """A group of one whole model, read from where it lies; leaves [1, ...]."""
  spec = specs.Spec(name=name, base=source[0], revision=source[1])
  return _loaded(config, spec).groups[0]


def _loaded(config: Resolved, spec: specs.Spec) -> load.Pool:
  c = config.pool
  dtype = config_lib.model_dtype(c.dtype, "pool.dtype")
  return load.load_pool(
    [spec], dtype, c.allow_pickle, today=c.today, thinking=c.thinking
  )


def _serve(
  config: Resolved, mixable, group: int, updates: Mapping[str, Any]
) -> Experts:
  """The base of a group plus one dense update, as a pool of one whole model."""
  of = mixable[group].group
  source = of.specs[0].source if of.kind == "lora" else (config.pool.base, None)
  whole = _whole(config, source, "merged")

  def moved(path, leaf):
    name = "/".join(key.key for key in path)
    if name not in updates:
      return leaf
    total = np.asarray(leaf, np.float32) + np.asarray(updates[name])[None]
    return total.astype(leaf.dtype)

  particles = jax.tree_util.tree_map_with_path(moved, whole.particles)
  group_of_one = dataclasses.replace(whole, particles=particles)
  c = config.pool
  pool = load.Pool(("merged",), (group_of_one,), c.today, c.thinking)
  return engine.make_experts(pool, config.engine, keep=False)


def _train(config: Resolved, made: Mapping[str, Any], matched: bool = False) -> Experts:
  """A pool of one expert, trained on the records of all, on the base of the first.

  `matched`: in as many updates as one expert had; else in as many epochs.

  Raises:
    ValueError: records of some are written in the chat template, of others not.
  """
  first = search.chosen(config)[0]
  base, revision = first.source
  sources, settings = made["sources"], made["settings"]
  if not matched:
    steps = settings.steps * len(sources)
    settings = dataclasses.replace(settings, steps=steps)
  with tempfile.TemporaryDirectory(prefix="jswarm-data-merge-") as folder:
    union = _union(sources, settings.seed, pathlib.Path(folder) / "records.jsonl")
    training_pool.train_pool(
      folder,
      specs.locate(base, revision),
      {"data_merge": union},
      settings,
      max_tokens=made["max_tokens"],
      ask=made["ask"],
      save_dtype=made["save_dtype"],
    )
    adapter = str(pathlib.Path(folder) / "experts" / "data_merge")
    spec = specs.Spec(
      name="data_merge", base=base, adapter=adapter, base_revision=revision
    )
    pool = _loaded(config, spec)
  return engine.make_experts(pool, config.engine, keep=False)


def _union(
  sources: Mapping[str, sources_lib.Source], seed: int, path: pathlib.Path
) -> sources_lib.Source:
  """All records with which the experts were trained, in a file: each as often as its
  expert has it."""
  chats = {source.chat for source in sources.values()}
  if len(chats) > 1:
    raise ValueError(
      "experts.*.chat of the training config are both True and False: records of both"
      " kinds cannot be one file; set them alike."
    )
  with open(path, "w", encoding="utf-8") as file:
    for i, source in enumerate(sources.values()):
      # Drawn as `train_pool` drew them for this expert.
      for record in source.load(seed + 1 + i)[0]:
        kept = {name: record[name] for name in ("prompt", "completion")}
        file.write(json.dumps(kept) + "\n")
  return sources_lib.Source(path=str(path), chat=chats.pop())
