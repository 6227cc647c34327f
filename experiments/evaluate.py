"""Scores a saved system, one expert or a fixed topology on a split.

  python -m experiments.evaluate --config=configs/quickstart.py \
    --system=runs/quickstart/best --split=test
  ... --expert=NAME   or   --topology=chain   instead of --system
"""

import json

from absl import flags
import jax

from jswarm import cli
from jswarm.core import files
from jswarm.graphs import decode
from jswarm.run import log
from jswarm.systems import scores
from jswarm.systems import system as system_lib
from jswarm.systems.evaluate import Evaluator
from jswarm.systems.memo import Memo
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, skipping, system

_CONFIG = cli.define_config()
_SYSTEM = flags.DEFINE_string("system", None, "Folder of a saved system.")
_EXPERT = flags.DEFINE_string("expert", None, "Name of an expert of the pool.")
_TOPOLOGY = flags.DEFINE_enum(
  "topology", None, sorted(decode.TOPOLOGIES), "Fixed DAG over the pool in its order."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["dev", "test"], "What to score on.")
_OUT = flags.DEFINE_string("out", None, "JSONL of per-example scores and replies.")


def main(argv):
  del argv
  given = [f for f in (_SYSTEM, _EXPERT, _TOPOLOGY) if f.value]
  if len(given) != 1:
    raise ValueError("give exactly one of --system, --expert, --topology.")
  cli.keep_compiled(_CONFIG.value)
  evaluator, job = _subject(_CONFIG.value)
  examples = getattr(evaluator.task, _SPLIT.value)
  evaluation = evaluator.evaluate([job], examples)[0]
  if _OUT.value:
    log.write_evaluations(
      _OUT.value, [e.id for e in examples], [(given[0].value, evaluation)]
    )
  print(
    json.dumps(
      files.clean(
        {
          given[0].name: given[0].value,
          "split": _SPLIT.value,
          **scores.summary(evaluation.scores),
          "error": evaluation.error,
        }
      )
    )
  )


def _subject(config):
  """(evaluator, job) of what the flags name."""
  resolved = config_lib.resolve(config)
  if _SYSTEM.value:
    task = search.task(resolved)
    judge = search.judge(resolved, task, alone=True)  # its weights in the system moved
    found = system.load_system(_SYSTEM.value)
    scored = search.defining(resolved, task)
    system.check(_SYSTEM.value, found.description, resolved, task, scored)
    return _evaluator(task, found.experts, found.wording, judge), found.job
  config = skipping.settle(config).config
  names = search.names(config_lib.resolve(config))
  if _EXPERT.value and _EXPERT.value not in names:
    raise ValueError(f"--expert={_EXPERT.value}: the pool has {', '.join(names)}.")
  plan = search.plan(config)
  job = (
    system_lib.single(names.index(_EXPERT.value))
    if _EXPERT.value
    else system_lib.make_job(
      decode.TOPOLOGIES[_TOPOLOGY.value](len(names), jax.random.key(plan.seed))
    )
  )
  return _evaluator(plan.task, plan.experts, plan.wording, plan.judge), job


def _evaluator(task, experts, wording, judge):
  memo = Memo(experts)
  return Evaluator(task, memo, wording, judge and judge(memo))


if __name__ == "__main__":
  cli.launch(main, "config")
