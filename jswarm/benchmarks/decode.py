"""Suite `decode`: adjacencies of ten nodes -> graphs, all at once or in a loop."""

import jax
import numpy as np

from jswarm.benchmarks import published
from jswarm.benchmarks.harness import Contender, Options, Record, compare, interleave
from jswarm.graphs import decode

NODES = 10
MOST_LOOPED = {True: 100, False: 1000}  # by `small`; loops have no economy of scale


def run(options: Options) -> list[Record]:
  """Greedy and top-p 0.8, by the number of graphs."""
  counts = (1000,) if options.small else (10, 1000, 100_000)
  return [_run(options, top_p, count) for top_p in (0.0, 0.8) for count in counts]


def _run(options, top_p, count):
  key = jax.random.key(options.seed)
  adjacency = decode.init_adjacency(key, count, NODES)
  settings = decode.Settings(top_p=top_p, as_published=True)
  looped = np.asarray(adjacency[: MOST_LOOPED[options.small]], np.float64)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(count))

  def ours():
    dags = jax.block_until_ready(decode.decode_swarm(adjacency, keys, settings))
    return {"graphs": len(dags.end)}

  def loop():
    rng = np.random.default_rng(options.seed)
    return {"graphs": len([published.decode(a, top_p, rng) for a in looped])}

  name = f"{count} graphs, {'greedy' if top_p == 0 else f'top-p {top_p}'}"
  timings = interleave(
    [
      Contender("jswarm decode_swarm", ours, ours=True),
      Contender("published loop", loop),
    ],
    options,
    f"decode, {name}",
  )
  note = f"loop timed on {len(looped)} graphs" if count > len(looped) else ""
  return compare(
    "decode",
    name,
    *timings.values(),
    unit="graph",
    count="graphs",
    extra=_extra(adjacency, looped, keys, settings),
    note=note,
  )


def _extra(adjacency, looped, keys, settings):
  """Greedy decoding is the same function: how many graphs are equal?"""
  if settings.top_p > 0:
    return {}
  dags = decode.decode_swarm(adjacency[: len(looped)], keys[: len(looped)], settings)
  rng = np.random.default_rng(0)
  same = [
    np.array_equal(mine, published.decode(a, 0.0, rng))
    for mine, a in zip(np.asarray(dags.edges), looped)
  ]
  return {"equal graphs": float(np.mean(same))}
