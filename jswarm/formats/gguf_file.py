"""The GGUF container: bytes of a file -> metadata and float32 tensors.

Only the container is read here; `gguf_model.py` and `gguf_tokenizer.py` give its
entries a meaning. Vocabularies of 260,000 strings take a quarter of a second this way,
and every length is checked against the file before it is used, so that a truncated
download is reported as such. Layout: docs/gguf.md of github.com/ggml-org/ggml,
versions 2 and 3.
"""

import math
import os
import struct
from typing import Any, NamedTuple

import gguf  # the PyPI package: absolute imports never see jswarm/formats/gguf_model.py
import numpy as np

_SCALARS = {  # value type -> struct format
  0: "B",
  1: "b",
  2: "H",
  3: "h",
  4: "I",
  5: "i",
  6: "f",
  7: "?",
  10: "Q",
  11: "q",
  12: "d",
}
_STRING, _ARRAY = 8, 9
_PART = 1 << 23  # bytes of a tensor that are dequantised at a time
_ALIGNMENT = 32  # of the tensor data, unless general.alignment says otherwise


class Tensor(NamedTuple):
  """Where one tensor lies; `shape` is numpy's order (rows first)."""

  shape: tuple[int, ...]
  kind: int  # a gguf.GGMLQuantizationType
  start: int  # byte offset in the file


class File(NamedTuple):
  """A parsed GGUF file; the tensor data stay on disk until `read`."""

  path: str
  metadata: dict[str, Any]
  tensors: dict[str, Tensor]
  data: np.ndarray  # uint8, memory-mapped


class _Cursor:
  """Reads little-endian values one after another, never past the end."""

  def __init__(self, path, data):
    self.path, self.data, self.at = path, data, 0

  def take(self, count: int) -> int:
    start, self.at = self.at, self.at + count
    if self.at > len(self.data):
      raise ValueError(truncated(self.path, len(self.data), self.at))
    return start

  def number(self, form: str):
    start = self.take(struct.calcsize("<" + form))
    return struct.unpack_from("<" + form, self.data, start)[0]

  def string(self) -> str:
    size = self.number("Q")
    start = self.take(size)
    return bytes(self.data[start : self.at]).decode("utf-8", "replace")

  def array(self):
    kind, count = self.number("I"), self.number("Q")
    if kind in _SCALARS:
      form = np.dtype(_SCALARS[kind]).newbyteorder("<")
      start = self.take(count * form.itemsize)
      return np.frombuffer(self.data[start : self.at], form).tolist()
    if count > len(self.data):
      raise ValueError(truncated(self.path, len(self.data), count))
    return [self.value(kind) for _ in range(count)]

  def value(self, kind: int):
    if kind in _SCALARS:
      return self.number(_SCALARS[kind])
    if kind == _STRING:
      return self.string()
    if kind == _ARRAY:
      return self.array()
    raise ValueError(
      f"{self.path} holds a metadata value of type {kind}; allowed: 0 to 12. The file "
      "is damaged, or newer than this reader: download it again or export it as GGUF v3"
    )


def truncated(path, size: int, needed: int) -> str:
  """The message for a file that ends too early."""
  return (
    f"{path} is truncated: it has {size} bytes where at least {needed} are needed. "
    "Download the file again and compare its sha256"
  )


def open_file(path) -> File:
  """Header and tensor table of the GGUF file at `path`.

  Raises ValueError when the file is missing, is not GGUF version 2 or 3, or ends before
  the last byte of its last tensor.
  """
  path = os.fspath(path)
  if not os.path.isfile(path):
    raise ValueError(
      f"there is no file {path}. Give the path of a .gguf file, or make one available "
      "with `python -m experiments.download_model`"
    )
  size = os.path.getsize(path)
  data = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
  cursor = _Cursor(path, memoryview(data))
  _check_magic(cursor)
  try:
    metadata, table = _header(cursor)
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    start = -(-cursor.at // alignment) * alignment
    tensors = {name: row._replace(start=start + row.start) for name, row in table}
    _check_extent(path, tensors, size)
  except (ArithmeticError, MemoryError, RecursionError, TypeError) as error:
    raise ValueError(
      f"{path} has a header that is none ({type(error).__name__}: {error}). Download "
      "the file again and compare its sha256"
    ) from error
  return File(path, metadata, tensors, data)


def _header(cursor):
  """(metadata, [(name, Tensor)]); starts are still relative to the data."""
  tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
  metadata = {}
  for _ in range(value_count):
    key = cursor.string()
    metadata[key] = cursor.value(cursor.number("I"))
  return metadata, [_tensor_row(cursor) for _ in range(tensor_count)]


def _check_magic(cursor):
  start = cursor.take(4)
  magic = bytes(cursor.data[start : start + 4])
  version = cursor.number("I")
  if magic != b"GGUF" or version not in (2, 3):
    raise ValueError(
      f"{cursor.path} starts with {magic!r} and version {version}; allowed: b'GGUF' "
      "and 2 or 3 (little-endian). Download it again, or export it with a current "
      "llama.cpp"
    )


def _tensor_row(cursor) -> tuple[str, Tensor]:
  name = cursor.string()
  shape = [cursor.number("Q") for _ in range(cursor.number("I"))]
  kind, offset = cursor.number("I"), cursor.number("Q")
  return name, Tensor(tuple(reversed(shape)), kind, offset)


def _quantisation(path, name, kind) -> gguf.GGMLQuantizationType:
  try:
    return gguf.GGMLQuantizationType(kind)
  except ValueError as error:
    raise ValueError(_unknown(path, name, f"type {kind}")) from error


def _unknown(path, name, found) -> str:
  return (
    f"{path}: tensor {name} is quantised as {found}; readable: F32, F16, BF16, Q4_0 to "
    "Q8_0, Q2_K to Q6_K, IQ1 to IQ4, TQ1 and TQ2. Take another quantisation of the "
    "model (Q8_0 is common), or a newer `gguf` package"
  )


def _byte_count(path, name, tensor) -> int:
  kind = _quantisation(path, name, tensor.kind)
  block, size = gguf.GGML_QUANT_SIZES[kind]
  if not tensor.shape or tensor.shape[-1] % block:
    raise ValueError(
      f"{path}: tensor {name} has shape {tensor.shape}, whose last axis must be a "
      f"multiple of {block} for {kind.name}. The file is damaged: download it again"
    )
  return math.prod(tensor.shape) // block * size


def _check_extent(path, tensors, size):
  ends = [t.start + _byte_count(path, name, t) for name, t in tensors.items()]
  if max(ends, default=0) > size:
    raise ValueError(truncated(path, size, max(ends)))


def read(file: File, name: str) -> np.ndarray:
  """Tensor `name` as float32, dequantised.

  Raises ValueError for a quantisation that the `gguf` package cannot undo.
  """
  tensor = file.tensors[name]
  count = _byte_count(file.path, name, tensor)
  # Mapped by itself: what was read of a large file does not stay in memory.
  rows = np.empty(0, np.uint8)
  if count:
    rows = np.asarray(np.memmap(file.path, np.uint8, "r", tensor.start, (count,)))
  rows = rows.reshape(*tensor.shape[:-1], -1)
  if rows.ndim < 2 or rows.nbytes <= _PART:
    return _dequantised(file, name, rows)
  # The package makes its result twice, so a large tensor is given to it in parts.
  made = np.empty(tensor.shape, np.float32)
  step = max(1, _PART * len(rows) // rows.nbytes)
  for first in range(0, len(rows), step):
    part = slice(first, first + step)
    made[part] = _dequantised(file, name, rows[part])
  return made


def check_readable(file: File) -> None:
  """Raises ValueError for a quantisation that `read` cannot undo; reads no tensor."""
  for kind, name in {t.kind: name for name, t in file.tensors.items()}.items():
    _, size = gguf.GGML_QUANT_SIZES[kind]
    _dequantised(file, name, np.zeros((1, size), np.uint8))  # one block of that kind


def _dequantised(file, name, rows):
  kind = _quantisation(file.path, name, file.tensors[name].kind)
  try:
    return gguf.dequantize(rows, kind)
  except NotImplementedError as error:
    raise ValueError(_unknown(file.path, name, kind.name)) from error
