"""Suite `generate`: one model, a prompt of 128 tokens, 64 new ones, by batch size.

Ours is asked through `Experts.ask`, text to text; the peer gets token ids. A second
run with one new token is the prefill, what is left of the whole is the decoding.
"""

from collections.abc import Callable
import tempfile
from typing import NamedTuple

import numpy as np

from jswarm.benchmarks import peers, roofline, workload
from jswarm.benchmarks.harness import (
  Contender,
  Options,
  Record,
  Timing,
  compare,
  interleave,
  minus,
  optional,
)
from jswarm.core.types import Request
from jswarm.formats import tokenizer


class _Sizes(NamedTuple):
  batches: tuple[int, ...]
  prompt: int
  new: int


def _sizes(options):
  return _Sizes((3,), 16, 4) if options.small else _Sizes(options.batches, 128, 64)


def run(options: Options) -> list[Record]:
  """Every dtype of ours beside every dtype of transformers."""
  sizes = _sizes(options)
  ceilings = roofline.measure(options.dtypes, options.small)
  base = workload.load(options.model, "float32", options.small)
  ours = {dtype: _serve(options, dtype, sizes) for dtype in options.dtypes}
  with tempfile.TemporaryDirectory() as folder:
    theirs = _peers(base, folder, options)
  said: dict[str, list[str]] = {}
  records = _ceiling_records(ceilings)
  for batch in sizes.batches:
    prompts = workload.prompts(base, [sizes.prompt] * batch, options.seed)
    contenders = [
      c
      for new in (1, sizes.new)
      for c in _contenders(base, ours, theirs, prompts, new, said)
    ]
    timings = interleave(contenders, options, f"generate, {batch} rows")
    for a in ours:
      for b in options.theirs:
        records += _records(base.config, sizes, batch, a, b, timings, ceilings, said)
  return records


def _serve(options, dtype, sizes):
  base = workload.load(options.model, dtype, options.small)
  return workload.serve(workload.full_pool(base), {"engine.rows": max(sizes.batches)})


def _peers(base, folder, options):
  """{dtype: generate, or the ImportError that stands in its way}."""
  if workload.is_random(options.model) and not options.small:
    return dict.fromkeys(options.theirs, ImportError("random weights are not exported"))
  workload.export(base, folder)
  found: dict[str, Callable | ImportError] = {}
  for dtype in options.theirs:
    try:
      found[dtype] = peers.transformers_generate(folder, dtype)
    except ImportError as error:
      found[dtype] = error
  return found


def _contenders(base, ours, theirs, prompts, new, said):
  made = [
    Contender(f"jswarm {d} {new}", _ours(d, e, prompts, new, said), ours=new > 1)
    for d, e in ours.items()
  ]
  return made + [
    optional(
      f"transformers {d} {new}",
      lambda d=d, g=g: _theirs(d, g, base, prompts, new, said),
    )
    for d, g in theirs.items()
  ]


def _ours(dtype, experts, prompts, new, said):
  requests = [Request(0, prompt, new) for prompt in prompts]

  def ask():
    replies = experts.ask(requests)
    said[f"jswarm {dtype} {new}"] = [reply.text for reply in replies]
    return {
      "prompt_tokens": sum(r.prompt_tokens for r in replies),
      "new_tokens": sum(r.new_tokens for r in replies),
    }

  return ask


def _theirs(dtype, generate, base, prompts, new, said):
  if isinstance(generate, ImportError):
    raise generate
  rows = tokenizer.encode(base.tokenizer, prompts)

  def ask():
    out = generate(rows, new)
    said[f"transformers {dtype} {new}"] = tokenizer.decode(base.tokenizer, out)
    return {"prompt_tokens": sum(map(len, rows)), "new_tokens": sum(map(len, out))}

  return ask


def _records(config, sizes, batch, a, b, timings, ceilings, said):
  """Rows of prefill, decoding and both, for dtype a of ours and b of theirs."""
  get = lambda who, new: timings[f"{who} {new}"]
  names = f"jswarm {a}", f"transformers {b}"
  head = [get(who, 1)._replace(name=who) for who in names]
  whole = [get(who, sizes.new)._replace(name=who) for who in names]
  tail = [minus(x, y) if not x.missing else x for x, y in zip(whole, head)]
  width = roofline.BYTES[a]
  costs = (
    roofline.prefill(config, width, batch, sizes.prompt),
    roofline.decode(config, width, batch, sizes.prompt, sizes.new),
  )
  rows = []
  for phase, pair, cost, count in zip(
    ("prefill", "decode"), (head, tail), costs, ("prompt_tokens", "new_tokens")
  ):
    rows.append(
      _record(
        f"{batch} rows, {phase}",
        pair,
        count,
        {
          "roofline": _fraction(cost, pair[0], a, ceilings),
          "roofline of theirs": _fraction(cost, pair[1], a, ceilings)
          if a == b
          else None,
        },
      )
    )
  mine, other = (said.get(f"{who} {sizes.new}") for who in names)
  agree = sum(x == y for x, y in zip(mine, other)) / batch if other else None
  rows.append(
    _record(
      f"{batch} rows, whole",
      whole,
      "new_tokens",
      {"equal replies": agree, **_rates(whole)},
    )
  )
  return rows


def _record(case, pair, count, extra):
  return compare(
    "generate",
    case,
    *pair,
    unit=count.replace("_", " ")[:-1],
    count=count,
    same=("prompt_tokens", "new_tokens"),
    extra=extra,
  )


def _fraction(cost, timing: Timing, dtype, ceilings):
  seconds = float(np.median(timing.seconds)) if timing.seconds else 0.0
  return roofline.fraction(cost, seconds, dtype, ceilings) if seconds > 0 else None


def _rates(whole):
  """New tokens a second, prefill included."""
  return {
    f"tokens/s {t.name}": t.work["new_tokens"] / float(np.median(t.seconds))
    for t in whole
    if t.seconds
  }


def _ceiling_records(ceilings):
  values = {f"{dtype} GFLOP/s": x / 1e9 for dtype, x in ceilings.operations.items()}
  return [
    Record(
      suite="generate",
      case="ceilings of the device",
      ours="",
      extra={
        **values,
        "read GB/s": ceilings.read / 1e9,
        "copy GB/s": ceilings.copy / 1e9,
      },
    )
  ]
