"""What a released version has left on disk, to be read by all that follow.

  python -m tests.make_released tests/released/schema1

writes a checkpoint of a search and a saved system as the present version does. It is
run once for each new schema; its folder is kept for good.
"""

import contextlib
import pathlib
import shutil
import sys
import tempfile

import jax
import numpy as np

from jswarm.core.digests import digest
from jswarm.core.files import write_json
from jswarm.engine import engine
from jswarm.graphs import decode
from jswarm.pool import load, specs
from jswarm.run import loop
from jswarm.systems import artifact
from jswarm.systems.system import Graph, System
from jswarm.wiring import config as config_lib
from jswarm.wiring import system as system_lib
from tests import folders
from tests.fake_run import plan

ITERATIONS = 2
PROMPTS = [record["question"] for record in folders.records()["dev"][:3]]


def _checkpoint(folder, scratch):
  """A search of numbers, and what it ended with."""
  made = plan({"search.iterations": ITERATIONS})
  result = loop.run(made, str(scratch / "run"))
  kept = scratch / "run" / "checkpoints"
  for part in (str(ITERATIONS), f"sums/{ITERATIONS}.json"):
    target = folder / "checkpoints" / part
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = shutil.copytree if (kept / part).is_dir() else shutil.copy
    copy(kept / part, target)
  history = [row["best"] for row in result.results["history"]]
  return {"state": digest(jax.tree.leaves(result.state)), "best": history}


def _system(folder, scratch):
  """A chain of two adapters and a third that hears both, and what it says."""
  folders.write_base(scratch / "base")
  adapters = folders.write_adapters(scratch, "base")
  base = "base"  # a name that is true of every machine
  config = config_lib.resolve_default({})
  pool = load.load_pool(specs.parse_specs(adapters, base), np.float32)
  experts = engine.make_experts(pool, config.engine)
  dag = decode.TOPOLOGIES["complete"](3, jax.random.key(0))
  graph = Graph(np.asarray(dag.edges, np.float32), dag)
  system = System(
    graph=graph,
    assignment=np.arange(3, dtype=np.int32),
    weights=experts.weights,
    utility=np.float32(0.5),
    iteration=np.int32(1),
    step=np.int32(0),
  )
  artifact.save(
    folder / "best",
    system,
    experts,
    config.wording,
    limit=6,
    chat=False,
    serving={"pool.dtype": "float32"},
    context={"task": "released"},
  )
  return {
    "replies": system_lib.load_system(folder / "best", base=base).generate(PROMPTS)
  }


def main(folder):
  folder = pathlib.Path(folder).resolve()
  with tempfile.TemporaryDirectory() as scratch:
    expected = _checkpoint(folder, pathlib.Path(scratch))
    with contextlib.chdir(scratch):
      expected |= _system(folder, pathlib.Path(scratch))
  write_json(folder / "expected.json", expected)


if __name__ == "__main__":
  main(sys.argv[1])
