"""What users write -> where each expert comes from: folders, hub ids, GGUF files."""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.resources
import os
import pathlib
import re

from jswarm.formats import peft_adapter

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


BUILTIN = "builtin:"  # a path inside the package: the pools that ship with it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
  """Where one expert comes from.

  Attributes:
    name: unique in the pool; names files and columns.
    base: folder, hub id or .gguf file of a whole model.
    adapter: PEFT folder or hub id on that base; empty: the base itself.
    revision: of the expert's own repository: the adapter's, or the whole model's.
    base_revision: of the base under an adapter.
  """

  name: str
  base: str
  adapter: str = ""
  revision: str | None = None
  base_revision: str | None = None

  @property
  def source(self) -> tuple[str, str | None]:
    """The base and its revision: two revisions of one repository are two bases."""
    return self.base, self.base_revision if self.adapter else self.revision


def locate(path: str, revision: str | None = None) -> str:
  """A local path: `builtin:` names a file of the package, else folder or hub id."""
  if path.startswith(BUILTIN):
    return str(
      importlib.resources.files("jswarm") / "data" / path.removeprefix(BUILTIN)
    )
  if path.endswith(".gguf") or os.path.isdir(path):
    return path
  return str(resolve(path, revision))


def parse_specs(
  experts: Sequence[str | Mapping[str, str]], base: str = ""
) -> list[Spec]:
  """Specs from what users write.

  Args:
    experts: each "adapter folder", "model folder", "base+adapter", or a mapping
      with `path` or `base`/`adapter`, optional `name`, `revision` (of the adapter,
      or of the whole model) and `base_revision` (of an adapter's base).
    base: base of adapters that name none; without it their own
      `base_model_name_or_path` is used.

  Raises:
    ValueError: an empty pool, an unknown key, the revision of no base, two experts
      of one name.
  """
  if not experts:
    raise ValueError("pool.experts is empty: name at least one expert.")
  specs = [_parse_spec(expert, base) for expert in experts]
  names = [spec.name for spec in specs]
  for name in names:
    if names.count(name) > 1:
      raise ValueError(
        f"pool.experts has {names.count(name)} experts named {name!r};"
        " give them different `name`s."
      )
  return specs


def _parse_spec(expert, base):
  if isinstance(expert, str):
    expert = {"path": expert}
  known = {"name", "path", "base", "adapter", "revision", "base_revision"}
  unknown = set(expert) - known
  if unknown:
    raise ValueError(
      f"pool.experts entry {dict(expert)}: unknown {sorted(unknown)},"
      f" allowed are {sorted(known)}."
    )
  path, adapter = expert.get("path", ""), expert.get("adapter", "")
  own_base = expert.get("base", "")
  if path and "+" in path and not os.path.exists(path):
    own_base, adapter = path.split("+", 1)
  elif path:
    local = locate(path, expert.get("revision"))
    if os.path.isfile(os.path.join(local, "adapter_config.json")):
      adapter = path
      own_base = own_base or base or peft_adapter.adapter_base(local)
    else:
      own_base = path
  own_base = own_base or base
  if not own_base:
    raise ValueError(
      f"pool.experts entry {dict(expert)} names no base: set pool.base,"
      " or write 'base+adapter'."
    )
  if expert.get("base_revision") and not adapter:
    raise ValueError(
      f"pool.experts entry {dict(expert)} has no adapter, so that"
      " `base_revision` says nothing: a whole model has a `revision`."
    )
  name = expert.get("name") or pathlib.PurePath(adapter or own_base).stem
  return Spec(
    name=name,
    base=own_base,
    adapter=adapter,
    revision=expert.get("revision") or None,
    base_revision=expert.get("base_revision") or None,
  )


def resolve(path_or_hub_id, revision: str | None = None) -> str:
  """A local folder: the argument itself, or the snapshot of a hub repository.

  Args:
    path_or_hub_id: a folder, or "owner/name" on the Hugging Face hub.
    revision: branch, tag or commit; hub only.

  Raises:
    ValueError: neither a folder nor a repository that can be reached.
  """
  path = str(path_or_hub_id)
  if pathlib.Path(path).is_dir():
    return path
  if not _HUB_ID.fullmatch(path):
    raise ValueError(
      f"{path!r} is no folder, nor a hub id of the form owner/name. Check the path."
    )
  import huggingface_hub  # only here: local folders need no network code

  try:
    return huggingface_hub.snapshot_download(
      path, revision=revision, allow_patterns=list(_HUB_FILES)
    )
  except (OSError, ValueError) as error:  # what its own errors derive from
    raise ValueError(
      f"{path!r} is no folder here and could not be fetched from the hub (revision "
      f"{revision}): {error}. Check the spelling, the network and HF_TOKEN, or give a "
      "local folder."
    ) from error
