"""What users write -> where each expert comes from: folders, hub ids, GGUF files."""

from collections.abc import Hashable, Mapping, Sequence
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
    name: unique in the pool; names folders and columns.
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

  def __post_init__(self):
    _check_name(self.name)

  @property
  def source(self) -> tuple[str, str | None]:
    """The base and its revision: two revisions of one repository are two bases."""
    return self.base, self.base_revision if self.adapter else self.revision


def locate(path: str, revision: str | None = None) -> str:
  """A local path: `builtin:` names a file of the package, else folder or hub id."""
  if path.startswith(BUILTIN):
    inside = pathlib.PurePosixPath(path.removeprefix(BUILTIN))
    if inside.is_absolute() or ".." in inside.parts:
      raise ValueError(f"{path!r} leads out of the package: give a path inside it.")
    return str(importlib.resources.files("jswarm") / "data" / str(inside))
  if path.endswith(".gguf") or os.path.isdir(path):
    return path
  return str(resolve(path, revision))


def identity(location: str) -> Hashable:
  """The same for all spellings of one file or folder: links, slashes, relative paths.

  What is not there is as it is spelt; whoever opens it says so.
  """
  try:
    found = os.stat(location)
  except (OSError, ValueError):  # also what is no name of a file: NUL, half characters
    return location
  return found.st_dev, found.st_ino


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
    ValueError: an empty pool, an unknown key, the revision of no base, a name that is
      no name of a folder, two experts of one name.
  """
  if isinstance(experts, (str, Mapping)):
    raise ValueError(
      f"pool.experts is {experts!r}; a list is wanted, of one entry if there is one "
      "expert: write it in brackets."
    )
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
  if isinstance(expert, (str, os.PathLike)):
    expert = {"path": expert}
  known = {"name", "path", "base", "adapter", "revision", "base_revision"}
  unknown = set(expert) - known
  if unknown:
    raise ValueError(
      f"pool.experts entry {dict(expert)}: unknown {sorted(unknown)},"
      f" allowed are {sorted(known)}."
    )
  texts = {key: "" if value is None else value for key, value in expert.items()}
  odd = {key: v for key, v in texts.items() if not isinstance(v, (str, os.PathLike))}
  if odd:
    raise ValueError(f"pool.experts entry {dict(expert)}: {odd}, allowed are texts.")
  expert = {key: os.fspath(value) for key, value in texts.items()}
  path, adapter = expert.get("path", ""), expert.get("adapter", "")
  own_base, base_revision = expert.get("base", ""), expert.get("base_revision")
  named = ""  # the adapter whose file says what it stands on
  if path and "+" in path and not os.path.exists(path):
    own_base, adapter = _halves(path)
  elif path:
    local = locate(path, expert.get("revision"))
    if os.path.isfile(os.path.join(local, "adapter_config.json")):
      adapter = path
      named = "" if own_base or base else local
    else:
      own_base = path
  if named:
    own_base, revision = _named_base(named)
    base_revision = base_revision or revision
  own_base = own_base or base
  if not own_base:
    raise ValueError(
      f"pool.experts entry {dict(expert)} names no base: set pool.base,"
      " or write 'base+adapter'."
    )
  if base_revision and not adapter:
    raise ValueError(
      f"pool.experts entry {dict(expert)} has no adapter, so that"
      " `base_revision` says nothing: a whole model has a `revision`."
    )
  return Spec(
    name=expert.get("name") or _stem(adapter or own_base),
    base=own_base,
    adapter=adapter,
    revision=expert.get("revision") or None,
    base_revision=base_revision or None,
  )


def _halves(path):
  """(base, adapter) of "base+adapter", either of which may have a + of its own."""
  cuts = [i for i, letter in enumerate(path) if letter == "+" and 0 < i < len(path) - 1]
  pairs = [(path[:i], path[i + 1 :]) for i in cuts] or [tuple(path.split("+", 1))]
  there = lambda part: part.startswith(BUILTIN) or os.path.exists(part)
  return max(pairs, key=lambda pair: sum(map(there, pair)))  # the first of the best


def _named_base(folder):
  """(base, revision) that an adapter's own file names."""
  base, revision = peft_adapter.adapter_base(folder), None
  if ".." in pathlib.PurePath(base).parts:
    raise ValueError(
      f"{folder}/adapter_config.json names the base {base!r}, a path out of the folder "
      "that it was trained in: set pool.base, or write 'base+adapter'."
    )
  if base and not os.path.exists(base) and not base.startswith(BUILTIN):
    revision = peft_adapter.adapter_revision(folder)  # hub only
  return base, revision


def _stem(path):
  """The last part of a path; a dot in a folder's name is no file extension."""
  last = pathlib.PurePath(path).name
  if last in ("", ".."):
    last = pathlib.Path(path).resolve().name
  return last[: -len(".gguf")] if last.lower().endswith(".gguf") else last


def _check_name(name):
  """Saved systems have a folder of every expert's name."""
  odd = {c for c in name if c in "/\\" or ord(c) < 32 or 0xD800 <= ord(c) < 0xE000}
  if odd or name in ("", ".", "..") or len(name.encode("utf-8", "replace")) > 255:
    raise ValueError(
      f"an expert is named {name[:80]!r}; a name is also that of a folder: allowed are "
      "1 to 255 bytes without slashes, backslashes and control characters, but not . "
      "and .. alone. Give the expert another `name`."
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
