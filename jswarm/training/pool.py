"""Makes a pool of experts: records -> LoRA experts on one base, as PEFT folders.

    data -> sft -> formats.peft_adapter -> ask (dev score, handed in)

Each expert is finished before the next begins, and a finished one is not trained
again, so the same command continues an interrupted pool. With `settings.mixes` all are
tuned at once (`together.py`) and then finished one by one. Beside each stands what it
was made from; under other settings or data it is refused, not taken for the same.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import os
import pathlib
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jswarm.core import lookup
from jswarm.core.files import write_json
from jswarm.formats import hf_model, peft_adapter
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.model import decoder as decoder_lib
from jswarm.model.architecture import DecoderConfig
from jswarm.pool import load as load_lib
from jswarm.pool import specs as specs_lib
from jswarm.tasks.base import Example
from jswarm.tasks.custom import custom_utility, imported
from jswarm.training import data as data_lib
from jswarm.training import provenance, sft, together
from jswarm.training import sources as sources_lib

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}  # of the files
AskEach = Callable[[load_lib.Group, Sequence[str], int, bool], list[list[str]]]
"""(group, prompts, most new tokens, chat) -> replies[member][prompt] of all members."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scratch:
  """A base to train from scratch: its shape, tokenizer and data.

  Attributes:
    config: fields of `DecoderConfig` but the vocabulary's size.
    tokenizer: "pkg.module:function", () -> tokenizer.
    source: its records; settings: of the training.
  """

  config: Mapping[str, Any]
  tokenizer: str
  source: sources_lib.Source
  settings: sft.Settings


def train_pool(
  out: str | os.PathLike,
  base: str | Scratch,
  sources: Mapping[str, sources_lib.Source],
  settings: sft.Settings,
  *,
  max_tokens: int,
  ask: AskEach,
  save_dtype: str = "float32",
) -> list[dict[str, Any]]:
  """Trains a pool into `out`: base/ (if from scratch) and experts/<name>/.

  Args:
    out: folder of the pool; a second call continues there.
    base: folder or hub id of the base, or how to make one.
    sources: expert -> its records; those of expert i are drawn with the seed
      settings.seed + 1 + i.
    settings: of every adapter. All start from the same A, without which the factors
      of two experts could not be averaged.
    max_tokens: longest record; longer ones are left out.
    ask: who answers the dev records, for the dev scores; see `AskEach`.
    save_dtype: "float32" or "bfloat16", of what is written; adapters are tuned on a new
      base as it is written, and scored as they are.

  Returns:
    A row an expert: name, dev_loss, dev_score, base_score on the same records; also
    written to out/pool.json.

  Raises:
    ValueError: a record, a folder or a setting is wrong; named. An expert or the base
      in `out` was made from others; the difference is shown and it stays as it is.
  """
  out = pathlib.Path(out)
  data = {
    name: source.load(settings.seed + 1 + i)
    for i, (name, source) in enumerate(sources.items())
  }
  lookup.check("save_dtype", save_dtype, DTYPES)
  folder = (
    base if isinstance(base, str) else _from_scratch(out, base, max_tokens, save_dtype)
  )
  local = specs_lib.locate(folder)
  config, params = hf_model.load_base(local)
  # Stacked: the backward pass of unrolled layers takes minutes to compile.
  tools = _Base(
    folder,
    config,
    jax.tree.map(jnp.asarray, params),
    tokenizer_lib.load_tokenizer(local),
    decoder_lib.make_decoder(config),
  )
  identity = {
    "base": folder,
    "base_sha256": provenance.base_digest(local),
    **provenance.stored(save_dtype),
  }
  if settings.mixes:
    identity["experts"] = provenance.records_digest(data)
  made = {
    name: provenance.made_from(
      source,
      data[name],
      settings,
      max_tokens,
      {**identity, "source.seed": settings.seed + 1 + i},
    )
    for i, (name, source) in enumerate(sources.items())
  }
  targets = {name: out / "experts" / name for name in sources}
  # All are compared before any is trained.
  finished = {
    name: provenance.recorded(out, target, made[name])
    for name, target in targets.items()
    if (target / "training.json").exists()
  }
  tune = _tuning(out, tools, sources, data, settings, max_tokens)
  rows = []
  for name, source in sources.items():
    if name in finished:
      rows.append(finished[name])
    else:
      rows.append(
        _expert(
          out,
          tools,
          name,
          source,
          data[name][1],
          tune(name),
          settings.steps,
          ask,
          save_dtype,
        )
      )
      # Last: it marks the expert as finished.
      write_json(targets[name] / "training.json", {**rows[-1], "made_from": made[name]})
    logging.info("%s", rows[-1])
    write_json(out / "pool.json", {"base": folder, "experts": rows})
  return rows


@dataclasses.dataclass(frozen=True)
class _Base:
  path: str
  config: DecoderConfig
  params: Any
  tokenizer: Any
  decoder: decoder_lib.Decoder


def _tuning(out, base, sources, data, settings, max_tokens):
  """expert -> `Trained`: by itself, or all at the first call."""
  rows = lambda name: _rows(base.tokenizer, data[name], sources[name], max_tokens)

  def alone(name):
    folder = out / "checkpoints" / name
    return sft.sft(
      base.decoder, base.params, *rows(name), settings, folder=folder, name=name
    )

  @functools.cache
  def all_of_them():
    pairs = {name: rows(name) for name in sources}
    return together.tune(
      base.decoder,
      base.params,
      {name: train for name, (train, _) in pairs.items()},
      {name: dev for name, (_, dev) in pairs.items()},
      settings,
      folder=out / "checkpoints" / "together",
    )

  return (lambda name: all_of_them()[name]) if settings.mixes else alone


def _expert(out, base, name, source, dev, trained, steps, ask, dtype):
  """The row of one expert, written now."""
  written = DTYPES[dtype]
  adapter = jax.tree.map(lambda x: np.asarray(x, written), trained.weights)
  peft_adapter.save_adapter(
    str(out / "experts" / name), adapter, base.path, base.config, written
  )
  adapter = jax.tree.map(lambda x: x.astype(np.float32), adapter)
  return {
    "name": name,
    "steps": steps,
    "dev_loss": list(trained.dev_loss.values())[-1:],
    **_scores(base, adapter, source, dev, ask),
  }


def _from_scratch(out, scratch, max_tokens, dtype):
  """The folder of a base, trained now or found finished."""
  folder = out / "base"
  data = scratch.source.load(scratch.settings.seed)
  made = provenance.made_from(
    scratch.source,
    data,
    scratch.settings,
    max_tokens,
    {
      "tokenizer": scratch.tokenizer,
      **provenance.stored(dtype),
      **{f"config.{k}": v for k, v in scratch.config.items()},
    },
  )
  if (folder / "config.json").exists():
    provenance.recorded(out, folder, made)
    return str(folder)
  tokenizer = imported(scratch.tokenizer, "tokenizer")()
  config = DecoderConfig(vocab=len(tokenizer), **scratch.config)
  train, dev = _rows(tokenizer, data, scratch.source, max_tokens)
  trained = sft.pretrain(
    decoder_lib.make_decoder(config),
    train,
    dev,
    scratch.settings,
    folder=out / "checkpoints" / "base",
  )
  tokenizer.save_pretrained(folder)
  write_json(folder / "training.json", {"made_from": made})
  # Last: its config.json marks the base as finished.
  params = jax.tree.map(lambda x: np.asarray(x, DTYPES[dtype]), trained.weights)
  hf_model.save_base(str(folder), config, params)
  return str(folder)


def _rows(tokenizer, data, source, max_tokens):
  """(train, dev) records -> rows of tokens; dev None where there are no records."""
  tokenize = lambda records: data_lib.tokenize(
    tokenizer, records, chat=source.chat, max_tokens=max_tokens
  )
  train, dev = data
  return tokenize(train), (tokenize(dev) if dev else None)


def _scores(base, adapter, source, records, ask):
  """{"dev_score", "base_score"}: mean score of the expert and of the bare base."""
  if not records:
    return {}
  specs = tuple(specs_lib.Spec(name=n, base=base.path) for n in ("expert", "base"))
  zero = jax.tree.map(np.zeros_like, adapter)
  group = load_lib.Group(
    "lora",
    specs,
    (0, 1),
    base.config,
    base.tokenizer,
    tokenizer_lib.stop_ids(base.tokenizer, specs_lib.locate(base.path)),
    base.params,
    jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), adapter, zero),
  )
  score = custom_utility(source.score or sources_lib.same_as_completion)
  examples = [
    Example(
      id=str(i),
      question=r["prompt"],
      answer=r.get("answer", ""),
      choices=None,
      chunks=None,
      record=r,
      where=f"dev[{i}]",
    )
    for i, r in enumerate(records)
  ]
  said = ask(group, [r["prompt"] for r in records], source.limit, source.chat)
  return {
    key: float(np.mean(score(examples, replies)))
    for key, replies in zip(("dev_score", "base_score"), said)
  }
