"""Says what a search will take, before it starts: calls, tokens, memory, disk, time.

  python -m experiments.estimate --config=configs/quickstart.py

Loads the pool and times some calls on this machine; --notimed counts only, in seconds.
--json=FILE writes the figures.
"""

from absl import flags

from jswarm import cli
from jswarm.core import files
from jswarm.wiring import estimate

_CONFIG = cli.define_config()
_SKIP = cli.define_skipping()
_TIMED = flags.DEFINE_bool("timed", True, "Load the pool and time some calls here.")
_JSON = flags.DEFINE_string("json", "", "File of the figures.")


def main(argv):
  if argv[1:]:
    raise ValueError(f"unknown arguments {argv[1:]}: fields are set by --config.x.y=.")
  config = cli.without_bad(_CONFIG.value, _SKIP)
  cli.keep_compiled(config)
  found = estimate.estimate(config, _TIMED.value)
  print("\n".join(estimate.lines(found)))
  if _JSON.value:
    files.write_json(_JSON.value, estimate.as_json(found))


if __name__ == "__main__":
  cli.launch(main, "config")
