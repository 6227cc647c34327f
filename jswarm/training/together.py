"""Tuning of all experts of a pool at once, so that mixes of them keep what they know.

    shares of P mixes -> whose record each row is -> loss of the mixes -> all B

Each batch has P mixes from the whole simplex of the experts, and each row of a mix is a
record of an expert that is drawn by its share. So a mix learns to answer what its
experts answer, in proportion, and an expert alone is a corner of it (Wortsman et al.
2021, "Learning neural network subspaces", arXiv 2102.10472, tune simplexes of whole
networks). All experts keep the A from which they start and tune B alone (Zhang et al.
2023, "LoRA-FA", arXiv 2308.03303): the mix of two experts' factors is then the mix of
their updates.
"""

from collections.abc import Mapping, Sequence
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import PyTree
from jswarm.model.decoder import Decoder
from jswarm.training import sft
from jswarm.training.data import Rows, pad

# Powers of ten of the concentrations of the Dirichlet distributions that mixes come
# from: one expert alone, as good as, up to nearly equal parts of all.
SPREAD = (-2.5, 1.0)


class Mixed(NamedTuple):
  """A `Batch` whose rows lie in P equal blocks, one a mix."""

  tokens: np.ndarray  # [B, T] int32
  positions: np.ndarray  # [B, T] int32, -1 = padding
  weights: np.ndarray  # [B, T] float32, 1 where the token is to be learnt
  shares: np.ndarray  # [P, E] float32, of the experts in each mix


def tune(
  decoder: Decoder,
  params: PyTree,
  train: Mapping[str, Rows],
  dev: Mapping[str, Rows | None],
  settings: sft.Settings,
  *,
  folder: str | os.PathLike | None = None,
) -> dict[str, sft.Trained]:
  """Tunes adapters of all experts on frozen `params`; arguments as of `sft.sft`.

  Args:
    train, dev: rows of each expert by its name.

  Returns:
    {expert: `Trained`}, all with one A; `dev_loss` is that of the expert alone.
  """
  config, scale = decoder.config, settings.alpha / settings.rank
  start = sft.init_adapter(jax.random.key(settings.init_seed), config, settings)
  down = {name: factors["A"] for name, factors in start.items()}
  up = {name: _repeated(factors["B"], len(train)) for name, factors in start.items()}
  rows = list(train.values())
  together = Rows(
    [tokens for one in rows for tokens in one.tokens],
    [begin for one in rows for begin in one.starts],
  )
  tuned = sft.fit(
    _make_loss(decoder, scale),
    up,
    (params, down),
    together,
    None,
    settings,
    folder=folder,
    name=f"{len(rows)} experts",
    loader=Loader(rows, settings),
  )
  alone = sft.make_loss(decoder, 1.0)
  found = {}
  for e, name in enumerate(train):
    up = {n: b[e] for n, b in tuned.weights.items()}
    adapter = sft.scaled({n: {"A": down[n], "B": up[n]} for n in up}, scale)
    lost = {}
    if dev[name]:
      lost[settings.steps] = sft.make_dev_loss(alone, dev[name], settings)(
        adapter, params
      )
    found[name] = sft.Trained(weights=adapter, dev_loss=lost)
  return found


class Loader:
  """Batches of mixes by step; equal arguments give equal batches.

  A batch has rows of like length as far as its experts have them.
  """

  def __init__(self, rows: Sequence[Rows], settings: sft.Settings):
    self._rows, self._settings = rows, settings
    lengths = [np.array([len(t) for t in one.tokens]) for one in rows]
    self._buckets = [-(-each // settings.multiple) for each in lengths]
    self._all = np.concatenate(self._buckets)

  def __call__(self, step: int) -> Mixed:
    s = self._settings
    rng = np.random.default_rng((s.seed, step))
    shares = draw_shares(rng, s.mixes, len(self._rows))
    size = rng.choice(self._all)
    tokens, starts = [], []
    for mix in np.repeat(np.arange(s.mixes), s.batch // s.mixes):
      expert = rng.choice(len(self._rows), p=shares[mix])
      found = np.flatnonzero(self._buckets[expert] == size)
      chosen = rng.choice(found if len(found) else len(self._buckets[expert]))
      tokens.append(self._rows[expert].tokens[chosen])
      starts.append(self._rows[expert].starts[chosen])
    batch = pad(Rows(tokens, starts), range(s.batch), s.batch, s.multiple)
    return Mixed(*batch, shares.astype(np.float32))


def draw_shares(rng: np.random.Generator, mixes: int, experts: int) -> np.ndarray:
  """Points of the simplex [P, E], float64: from one expert alone to all in equal parts.

  Each mix is from a Dirichlet distribution of its own concentration, see `SPREAD`.
  """
  each = np.broadcast_to(10 ** rng.uniform(*SPREAD, (mixes, 1)), (mixes, experts))
  # Gamma(a) is Gamma(a + 1) U^(1/a); its logarithm, as it is too small for a float.
  logs = np.log(rng.standard_gamma(each + 1)) + np.log1p(-rng.random(each.shape)) / each
  drawn = np.exp(logs - logs.max(axis=1, keepdims=True))
  return drawn / drawn.sum(axis=1, keepdims=True)


def _make_loss(decoder, scale):
  """The loss of all B [E, L, r, n] on mixes of them, given (params, A)."""

  def loss(up, frozen, batch):
    params, down = frozen
    mixed = {
      name: jnp.einsum("pe,elrn->plrn", batch.shares, b) for name, b in up.items()
    }
    mixes = len(batch.shares)
    blocks = lambda x: x.reshape(mixes, -1, x.shape[-1])

    def one(ups, tokens, positions):
      factors = {n: {"A": down[n][None], "B": b[None] * scale} for n, b in ups.items()}
      mix = jnp.ones((len(tokens), 1), jnp.float32)
      return decoder.apply(params, tokens, positions, None, factors, mix)[0]

    logits = jax.vmap(one)(mixed, blocks(batch.tokens), blocks(batch.positions))
    return sft.cross_entropy(logits.reshape(-1, *logits.shape[2:]), batch)

  return loss


def _repeated(x, count):
  return jnp.broadcast_to(x, (count, *x.shape))
