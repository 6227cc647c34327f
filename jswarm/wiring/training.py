"""Configuration of a pool to train, such as configs/tiny_pool.py -> typed settings."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from ml_collections import ConfigDict

from jswarm.core.types import Request
from jswarm.engine import engine
from jswarm.model.architecture import DecoderConfig
from jswarm.pool import load
from jswarm.training import pool, sft, sources
from jswarm.wiring import config as config_lib


def arguments(config: ConfigDict) -> dict[str, Any]:
  """Arguments of `pool.train_pool` from a config like configs/tiny_pool.py.

  Raises:
    ValueError: a field is unknown, missing or impossible; names it and the allowed.
  """
  c = config.to_dict()
  needed = dict.fromkeys(("base", "experts", "max_tokens", "settings"), True)
  _check_fields(c, {**needed, "save_dtype": False}, "the config")
  if not c["experts"] or not isinstance(c["experts"], Mapping):
    raise ValueError(
      f"experts is {c['experts']!r}: allowed is a section with a source"
      " for each expert's name; add at least one."
    )
  base = c["base"]
  if not isinstance(base, str):  # else a folder or hub id
    _check_fields(base, _needed(pool.Scratch), "base")
    shape = _needed(DecoderConfig)
    del shape["vocab"]  # the tokenizer's
    _check_fields(base["config"], shape, "base.config")
    base = pool.Scratch(
      **{
        **base,
        "source": _typed(sources.Source, base["source"], "base.source"),
        "settings": _typed(sft.Settings, base["settings"], "base.settings"),
      }
    )
  return dict(
    base=base,
    max_tokens=c["max_tokens"],
    save_dtype=c.get("save_dtype", "float32"),
    settings=_typed(sft.Settings, c["settings"], "settings"),
    sources={
      name: _typed(sources.Source, source, f"experts.{name}")
      for name, source in c["experts"].items()
    },
    ask=ask_each,
  )


def ask_each(
  group: load.Group, prompts: Sequence[str], limit: int, chat: bool
) -> list[list[str]]:
  """What each member of a group says to the same prompts; a `pool.AskEach`."""
  serving = config_lib.resolve_default({"engine.rows": 32, "engine.devices": 1}).engine
  names = tuple(spec.name for spec in group.specs)
  experts = engine.make_experts(load.Pool(names, (group,)), serving)
  requests = [
    Request(member, prompt, limit, chat)
    for member in range(len(names))
    for prompt in prompts
  ]
  said = [reply.text for reply in experts.ask(requests)]
  size = len(prompts)
  return [said[m * size : (m + 1) * size] for m in range(len(names))]


def _typed(kind, fields, where):
  _check_fields(fields, _needed(kind), where)
  try:
    return kind(**fields)
  except (TypeError, ValueError) as error:
    raise ValueError(f"{where}: {error}") from error


def _needed(kind):
  """{field of a dataclass: whether it has no default}."""
  return {
    f.name: f.default is f.default_factory is dataclasses.MISSING
    for f in dataclasses.fields(kind)
  }


def _check_fields(fields, known, where):
  """Raises ValueError unless `fields` are among `known` and all the needed ones."""
  allowed = ", ".join(
    f"{name} (needed)" if known[name] else name for name in sorted(known)
  )
  if not isinstance(fields, Mapping):
    raise ValueError(
      f"{where} is {fields!r}; allowed is a section with the fields {allowed}."
    )
  unknown = sorted(set(fields) - set(known))
  missing = sorted(name for name in known if known[name] and name not in fields)
  if unknown or missing:
    found = [
      f"{what} {', '.join(map(repr, names))}"
      for what, names in (("unknown", unknown), ("missing", missing))
      if names
    ]
    raise ValueError(
      f"{where}: {' and '.join(found)}. Allowed are {allowed}: rename or"
      " remove what is unknown, add what is missing."
    )
