"""Suite `scaling`: how the work divides over 1, 2, 4 and 8 devices.

Simulated devices share the cores, so times would say nothing: what counts is the work
of each device and what is gathered, as the engine counts them.
"""

from jswarm.benchmarks import child, workload
from jswarm.benchmarks.harness import Options, Record
from jswarm.core.types import Request

FIELD = "engine.devices"
COUNTED = (
  "prefill_slots",
  "decode_slots",
  "decode_steps",
  "gathered_bytes",
  "programs",
)


def run(options: Options) -> list[Record]:
  """One row a number of devices."""
  return [
    _record(measure(devices)) for devices in ((1, 2) if options.small else (1, 2, 4, 8))
  ]


def measure(devices: int) -> dict[str, float]:
  """What the engine counted on so many simulated devices, in a process of its own."""
  return child.call(
    "jswarm.benchmarks.scaling:wave",
    {"devices": devices},
    {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"},
  )


def wave(devices: int, experts: int = 10, rows: int = 64, new: int = 8) -> dict:
  """One wave of a toy pool: every expert answers `rows` prompts."""
  base = workload.load("", "float32", small=True)
  particles = workload.adapters(base.config, experts, 4, ("q", "v"))
  pool = workload.serve(workload.lora_pool(base, particles), {FIELD: devices})
  lengths = [16 + 4 * (i % 5) for i in range(experts * rows)]
  requests = [
    Request(i % experts, prompt, new)
    for i, prompt in enumerate(workload.prompts(base, lengths))
  ]
  replies, counts = workload.counted(lambda: pool.ask(requests))
  return {
    "devices": devices,
    "prompt tokens": sum(r.prompt_tokens for r in replies),
    "new tokens": sum(r.new_tokens for r in replies),
    **{name.replace("_", " "): counts[name] for name in COUNTED},
  }


def _record(found):
  """Totals, and the share of a device where all are equally busy."""
  devices = found.pop("devices")
  each = {
    f"{name} a device": found[name] / devices
    for name in ("prefill slots", "decode slots")
  }
  return Record(
    suite="scaling", case=f"{devices} devices", ours="jswarm", extra={**found, **each}
  )
