"""Writes a saved system in the form of another program.

python -m experiments.export --system=runs/quickstart/best --to=merged --out=out

peft     each adapter alone              merged  each expert, a Hugging Face model
gguf     each expert, f16 and q8_0       vllm    serve.sh, and a client in plain Python
hub      a folder ready to be uploaded   mermaid, dot: the graph, --out is a file
"""

from absl import flags

from jswarm import cli
from jswarm.wiring import exports

_SYSTEM = flags.DEFINE_string("system", None, "Folder of a saved system.")
_TO = flags.DEFINE_enum("to", None, sorted(exports.EXPORTS), "Form.")
_OUT = flags.DEFINE_string("out", None, "New folder; of mermaid and dot a file.")
_BASE = flags.DEFINE_string("base", "", "Where the base is now, if it has moved.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unknown arguments {argv[1:]}.")
  for path in exports.export(_SYSTEM.value, _TO.value, _OUT.value, base=_BASE.value):
    print(path)


if __name__ == "__main__":
  cli.launch(main, "system", "to", "out")
