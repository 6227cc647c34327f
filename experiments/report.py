"""Writes the report of a run: one HTML file that needs no network and no other file.

  python -m experiments.report --workdir=runs/quickstart [--out=report.html]

--ablations first scores the found system on dev without each of its nodes and edges;
that needs the pool, and the --config of the search.
"""

import pathlib
import shutil

from absl import flags

from jswarm import cli
from jswarm.report import pages
from jswarm.wiring import ablations

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_OUT = flags.DEFINE_string("out", None, "Where the page is copied to besides.")
_ABLATIONS = flags.DEFINE_bool("ablations", False, "Score parts of the system anew.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unknown arguments {argv[1:]}.")
  if _ABLATIONS.value:
    if _CONFIG.value is None:
      raise ValueError(
        "--ablations needs the --config of the search: it asks the pool."
      )
    cli.keep_compiled(_CONFIG.value)
    found = ablations.measure(_WORKDIR.value, _CONFIG.value)
    print(f"{_WORKDIR.value}/ablations.json: {found['n']} dev questions.")
  path = pages.write(_WORKDIR.value)
  if _OUT.value:
    pathlib.Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, _OUT.value)
  print(f"{path}: {path.stat().st_size / 1e6:.2f} MB.")


if __name__ == "__main__":
  cli.launch(main, "workdir")
