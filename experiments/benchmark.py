"""Measures the parts of a search beside what others offer for the same job.

  python -m experiments.benchmark --suite=generate,experts --out=runs/benchmark
  python -m experiments.benchmark --suite=all --small

Writes benchmark.json and benchmark.md below --out after every suite. --small tries the
suites themselves in a minute, on a toy model. Full sizes: minutes to an hour a suite on
two cores; leave the machine alone meanwhile.
"""

from absl import flags, logging

from jswarm import cli
from jswarm.benchmarks import report
from jswarm.benchmarks.harness import Options
from jswarm.benchmarks.suites import SUITES, chosen
from jswarm.engine.adapter_forms import FORMS

_SUITE = flags.DEFINE_list("suite", None, f"all, or some of {', '.join(SUITES)}.")
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder of the results.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds of a case after its warm-up.", 1)
_SECONDS = flags.DEFINE_float(
  "seconds", 600.0, "A case begins no further round after so long, but has two.", 0.0
)
_SMALL = flags.DEFINE_bool("small", False, "Toy sizes and a toy model.")
_DTYPE = flags.DEFINE_list("dtype", ["float32", "bfloat16"], "Of the weights.")
_PEER_DTYPE = flags.DEFINE_list(
  "peer_dtype", [], "Of transformers; as --dtype if empty."
)
_BATCH = flags.DEFINE_list("batch", ["1", "8", "32", "64"], "Rows of generate.")
_ROWS = flags.DEFINE_list("rows", ["1", "5", "50"], "Rows of each of the experts.")
_EXPERTS = flags.DEFINE_integer("experts", 10, "How many experts.", 1)
_ADAPTERS = flags.DEFINE_list("adapters", [], "Of experts: rank 16 all, rank 8 q v.")
_FORMS = flags.DEFINE_list("forms", [], f"Of experts: some of {', '.join(FORMS)}.")
_PEERS = flags.DEFINE_bool("peers", True, "Experts are also timed beside peft.")
_MODEL = flags.DEFINE_string(
  "model",
  "models/smollm2-135m-instruct",
  "Folder; see experiments.download_model. random:gemma_7b:"
  " random weights of that shape, for accelerators.",
)
_DATA = flags.DEFINE_string(
  "data", "data/eval/gsm8k.json", "Published GSM8K; self-made sums where it is missing."
)
_WORLD = flags.DEFINE_list("world", [], "Of worlds: some of them; empty: all.")
_STEPS = flags.DEFINE_list("steps", [], "Of methods: role, weight, both; empty: all.")
_VARIANT = flags.DEFINE_list("variant", [], "Of methods: some of a step's; empty: all.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Of methods: searches of a variant.", 1)
_DEV = flags.DEFINE_integer("dev", 4, "D, questions of a search.", 1)
_PROFILE = flags.DEFINE_string(
  "profile", "", "Folder of a trace of one more run of ours, for Perfetto."
)


def main(argv):
  if argv[1:]:
    raise ValueError(f"unexpected arguments {argv[1:]}; all settings are flags.")
  logging.set_verbosity(logging.INFO)
  options = Options(
    repeats=_REPEATS.value,
    seconds=_SECONDS.value,
    small=_SMALL.value,
    dtypes=tuple(_DTYPE.value),
    peer_dtypes=tuple(_PEER_DTYPE.value),
    batches=tuple(map(int, _BATCH.value)),
    rows=tuple(map(int, _ROWS.value)),
    experts=_EXPERTS.value,
    adapters=tuple(_ADAPTERS.value),
    forms=tuple(_FORMS.value),
    peers=_PEERS.value,
    model=_MODEL.value,
    data=_DATA.value,
    worlds=tuple(_WORLD.value),
    steps=tuple(_STEPS.value),
    variants=tuple(_VARIANT.value),
    seeds=_SEEDS.value,
    dev=_DEV.value,
    profile=_PROFILE.value,
  )
  records, text = [], ""
  for name in chosen(_SUITE.value):
    records += SUITES[name](options)
    text = report.write(_OUT.value, records, options)
  print(text)


if __name__ == "__main__":
  cli.launch(main, "suite")
