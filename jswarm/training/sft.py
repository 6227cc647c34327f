"""Supervised tuning: rows of tokens -> an adapter, or a whole tiny base.

    train_data.Loader -> fit (AdamW, cosine, clipping, Orbax) -> adapter | params

The loss is the mean cross entropy of the completion tokens. A step is a pure function
of (state, batch), and the batch a function of the step, so a run that is interrupted
and continued ends bit for bit where an unbroken one does.
"""

from collections.abc import Callable
import dataclasses
import os
import time
from typing import Any

from absl import logging
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from tqdm import tqdm

from jswarm.core import waits
from jswarm.core.types import PyTree
from jswarm.model.architecture import PROJECTIONS, projection_shapes
from jswarm.model.decoder import Decoder
from jswarm.training.data import Batch, Loader, Rows, digest, pad

_TELL = 10.0  # seconds between two lines about a run

LossFn = Callable[[PyTree, PyTree, Any], tuple[jax.Array, jax.Array]]
"""(weights, frozen, `Batch` or what a loader gives) -> summed loss, learnt tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How one model or adapter is tuned.

  Attributes:
    steps: updates in all.
    batch: rows an update.
    multiple: rows are padded to a multiple of so many tokens: one program each.
    lr: peak learning rate, after `warmup` updates; it then falls as a cosine to
      `lr * final`.
    weight_decay: of AdamW, on everything but norms and biases.
    clip: greatest norm of the gradient.
    seed: of the order of the data.
    init_seed: of the initial weights. Experts that start from the same A stay close
      enough to be interpolated factor by factor.
    rank, alpha: r of an adapter and its scale alpha / r (Hu et al. 2021).
    targets: projections that get an adapter, from `PROJECTIONS`.
    mixes: mixes of the pool's experts in a batch, in each of which as many rows; its
      experts are then tuned together, so that mixes keep what they know
      (`training/together.py`). 0: each expert is tuned alone.
    eval_every, save_every: updates between dev losses and between checkpoints; 0:
      only at the end, and never.
  """

  steps: int
  batch: int = 64
  multiple: int = 16
  lr: float = 1e-3
  warmup: int = 50
  final: float = 0.1
  weight_decay: float = 0.0
  clip: float = 1.0
  seed: int = 0
  init_seed: int = 0
  rank: int = 8
  alpha: float = 16.0
  targets: tuple[str, ...] = tuple(PROJECTIONS)
  mixes: int = 0
  eval_every: int = 0
  save_every: int = 0

  def __post_init__(self):
    for field in ("steps", "batch", "multiple", "rank"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field}={getattr(self, field)}: allowed is 1 or more")
    for field in ("lr", "clip", "alpha"):
      if getattr(self, field) <= 0:
        raise ValueError(f"{field}={getattr(self, field)}: allowed is above 0")
    if self.mixes < 0 or (self.mixes and self.batch % self.mixes):
      raise ValueError(
        f"mixes={self.mixes}: allowed are 0 and divisors of batch={self.batch}"
      )
    unknown = sorted(set(self.targets) - set(PROJECTIONS))
    if unknown or not self.targets:
      raise ValueError(
        f"targets={self.targets}: unknown {unknown}; allowed are one or more of "
        f"{', '.join(PROJECTIONS)}"
      )


@flax.struct.dataclass
class State:
  """All that a step changes."""

  step: jax.Array  # int32, updates made
  weights: PyTree
  opt: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """What came out. `dev_loss`: step -> mean loss of a dev token."""

  weights: PyTree
  dev_loss: dict[int, float]


def sft(
  decoder: Decoder,
  params: PyTree,
  train: Rows,
  dev: Rows | None,
  settings: Settings,
  *,
  folder: str | os.PathLike | None = None,
  name: str = "",
) -> Trained:
  """Tunes a LoRA adapter on frozen `params`.

  Args:
    decoder, params: the base; params stacked or unstacked.
    train, dev: tokenized records; dev None: no dev loss.
    settings: the adapter's and the optimiser's.
    folder: of checkpoints; an earlier run in it is continued. None: keep none.
    name: what the progress bar shows.

  Returns:
    `Trained` whose weights are an adapter {"q": {"A": [L, D, r], "B": [L, r, n]},
    ...}, float32, the scale folded into B.

  Raises:
    ValueError: the loss is not finite; the folder holds another run.
  """
  scale = settings.alpha / settings.rank
  loss = make_loss(decoder, scale)
  start = init_adapter(jax.random.key(settings.init_seed), decoder.config, settings)
  trained = fit(loss, start, params, train, dev, settings, folder=folder, name=name)
  return dataclasses.replace(trained, weights=scaled(trained.weights, scale))


def make_loss(decoder: Decoder, scale: float) -> LossFn:
  """The loss of an adapter {"q": {"A", "B"}, ...} of which `scale` times counts."""

  def loss(adapter, base, batch):
    stacked = jax.tree.map(lambda x: x[None], scaled(adapter, scale))
    mix = jnp.ones((batch.tokens.shape[0], 1), jnp.float32)
    return cross_entropy(
      decoder.apply(base, batch.tokens, batch.positions, None, stacked, mix)[0], batch
    )

  return loss


def pretrain(
  decoder: Decoder,
  train: Rows,
  dev: Rows | None,
  settings: Settings,
  *,
  folder: str | os.PathLike | None = None,
  name: str = "base",
) -> Trained:
  """Trains all weights of a fresh model; arguments and errors as of `sft`.

  Returns:
    `Trained` whose weights are stacked decoder params.
  """
  if settings.mixes:
    raise ValueError(f"mixes={settings.mixes}: a base has none; allowed is 0")

  def loss(params, _, batch):
    return cross_entropy(decoder.apply(params, batch.tokens, batch.positions)[0], batch)

  start = decoder.init(jax.random.key(settings.init_seed))
  return fit(loss, start, {}, train, dev, settings, folder=folder, name=name)


def init_adapter(key: jax.Array, config, settings: Settings) -> PyTree:
  """A from N(0, 1 / D), B zero: the adapter changes nothing yet."""
  shapes = projection_shapes(config)
  adapter = {}
  for name in sorted(settings.targets):
    width, out = shapes[name]
    own = jax.random.fold_in(key, sorted(PROJECTIONS).index(name))
    a = jax.random.normal(own, (config.layers, width, settings.rank)) * width**-0.5
    adapter[name] = {"A": a, "B": jnp.zeros((config.layers, settings.rank, out))}
  return adapter


def scaled(adapter: PyTree, scale: float) -> PyTree:
  """The adapter with `scale` times its update: folded into B."""
  return {n: {"A": f["A"], "B": f["B"] * scale} for n, f in adapter.items()}


def cross_entropy(logits: jax.Array, batch: Batch) -> tuple[jax.Array, jax.Array]:
  """(summed loss, number of learnt tokens) of logits [B, T, V]."""
  wanted, weights = batch.tokens[:, 1:], batch.weights[:, 1:]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], wanted)
  return jnp.sum(losses * weights), jnp.sum(weights)


def learning_rate(settings: Settings) -> optax.Schedule:
  """Linear warmup to `lr`, then a cosine down to `lr * final`."""
  warmup = min(settings.warmup, settings.steps - 1)
  return optax.warmup_cosine_decay_schedule(
    0.0 if warmup else settings.lr,
    settings.lr,
    warmup,
    settings.steps,
    settings.lr * settings.final,
  )


def optimizer(settings: Settings) -> optax.GradientTransformation:
  """AdamW after clipping."""
  matrices = lambda tree: jax.tree.map_with_path(
    lambda path, _: path[-1].key not in ("scale", "bias"), tree
  )
  return optax.chain(
    optax.clip_by_global_norm(settings.clip),
    optax.adamw(
      learning_rate(settings),
      b2=0.98,
      weight_decay=settings.weight_decay,
      mask=matrices,
    ),
  )


def fit(
  loss: LossFn,
  start: PyTree,
  frozen: PyTree,
  train: Rows,
  dev: Rows | None,
  settings: Settings,
  *,
  folder=None,
  name: str = "",
  loader: Callable[[int], Any] | None = None,
) -> Trained:
  """Minimises `loss(weights, frozen, batch)` over the weights; see `sft`.

  Args:
    loader: update -> its batch, with the fields of a `Batch` at least; None: batches
      of `train` as `Loader` plans them.
  """
  tx = optimizer(settings)
  state = State(step=jnp.int32(0), weights=start, opt=tx.init(start))
  if loader is None:
    loader = Loader(train, settings.batch, settings.multiple, settings.seed)
  update = _make_update(loss, tx)
  dev_loss = make_dev_loss(loss, dev, settings)
  with _Saves(folder, settings, train) as saves:
    state, history = saves.restore(state)
    told = _Told(name, settings.steps, int(state.step))
    bar = tqdm(
      range(int(state.step), settings.steps),
      initial=int(state.step),
      total=settings.steps,
      desc=name,
      unit="step",
      disable=None,
    )
    for step in bar:
      batch = loader(step)
      with told.compiling(batch.tokens.shape):
        state, value = update(state, frozen, batch)
      done = step + 1
      due = bar.disable and told.due
      if (
        done % 20 == 0 or done == settings.steps or due
      ):  # a value waits for the device
        value = _finite(float(value), done, name)
        bar.set_postfix(loss=f"{value:.3f}")
        if bar.disable:
          told(done, value)
      if dev and (done == settings.steps or _due(done, settings.eval_every)):
        history[done] = dev_loss(state.weights, frozen)
        logging.info("%s step %d: dev loss %.4f", name, done, history[done])
      if _due(done, settings.save_every):
        saves.save(state, history)
  return Trained(weights=state.weights, dev_loss=history)


class _Told:
  """Lines of the log about a run, for where nobody sees its progress bar."""

  def __init__(self, name: str, steps: int, done: int):
    self._name, self._steps, self._first = name or "training", steps, done
    self._began = self._last = time.monotonic()
    self._shapes: set[tuple[int, ...]] = set()

  @property
  def due(self) -> bool:
    return time.monotonic() - self._last >= _TELL

  def compiling(self, shape: tuple[int, ...]):
    """Round a step: the first one of a shape takes as long as its compilation."""
    new = shape not in self._shapes
    self._shapes.add(shape)
    rows, tokens = shape
    what = f"{self._name}: compiling a step of {rows} rows of {tokens} tokens"
    return waits.told(what, new)

  def __call__(self, done: int, loss: float) -> None:
    """A line every `_TELL` seconds, and one at the end."""
    now = time.monotonic()
    if not self.due and done < self._steps:
      return
    self._last, passed = now, now - self._began
    left = passed / (done - self._first) * (self._steps - done)
    logging.info(
      "%s: step %d of %d, loss %.3f, %.0f s, about %.0f s left",
      self._name,
      done,
      self._steps,
      loss,
      passed,
      left,
    )


def make_dev_loss(loss: LossFn, dev: Rows | None, settings: Settings):
  """(weights, frozen) -> mean loss of a learnt dev token."""
  total = jax.jit(loss)
  batches = []
  if dev:
    order = np.argsort([len(t) for t in dev.tokens], kind="stable").tolist()
    batches = [
      pad(dev, order[i : i + settings.batch], settings.batch, settings.multiple)
      for i in range(0, len(order), settings.batch)
    ]

  def dev_loss(weights, frozen):
    sums = np.sum([total(weights, frozen, batch) for batch in batches], axis=0)
    return float(sums[0] / sums[1])

  return dev_loss


def _make_update(loss, tx):
  """(state, frozen, batch) -> (state, loss)."""

  def mean(weights, frozen, batch):
    value, count = loss(weights, frozen, batch)
    return value / jnp.maximum(count, 1.0)

  @jax.jit
  def update(state, frozen, batch):
    value, grads = jax.value_and_grad(mean)(state.weights, frozen, batch)
    change, opt = tx.update(grads, state.opt, state.weights)
    weights = optax.apply_updates(state.weights, change)
    return State(step=state.step + 1, weights=weights, opt=opt), value

  return update


class _Saves:
  """Checkpoints of one run; does nothing without a folder."""

  def __init__(self, folder, settings, train):
    self._manager: ocp.CheckpointManager | None = None
    self._run = {**_printable(settings), "data": digest(train)}
    if folder is not None:
      options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=True, enable_async_checkpointing=False
      )
      self._manager = ocp.CheckpointManager(
        os.path.abspath(folder), options=options, item_names=("state", "host")
      )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self._manager:
      self._manager.close()

  def save(self, state: State, history: dict[int, float]) -> None:
    if self._manager:
      host = {"run": self._run, "dev_loss": list(history.items())}
      self._manager.save(
        int(state.step),
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host)
        ),
      )

  def restore(self, fresh: State) -> tuple[State, dict[int, float]]:
    """The newest checkpoint, or `fresh`."""
    manager = self._manager
    step = manager.latest_step() if manager else None
    if manager is None or step is None:
      return fresh, {}
    found = manager.restore(step, args=ocp.args.Composite(host=ocp.args.JsonRestore()))[
      "host"
    ]
    self._check(found["run"], manager.directory)
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, fresh)
    state = manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(template))
    )["state"]
    logging.info("continuing %s at step %d", manager.directory, step)
    return state, {int(k): v for k, v in found["dev_loss"]}

  def _check(self, found, folder):
    changed = [k for k, v in self._run.items() if found.get(k) != v]
    if changed:
      k = changed[0]
      raise ValueError(
        f"{folder} holds a run with {k}={found.get(k)!r}, this one "
        f"has {k}={self._run[k]!r}: set it back, or use another folder"
      )


def _printable(settings):
  fields = dataclasses.asdict(settings)
  return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _due(done: int, every: int) -> bool:
  return every > 0 and done % every == 0


def _finite(value: float, step: int, name: str) -> float:
  if not np.isfinite(value):
    raise ValueError(
      f"the loss of {name or 'the run'} is {value} at step {step}: lower lr (or clip)"
    )
  return value
