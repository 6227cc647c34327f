"""Checkpoint files -> named tensors that are read one at a time, and back.

A safetensors file is checked from its header before any array exists: a truncated
download, a Git LFS pointer or an overlapping table of contents is named with its
remedy in milliseconds. Pickles run code when they are opened and are refused unless
the caller allows them.
"""

from collections.abc import Callable
import functools
import json
import math
import os
import pathlib
from typing import NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy

from jswarm.core.files import AGAIN, is_below, read_json

_DTYPES = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": ml_dtypes.bfloat16,
}
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


class Tensor(NamedTuple):
  """A tensor on disk."""

  file: str
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


def open_safetensors(path) -> dict[str, Tensor]:
  """Every tensor of a safetensors file, checked against the header, none read yet.

  Layout: 8 bytes little-endian header length, JSON header, data (public format).
  """
  path = str(path)
  if not os.path.isfile(path):
    raise ValueError(f"{path} is missing. {AGAIN}")
  size = os.path.getsize(path)
  with open(path, "rb") as file:
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if first[:7] == b"version":
      raise ValueError(f"{path} is a Git LFS pointer: run `git lfs pull` beside it.")
    if len(first) < 8 or length > _LONGEST_HEADER or 8 + length > size:
      raise ValueError(
        f"{path} is truncated or no safetensors file: it has {size} bytes, its header "
        f"says that it alone takes {8 + length}. {AGAIN}"
      )
    raw = file.read(length)
  try:
    header = json.loads(raw)
    entries = {name: e for name, e in header.items() if name != "__metadata__"}
    return {n: _entry(path, n, e, 8 + length, size) for n, e in entries.items()}
  except (
    AttributeError,
    UnicodeDecodeError,
    json.JSONDecodeError,
    KeyError,
    RecursionError,
    TypeError,
  ) as error:
    raise ValueError(
      f"{path} has a header that is no safetensors header ({error!r}). {AGAIN}"
    ) from error


def _entry(path, name, entry, start, size):
  shape, offsets = tuple(entry["shape"]), entry["data_offsets"]
  whole = [isinstance(n, int) and n >= 0 for n in (*shape, *offsets)]
  if not all(whole) or len(offsets) != 2 or offsets[0] > offsets[1]:
    raise ValueError(
      f"{path}: tensor {name} has shape {list(shape)} at bytes {offsets}; allowed are "
      f"numbers from 0, the end behind the start. {AGAIN}"
    )
  begin, end = offsets
  if start + end > size:
    raise ValueError(
      f"{path} is truncated: tensor {name} ends at byte {start + end}, the file has "
      f"{size} bytes. {AGAIN}"
    )
  dtype = _DTYPES.get(entry["dtype"])
  if dtype is None:  # an index or a quantised tensor: an error only if it is needed
    return Tensor(path, shape, functools.partial(_refuse, path, name, entry["dtype"]))
  if end - begin != math.prod(shape) * np.dtype(dtype).itemsize:
    raise ValueError(
      f"{path}: tensor {name} is {entry['dtype']}{list(shape)} but takes {end - begin} "
      f"bytes. {AGAIN}"
    )
  read = functools.partial(_read, path, dtype, shape, start + begin)
  return Tensor(path, shape, read)


def _read(path, dtype, shape, offset):
  if not math.prod(shape):
    return np.zeros(shape, dtype)
  return np.memmap(path, dtype, "r", offset, shape)


def _refuse(path, name, dtype):
  raise ValueError(
    f"{path}: tensor {name} is {dtype}; allowed: {sorted(_DTYPES)}. Quantised "
    "checkpoints are read from GGUF only: use the unquantised model or its GGUF."
  )


def check_finite(value: np.ndarray, path, name: str) -> None:
  """Raises ValueError where a tensor, as it will be used, has a NaN or an infinity."""
  if value.dtype == ml_dtypes.bfloat16 and value.flags.c_contiguous:
    exponents = value.view(np.uint16) & np.uint16(0x7FFF)  # three times as fast
    whole = exponents.max(initial=0) < 0x7F80
  else:
    whole = np.isfinite(value).all()
  if not whole:
    bad = int(value.size - np.isfinite(value).sum())
    raise ValueError(
      f"{path}: tensor {name} has {bad} of {value.size} numbers that are NaN or "
      f"infinite in {value.dtype}: its training diverged, or the file is damaged. Use "
      "an earlier checkpoint, or download it again."
    )


def open_folder(folder, stem: str, allow_pickle: bool) -> dict[str, Tensor]:
  """The tensors of `stem`.safetensors, or of all shards that its index names.

  Args:
    folder: of a model or an adapter.
    stem: "model" or "adapter_model".
    allow_pickle: also open .bin files when there is no safetensors file.

  Raises:
    ValueError: nothing to open, a missing shard, a damaged file.
  """
  folder = pathlib.Path(folder)
  if (folder / f"{stem}.safetensors").is_file():
    return open_safetensors(folder / f"{stem}.safetensors")
  if (folder / f"{stem}.safetensors.index.json").is_file():
    return _open_shards(folder / f"{stem}.safetensors.index.json", open_safetensors)
  pickles = sorted(path.name for path in folder.glob("*.bin"))
  if not pickles:
    raise ValueError(
      f"{folder} has no {stem}.safetensors (nor an index of shards); it holds "
      f"{sorted(p.name for p in folder.glob('*'))[:20]}. {AGAIN}"
    )
  if not allow_pickle:
    raise ValueError(
      f"{folder} has only pickled weights {pickles}, which can run any code when "
      "opened. Convert them to safetensors (save_pretrained), or pass "
      "allow_pickle=True if you trust their source."
    )
  stem = "pytorch_model" if stem == "model" else stem
  if (folder / f"{stem}.bin.index.json").is_file():
    return _open_shards(folder / f"{stem}.bin.index.json", _open_pickle)
  return _open_pickle(folder / f"{stem}.bin")


def _open_shards(index, open_file):
  names = read_json(index).get("weight_map")
  if not isinstance(names, dict) or not names:
    raise ValueError(f"{index} has no weight_map, tensor -> file. {AGAIN}")
  for name, file in names.items():
    if not isinstance(file, str) or not is_below(file):
      raise ValueError(
        f"{index} looks for tensor {name} in {file!r}; allowed are files in its own "
        f"folder. {AGAIN}"
      )
  files = {f: open_file(index.parent / f) for f in sorted(set(names.values()))}
  lost = sorted(n for n, f in names.items() if n not in files[f])
  if lost:
    raise ValueError(
      f"{index} lists {len(lost)} tensors that their shards do not have, such as "
      f"{lost[0]} in {names[lost[0]]}. {AGAIN}"
    )
  return {name: files[f][name] for name, f in names.items()}


def _open_pickle(path):
  import pickle

  import torch  # only for pickles that the user has allowed

  try:
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
  except (OSError, RuntimeError, EOFError, LookupError, ValueError,
          pickle.UnpicklingError) as error:  # fmt: skip
    raise ValueError(f"{path} cannot be read ({error}). {AGAIN}") from error
  tensors = isinstance(state, dict) and all(map(torch.is_tensor, state.values()))
  if not tensors:
    raise ValueError(f"{path} holds no tensors by name. {AGAIN}")

  def read(tensor):
    if tensor.dtype == torch.bfloat16:
      return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()

  return {
    name: Tensor(str(path), tuple(tensor.shape), functools.partial(read, tensor))
    for name, tensor in state.items()
  }


def write_safetensors(path, arrays: dict[str, np.ndarray]) -> None:
  """Writes the file whole or not at all."""
  arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
  _replace(path, lambda to: safetensors.numpy.save_file(arrays, to, {"format": "pt"}))


def _replace(path, write):
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.partial")
  try:
    write(str(partial))
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
