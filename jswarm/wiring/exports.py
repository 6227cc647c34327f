"""A saved system -> what other programs take: adapters, models, servers, pictures.

artifact -> peft, vllm, hub, mermaid, dot: files alone
         -> pool -> merged -> gguf: every expert as a whole model
"""

from collections.abc import Iterator, Mapping
import hashlib
import os
import pathlib
import shlex
import shutil
from typing import Any

from absl import logging
import jax
import numpy as np

from jswarm.core import lookup
from jswarm.core.files import read_json, write_json
from jswarm.formats import gguf_export, hf_model
from jswarm.model import lora
from jswarm.pool.load import Group
from jswarm.systems import artifact, drawing, openai_client, portable
from jswarm.wiring import system

_PORT = 8000  # of the first server; each further base has the next one
# vLLM takes no other ranks of adapters.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def export(
  folder: str | os.PathLike, to: str, out: str | os.PathLike, *, base: str = ""
) -> list[pathlib.Path]:
  """Writes a saved system in another form.

  Args:
    folder: of the system, `best` of a run. to: one of `EXPORTS`.
    out: a folder, made if needed; of mermaid and dot a file.
    base: where the base is now, if not where it was in the search.

  Returns:
    What was written.

  Raises:
    ValueError: no such form, no system there, `out` has files in it, or an expert that
      the form cannot say.
  """
  lookup.check("--to", to, EXPORTS)
  description, _ = artifact.read(folder)
  out = pathlib.Path(out)
  if out.is_dir() and any(out.iterdir()):
    raise ValueError(f"{out} has files in it: give a new folder.")
  return EXPORTS[to](pathlib.Path(folder), description, out, base)


def _peft(folder, description, out, base):
  """Each adapter alone, as PEFT loads it."""
  del base
  stored = _adapters(description, "peft")
  return [
    pathlib.Path(shutil.copytree(folder / entry["path"], out / name))
    for name, entry in stored.items()
  ]


def _merged(folder, description, out, base):
  """Each expert as a whole Hugging Face model, its adapter added to its base."""
  del description
  made = []
  for name, group, i, params in _models(folder, base):
    text = group.text(i)
    config = group.config
    hf_model.save_whole(out / name, config, params, text.tokenizer, text.stops)
    made.append(out / name)
  return made


def _gguf(folder, description, out, base):
  """Each expert as two GGUF files, of 16 and of 8 bits."""
  del description
  made = []
  for name, group, i, params in _models(folder, base):
    text = group.text(i)
    for kind in gguf_export.KINDS:
      path = out / f"{name}-{kind}.gguf"
      gguf_export.save(path, group.config, params, text.tokenizer, text.stops, kind)
      made.append(path)
  return made


def _vllm(folder, description, out, base):
  """serve.sh with a server a base, and a client that runs the graph against them."""
  stored, commands, endpoints = description["experts"], [], {}
  out.mkdir(parents=True, exist_ok=True)
  for entry in stored.values():
    shutil.copytree(folder / entry["path"], out / entry["path"])
  for k, (place, mine) in enumerate(_by_base(stored).items()):
    url = f"http://127.0.0.1:{_PORT + k}/v1"
    models = {name: _version(folder, name, entry) for name, entry in mine.items()}
    endpoints |= {name: {"url": url, "model": models[name]} for name in mine}
    known = portable.places(folder).get(place, place)
    commands.append(_command(out, base or known, mine, models, _PORT + k))
  write_json(out / "endpoints.json", endpoints)
  shutil.copyfile(folder / artifact.FILE, out / artifact.FILE)
  shutil.copyfile(openai_client.__file__, out / "openai_client.py")
  lines = ["#!/bin/sh", "# One server a base; run from this folder.", *commands, "wait"]
  (out / "serve.sh").write_text("\n".join(lines) + "\n", "utf-8")
  (out / "serve.sh").chmod(0o755)
  return [out / "serve.sh", out / "openai_client.py", out / "endpoints.json"]


def _hub(folder, description, out, base):
  """The system without what is true of this machine alone, ready to be uploaded."""
  del base
  here = shutil.ignore_patterns(portable.HERE)
  shutil.copytree(folder, out, ignore=here, dirs_exist_ok=True)
  artifact.read(out)
  stored = description["experts"].values()
  local = {e["base"] for e in stored if "base" in e and "/" not in e["base"]}
  if local:
    logging.warning(
      "%s names bases that are on no hub, %s: write their hub ids into base_model of"
      " README.md, or say there where they are to be had.",
      out,
      ", ".join(sorted(local)),
    )
  return [out]


def _picture(draw):
  def export(folder, description, out, base):
    del folder, base
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(draw(description), "utf-8")
    return [out]

  return export


EXPORTS = {
  "peft": _peft,
  "merged": _merged,
  "gguf": _gguf,
  "vllm": _vllm,
  "hub": _hub,
  "mermaid": _picture(drawing.mermaid),
  "dot": _picture(drawing.dot),
}


def _adapters(description, to) -> Mapping[str, Any]:
  """The experts, all of which are adapters."""
  stored = description["experts"]
  whole = [name for name, entry in stored.items() if entry["kind"] != "lora"]
  if whole:
    raise ValueError(
      f"--to={to} writes adapters, but {', '.join(whole)} are whole models: give"
      " --to=merged."
    )
  return stored


def _models(folder, base) -> Iterator[tuple[str, Group, int, Any]]:
  """(name, group, its place there, params) of every expert, one at a time."""
  for group in system.load_pool(folder, base=base).groups:
    for i, spec in enumerate(group.specs):
      one = jax.tree.map(lambda x, i=i: x[i], group.particles)
      params = one if group.kind == "full" else lora.merge(group.params, one)
      yield spec.name, group, i, jax.tree.map(np.asarray, params)


def _by_base(stored):
  """{base: {name: entry}}; a whole model is its own base."""
  found: dict[str, dict[str, Any]] = {}
  for name, entry in stored.items():
    place = entry["base"] if entry["kind"] == "lora" else entry["path"]
    found.setdefault(place, {})[name] = entry
  return found


def _version(folder, name, entry):
  """A name of these weights alone: servers keep what they had under an old one."""
  if entry["kind"] != "lora":
    return name
  path = folder / entry["path"] / "adapter_model.safetensors"
  with open(path, "rb") as file:
    return f"{name}-{hashlib.file_digest(file, 'sha256').hexdigest()[:8]}"


def _command(out, place, mine, models, port):
  """The line that serves one base with its adapters, or one whole model."""
  kinds = {entry["kind"] for entry in mine.values()}
  if kinds != {"lora"}:
    ((name, entry),) = mine.items()
    path, model = shlex.quote(entry["path"]), shlex.quote(models[name])
    return f"vllm serve {path} --served-model-name {model} --port {port} &"
  configs = [read_json(out / e["path"] / "adapter_config.json") for e in mine.values()]
  rank = max(fields["r"] for fields in configs)
  fitting = [r for r in _RANKS if r >= rank]
  if not fitting:
    raise ValueError(
      f"adapters of rank {rank} are more than vLLM serves ({_RANKS[-1]}): give"
      " --to=merged."
    )
  modules = shlex.join(f"{models[n]}={e['path']}" for n, e in mine.items())
  return (
    f"vllm serve {shlex.quote(place)} --port {port} --enable-lora"
    f" --max-loras {len(mine)} --max-lora-rank {fitting[0]} --lora-modules {modules} &"
  )
