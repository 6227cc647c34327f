"""The found system as a folder: System <-> jswarm_system.json + adapters.

The DAG that scored is stored decoded and is never sampled again. Each expert is a
folder that also loads alone (PEFT adapter, or a whole model). Nothing in it is a pickle
or knows a path of this machine, but for here.json; see docs/systems_on_disk.md.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import os
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from jswarm.core import quick
from jswarm.core.files import is_below, read_json, write_json, write_jsonl
from jswarm.core.types import Experts
from jswarm.distributed import processes
from jswarm.systems import card, drawing, portable, waves
from jswarm.systems import prompts as prompts_lib
from jswarm.systems import system as system_lib
from jswarm.systems.system import System
from jswarm.systems.weights import Weights

SCHEMA = 1
FILE = "jswarm_system.json"
_OF_THE_RUN = (
  "timing",
  "history",
)  # in results.json, and not given away
_UNSEALED = ("SHA256SUMS", portable.HERE)  # under no checksum


@dataclasses.dataclass(frozen=True)
class LoadedSystem:
  """A system that answers; see `jswarm.load_system`.

  Attributes:
    job: the DAG with its experts. experts: the pool of just those experts.
    wording, limit, chat: as in the search. description: the JSON.
  """

  job: system_lib.Job
  experts: Experts
  wording: prompts_lib.Wording
  limit: int
  chat: bool
  description: Mapping[str, Any]

  def generate(self, prompts: Sequence[str], *, limit: int | None = None) -> list[str]:
    """The system's reply to each prompt; `limit`: most new tokens of every node."""
    return [answered.reply for answered in self.trace(prompts, limit=limit)]

  def trace(
    self,
    prompts: Sequence[str],
    *,
    limit: int | None = None,
    chunks: Sequence[tuple[str, ...]] | None = None,
  ) -> list[waves.Answered]:
    """Also what every node said; `chunks`: context, one for each node, a prompt."""
    chunks = chunks or [None] * len(prompts)
    questions = [
      prompts_lib.Question(p, c) for p, c in zip(prompts, chunks, strict=True)
    ]
    terms = prompts_lib.Terms(
      self.experts, self.wording, limit or self.limit, self.chat
    )
    items = waves.grid([self.job], [questions])
    return waves.run(items, terms, waves.direct(self.experts))


@dataclasses.dataclass(frozen=True)
class Found:
  """What a search says of its system, to be kept with it.

  Attributes:
    config: of the search, flat. results: the content of results.json.
    samples: rows of what was asked and said on test.
  """

  config: Mapping[str, Any]
  results: Mapping[str, Any]
  samples: Sequence[Mapping[str, Any]]


@quick.jit
def _finite(trees):
  return jax.tree.map(lambda x: jnp.isfinite(x).all(), trees)


def job_of(system: System, weights: Weights | None = None) -> system_lib.Job:
  """The system as something to execute; its weights under their versions, or none."""
  return system_lib.make_job(system.graph.dag, np.asarray(system.assignment), weights)


def describe(system: System, names: Sequence[str]) -> dict[str, Any]:
  """Nodes, edges and origin of a system, JSON-able."""
  job = job_of(system)
  edges = [
    [int(i), int(j)]
    for i, j in zip(*np.nonzero(job.edges))
    if job.depth[i] >= 0 and job.depth[j] >= 0
  ]
  order = [int(n) for n in np.argsort(job.position) if job.depth[n] >= 0]
  return {
    "nodes": [
      {"id": n, "expert": names[job.assignment[n]], "depth": int(job.depth[n])}
      for n in order
    ],
    "edges": edges,
    "topological_order": order,
    "end": job.end,
    "dev": float(system.utility),
    "iteration": int(system.iteration),
    "step": ("role", "weight")[int(system.step)],
  }


def save(
  folder: str | os.PathLike,
  system: System,
  experts: Experts,
  wording: prompts_lib.Wording,
  *,
  limit: int,
  chat: bool,
  serving: Mapping[str, Any],
  context: Mapping[str, Any],
  scoring: Mapping[str, Any] | None = None,
  found: Found | None = None,
) -> None:
  """Writes the system; an older one of that name is replaced as a whole.

  Of several processes rank 0 writes it, and each the experts that it alone holds.

  Args:
    folder: the system's folder.
    system: what to write; only the experts that it executes are stored.
    experts: the pool it was found in.
    wording, limit, chat: how its nodes are asked.
    serving: fields of the config that decide what they say: dtype, sampling, seed ...
    context: JSON-able facts for the model card: task, scores, config.
    scoring: how its replies were read: kind, parser, version of what reads them.
    found: what the search says of it besides.

  Raises:
    ValueError: a weight is not finite; nothing was written.
  """
  folder = pathlib.Path(folder)
  if not all(bool(finite) for finite in jax.tree.leaves(_finite(system.weights))):
    raise ValueError(
      f"{folder}: the weights of the system are not finite, so it is not saved; an"
      " earlier checkpoint of the search has sound ones."
    )
  partial = folder.with_name(folder.name + ".part")
  if processes.is_writer():
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
  processes.barrier("the system's folder")
  described = describe(system, experts.names)
  job = job_of(system)
  used = sorted({job.assignment[n] for n in described["topological_order"]})
  stored = experts.save(str(partial), system.weights, used)
  if not processes.is_writer():
    return
  stored = portable.name_bases(partial, stored)
  adjacency = np.asarray(system.graph.adjacency, np.float32)
  edges = job.edges.astype(np.uint8)
  save_file({"adjacency": adjacency, "edges": edges}, partial / "adjacency.safetensors")
  write_json(
    partial / FILE,
    {
      "schema_version": SCHEMA,
      **described,
      "num_nodes": len(job.edges),
      "experts": stored,
      "wording": dataclasses.asdict(wording),
      "limit": limit,
      "chat": chat,
      "serving": dict(serving),
      "context": portable.named(context),
      **({"scoring": dict(scoring)} if scoring else {}),
    },
  )
  _write_pictures(partial, described)
  _write_wording(partial, wording)
  _write_cards(partial, described, stored, portable.named(context))
  if found:
    _write_found(partial, found)
  _write_sums(partial)
  _replace(folder, partial)


def read(folder: str | os.PathLike) -> tuple[dict[str, Any], system_lib.Job]:
  """(description, job) of a saved system; node experts index `description["experts"]`.

  Raises:
    ValueError: no system there, another schema, or a file that was changed.
  """
  folder = pathlib.Path(folder)
  if not (folder / FILE).is_file():
    raise ValueError(f"{folder} holds no {FILE}: give the `best` folder of a run.")
  description = read_json(folder / FILE)
  if description.get("schema_version") != SCHEMA:
    raise ValueError(
      f"{folder / FILE}: schema_version"
      f" {description.get('schema_version')!r}, this jswarm reads"
      f" {SCHEMA}; use the version that wrote it."
    )
  _check_sums(folder)
  _check_places(folder, description)
  names = list(description["experts"])
  size = description["num_nodes"]
  edges, depth = np.zeros((size, size), bool), np.full(size, -1)
  for i, j in description["edges"]:
    edges[i, j] = True
  assignment = np.zeros(size, int)
  for node in description["nodes"]:
    depth[node["id"]] = node["depth"]
    assignment[node["id"]] = names.index(node["expert"])
  position = np.zeros(size, int)
  position[description["topological_order"]] = np.arange(len(description["nodes"]))
  return description, system_lib.Job(
    edges, depth, position, description["end"], tuple(assignment.tolist())
  )


def _replace(folder, partial):
  """Puts a folder that is whole in the place of an older one."""
  old = folder.with_name(folder.name + ".old")
  shutil.rmtree(old, ignore_errors=True)
  if folder.exists():
    folder.rename(old)
  partial.rename(folder)
  shutil.rmtree(old, ignore_errors=True)


def _write_wording(folder, wording):
  """The sentences around a question, each in a file of its own, byte for byte."""
  (folder / "prompts").mkdir()
  for name, text in dataclasses.asdict(wording).items():
    if isinstance(text, str):
      (folder / "prompts" / f"{name}.txt").write_bytes(text.encode())


def _write_found(folder, found):
  """What a search says of the system: its configuration, scores and samples."""
  if found.config:
    write_json(folder / "config.json", portable.named(found.config))
  (folder / "eval").mkdir()
  if found.results:
    kept = {k: v for k, v in found.results.items() if k not in _OF_THE_RUN}
    write_json(folder / "eval" / "results.json", portable.named(kept))
  if found.samples:
    write_jsonl(folder / "eval" / "samples_test.jsonl", found.samples)


def _write_pictures(folder, described):
  (folder / "graph.mmd").write_text(drawing.mermaid(described), "utf-8")
  (folder / "graph.dot").write_text(drawing.dot(described), "utf-8")
  (folder / "graph.svg").write_text(drawing.svg(described), "utf-8")


def _write_cards(folder, described, stored, context):
  (folder / "README.md").write_text(card.card(described, stored, context), "utf-8")
  for name, entry in stored.items():
    if entry.get("kind") == "lora":
      text = card.expert_card(name, entry["base"])
      (folder / entry["path"] / "README.md").write_text(text, "utf-8")


def _files(folder):
  return sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in _UNSEALED)


def _sum(path):
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _write_sums(folder):
  lines = [f"{_sum(p)}  {p.relative_to(folder).as_posix()}\n" for p in _files(folder)]
  (folder / "SHA256SUMS").write_text("".join(lines))


def _check_sums(folder):
  sums = folder / "SHA256SUMS"
  if not sums.is_file():
    raise ValueError(f"{sums} is missing: the folder was not written to its end.")
  for line in sums.read_text("utf-8", "replace").splitlines():
    digest, _, name = line.partition("  ")
    if not is_below(name):
      raise ValueError(
        f"{sums} names {name!r}; allowed are files in its own folder: copy the folder"
        " again."
      )
    if not (folder / name).is_file() or _sum(folder / name) != digest:
      raise ValueError(
        f"{folder / name} is missing or was changed since the system"
        " was saved: copy the folder again."
      )


def _check_places(folder, description):
  """Raises ValueError unless every expert lies in the system's own folder."""
  for name, entry in description["experts"].items():
    if not is_below(entry["path"]):
      raise ValueError(
        f"{folder / FILE}: the expert {name!r} lies at {entry['path']!r}; allowed are"
        " folders below that of the system: copy it again from where it was made."
      )
