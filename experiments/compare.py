"""Searches and methods side by side: one pool, one budget of calls, several seeds.

  python -m experiments.compare --config=configs/folio.py --methods=all --seeds=5 \
    --out=runs/compare
  ... --methods=role_only,random_graphs   or   --method=pkg.module:METHOD

The calls of the `fixed` search of a seed are what every method may spend on dev in it.
The same command goes on where it was killed. Writes rows.jsonl, compare.json,
compare.md and, where matplotlib is installed, compare.svg (dev utility against calls).
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from jswarm import cli
from jswarm.analysis import compare, curves
from jswarm.core import files
from jswarm.wiring import contest, methods

_CONFIG = cli.define_config()
_METHODS = flags.DEFINE_list(
  "methods", ["all"], "all, or some of searches and methods."
)
_METHOD = flags.DEFINE_string("method", "", "A method of your own, pkg.module:METHOD.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "0, 1, ...", 1)
_OUT = flags.DEFINE_string("out", None, "Folder of the comparison.")
_VARIANT = flags.DEFINE_enum(
  "variant", "paper", ["paper", "original"], "As the paper ran it, or its authors."
)
_TRAINED = config_flags.DEFINE_config_file(
  "pool_config", None, "The config that made the experts, for methods that train."
)


def main(argv):
  del argv
  known = methods.known(_METHOD.value)
  cli.keep_compiled(_CONFIG.value)
  every = [*contest.SEARCHES, *known]
  names = every if _METHODS.value == ["all"] else _METHODS.value
  names += [name for name in known if name not in names and _METHOD.value]
  folder = pathlib.Path(_OUT.value)
  held = contest.Contest(_CONFIG.value, folder, known, _VARIANT.value, _TRAINED.value)
  rows = [row for row in held.run(names, _SEEDS.value) if row["method"] in names]
  records = compare.summaries(rows)
  files.write_json(folder / "compare.json", {"rows": rows, "summary": records})
  text = compare.markdown(records)
  (folder / "compare.md").write_text(text + "\n", encoding="utf-8")
  curves.draw(rows, folder / "compare.svg")
  print(text)


if __name__ == "__main__":
  cli.launch(main, "config", "out")
