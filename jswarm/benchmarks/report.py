"""Records -> benchmark.json and a Markdown table, with the machine they came from."""

from collections.abc import Sequence
import dataclasses
import importlib.metadata
import os
import pathlib
import platform

import jax

from jswarm.benchmarks.harness import Options, Record, Spread
from jswarm.core import files

PACKAGES = ("jax", "jaxlib", "flax", "torch", "transformers", "peft", "evosax")
FLAGS = (
  "avx2",
  "fma",
  "avx512f",
  "avx512_bf16",
  "avx512_vnni",
  "amx_bf16",
  "amx_tile",
  "asimd",
  "sve",
  "bf16",
)
COLUMNS = (
  "case",
  "ours",
  "theirs",
  "unit",
  "ours, ms",
  "theirs, ms",
  "x (medians)",
  "x (paired)",
  "rounds",
  "more",
)


def machine() -> dict:
  """The processor, the memory, the devices and the versions."""
  cpu = _key_values("/proc/cpuinfo")
  flags = set((cpu.get("flags") or cpu.get("Features") or "").split())
  return {
    "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
    "cores": len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count(),
    "flags": [flag for flag in FLAGS if flag in flags],
    "memory_gb": round(memory("MemTotal") / 1e9, 1),
    "devices": [device.device_kind for device in jax.devices()],
    "backend": jax.default_backend(),
    "python": platform.python_version(),
    "packages": {name: _version(name) for name in PACKAGES},
  }


def memory(field: str) -> int:
  """Bytes of main memory, "MemTotal" or "MemAvailable"; 0 if the system hides it."""
  words = _key_values("/proc/meminfo").get(field, "").split()
  return int(words[0]) * 1024 if words else 0


def _key_values(path):
  """The first value of each "key : value" line of a file; {} without the file."""
  found: dict[str, str] = {}
  if os.path.exists(path):
    for line in pathlib.Path(path).read_text("utf-8").splitlines():
      key, _, value = line.partition(":")
      found.setdefault(key.strip(), value.strip())
  return found


def _version(name):
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def write(folder: str, records: Sequence[Record], options: Options) -> str:
  """Writes benchmark.json and benchmark.md; gives the text of the latter."""
  here, text = machine(), table(records)
  text = f"{_describe(here)}\n\n{text}\n"
  path = pathlib.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  files.write_json(
    path / "benchmark.json",
    files.clean(
      {
        "schema_version": 1,
        "machine": here,
        "options": dataclasses.asdict(options),
        "records": [_plain(record) for record in records],
      }
    ),
  )
  (path / "benchmark.md").write_text(text, "utf-8")
  return text


def _plain(record):
  fields = dataclasses.asdict(record)
  for name, value in fields.items():
    if isinstance(value, Spread):
      fields[name] = value._asdict()
  return fields


def _describe(here):
  packages = ", ".join(f"{k} {v}" for k, v in here["packages"].items() if v)
  return (
    f"{here['cpu']}, {here['cores']} cores ({' '.join(here['flags'])}),"
    f" {here['memory_gb']} GB, {', '.join(sorted(set(here['devices'])))};"
    f" Python {here['python']}, {packages}.\n\n"
    "Milliseconds a unit: median [quartiles]. x: how many times as fast ours is,"
    " from the medians, and the median [quartiles] of the ratios of each round."
  )


def table(records: Sequence[Record]) -> str:
  """Markdown, one table a suite."""
  parts = []
  for suite in dict.fromkeys(record.suite for record in records):
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(_cells(r))} |" for r in records if r.suite == suite]
    parts.append(f"## {suite}\n\n" + "\n".join(lines))
  return "\n\n".join(parts)


def _cells(record):
  more = [f"{k} {_number(v)}" for k, v in record.extra.items() if v is not None]
  return [
    record.case,
    record.ours,
    record.theirs,
    record.unit,
    _shown(record.ours_ms),
    _shown(record.theirs_ms),
    _number(record.ratio),
    _shown(record.paired),
    str(record.rounds or ""),
    "; ".join([*more, record.note]).strip("; "),
  ]


def _shown(value):
  if value is None:
    return ""
  return f"{_number(value.median)} [{_number(value.low)}, {_number(value.high)}]"


def _number(value):
  if isinstance(value, float):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
  return "" if value is None else str(value)
