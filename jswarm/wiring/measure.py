"""What a finished run has not recorded and an analysis needs, measured once.

  finished run -> its pool and last state again -> alone, moved, nodes, elsewhere
               -> measured/NAME.json in the workdir

A finished run that is opened again makes no calls; results.json stays what it is, but
for `timing`.
"""

from collections.abc import Callable, Mapping
import hashlib
import json
import math
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jswarm.analysis import roles
from jswarm.baselines import base
from jswarm.baselines import methods as methods_lib
from jswarm.core import files
from jswarm.core.types import PyTree, Request
from jswarm.run import loop, session
from jswarm.systems import artifact, http_judge, system, waves
from jswarm.systems.budget import Meter
from jswarm.systems.evaluate import Evaluator
from jswarm.tasks import custom, votes
from jswarm.wiring import config as config_lib
from jswarm.wiring import methods, search

FOLDER = "measured"
PERTURBED = 3  # draws of the null model: experts moved at random
SAMPLE = 50  # test questions on which the outputs of all nodes are kept
VERDICT = 8  # most new tokens of a judge of roles


def kept(
  folder: str | os.PathLike, name: str, make: Callable[[], Any]
) -> dict[str, Any]:
  """What measured/NAME.json of a run holds; made and written if it is not there."""
  path = pathlib.Path(folder) / FOLDER / f"{name}.json"
  if not path.is_file():
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, make())
  return json.loads(path.read_text("utf-8"))


def of_run(
  config: ConfigDict, fields: Mapping[str, Any], folder: str | os.PathLike, name: str
) -> dict[str, Any]:
  """The part `name` of `PARTS` of a finished run with these fields."""

  def make():
    plan, result = _opened(config, fields, folder)
    return PARTS[name](plan, result, methods.evaluator(plan, Meter()))

  return kept(folder, name, make)


def elsewhere(
  config: ConfigDict,
  fields: Mapping[str, Any],
  folder: str | os.PathLike,
  target: ConfigDict,
) -> dict[str, Any]:
  """The found system of a run, and the expert that is best on its dev, on the test
  questions of another configuration's task, in the words of that one.

  Returns:
    {"system": [X], "best_single": [X]}, scores.
  """

  def make():
    plan, result = _opened(config, fields, folder)
    evaluator = _on_target(methods.evaluator(plan, Meter()), target)
    best = plan.experts.names.index(result.results["best_single"])
    alone = system.single(best, evaluator.memo.first)
    jobs = [_found(result, evaluator), alone]
    on_system, on_best = evaluator.evaluate(jobs, evaluator.task.test)
    return {
      "system": on_system.scores.tolist(),
      "best_single": on_best.scores.tolist(),
    }

  return kept(folder, f"on_{_short(target)}", make)


def method_elsewhere(
  config: ConfigDict,
  folder: str | os.PathLike,
  target: ConfigDict,
  name: str,
  calls: int,
) -> dict[str, Any]:
  """What a method finds on dev of a configuration, for so many calls, on the test
  questions of another one's task: {"scores": [X]}.

  Raises:
    NotApplicable: the pool lacks what the method needs.
  """

  def make():
    bench = methods.bench(config)
    setting = bench.setting(config.seed, calls)
    found = methods_lib.find(name, setting)
    evaluator = _on_target(bench.evaluator, target)
    if found.experts is not None:
      evaluator = base.on(evaluator, found.experts, bench.meter)
    (scored,) = evaluator.evaluate([found.answerer], evaluator.task.test)
    return {"scores": scored.scores.tolist()}

  return kept(folder, f"{name}_on_{_short(target)}", make)


def verdicts(
  config: ConfigDict, judge: str, prompts: list[str], folder: pathlib.Path
) -> list[str]:
  """What a judge says of prompts.

  Args:
    config: of the search; of a server it names the model, as for `task.judge`.
    judge: an expert of the pool, "pkg.module:function" (prompts -> texts), or the
      https:// of a server. folder: where a server's verdicts are kept.

  Raises:
    ValueError: none of these.
  """
  if http_judge.is_address(judge):
    c = config.task
    key = os.environ.get(http_judge.KEY, "")
    endpoint = http_judge.Endpoint(judge, c.judge_model, c.judge_seconds, key)
    asks = http_judge.HttpJudge(endpoint, folder / "verdicts.jsonl").ask
    requests = [Request(0, prompt, VERDICT, True) for prompt in prompts]
    return [getattr(reply, "text", "") for reply in asks(requests)]
  if ":" in judge:
    return [str(said) for said in custom.imported(judge, "--judge")(prompts)]
  plan = search.plan(config)
  names = list(plan.experts.names)
  if judge not in names:
    raise ValueError(
      f"--judge={judge!r}: allowed are an expert of the pool ({', '.join(names)}),"
      " pkg.module:function (prompts -> texts), or the https:// of a server."
    )
  chat = plan.task.chat
  requests = [Request(names.index(judge), p, VERDICT, chat) for p in prompts]
  return [reply.text for reply in plan.experts.ask(requests)]


def _on_target(evaluator: Evaluator, target: ConfigDict) -> Evaluator:
  """The evaluator on another configuration's task, in the words of that one."""
  resolved, memo = config_lib.resolve(target), evaluator.memo
  task = search.task(resolved)
  rates = search.judge(resolved, task, memo.experts)
  judge = rates(memo) if rates else None
  moved = Evaluator(task, memo, resolved.wording, judge)
  moved.check_room()
  return moved


def _short(config: ConfigDict) -> str:
  """A name for a configuration, as long as a file may well have."""
  told = json.dumps(config_lib.flatten(config), sort_keys=True)
  return hashlib.sha256(told.encode()).hexdigest()[:8]


def _opened(config, fields, folder) -> tuple[session.Plan, session.Result]:
  """A finished run with its pool, on the weights that it came with."""
  changed = config_lib.override(config, fields)
  plan = search.plan(changed, workdir=os.fspath(folder))
  result = loop.run(plan, os.fspath(folder))
  plan.experts.install(plan.experts.weights)
  return plan, result


def _found(result, evaluator):
  """The found system as something to execute."""
  return artifact.job_of(result.system, evaluator.named(result.system.weights))


def _alone(plan, result, evaluator):
  """Scores of each expert as it came on test, and what a guesser would score."""
  del result
  low, high = plan.task.range
  return {
    "single": _singles(plan, evaluator, evaluator.memo.first),
    "guess": [1 / len(e.choices) if e.choices else 0.0 for e in plan.task.test],
    "low": low if math.isfinite(low) else None,
    "high": high if math.isfinite(high) else None,
  }


def _moved(plan, result, evaluator):
  """Scores on test of the experts of the found system, and of experts that were moved
  as far from where they came, in random directions."""
  first, last = plan.experts.weights, result.system.weights
  perturbed = []
  for draw in range(PERTURBED):
    key = jax.random.fold_in(jax.random.key(plan.seed), draw)
    trees = tuple(
      astray(jax.random.fold_in(key, g), a, b)
      for g, (a, b) in enumerate(zip(first, last))
    )
    perturbed.append(_singles(plan, evaluator, evaluator.named(trees)))
  return {
    "final": _singles(plan, evaluator, evaluator.named(last)),
    "perturbed": perturbed,
  }


@jax.jit
def astray(key: jax.Array, start: PyTree, end: PyTree) -> PyTree:
  """Each expert of `start`, moved at random as far as it is from `end`.

  Leaves [E, ...]. The distance of an expert is the Euclidean norm over all of its
  leaves; all directions are alike.
  """
  leaves, treedef = jax.tree.flatten(start)
  keys = jax.random.split(key, len(leaves))
  noise = treedef.unflatten(
    [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves)]
  )
  moved = jax.tree.map(lambda a, b: jnp.asarray(b, jnp.float32) - a, start, end)
  scale = jnp.sqrt(_squares(moved) / _squares(noise))  # [E]
  along = lambda x: scale.reshape(-1, *[1] * (x.ndim - 1))
  return jax.tree.map(lambda a, x: a + (along(x) * x).astype(a.dtype), start, noise)


def _squares(tree):
  """[E]: sum of squares over all leaves of each expert."""
  each = [jnp.sum(x**2, axis=tuple(range(1, x.ndim))) for x in jax.tree.leaves(tree)]
  return jnp.sum(jnp.stack(each), axis=0)


def _singles(plan, evaluator, weights):
  """[E][X]: scores on test of each expert alone."""
  alone = [system.single(e, weights) for e in range(len(plan.experts.names))]
  found = evaluator.evaluate(alone, plan.task.test)
  return [evaluation.scores.tolist() for evaluation in found]


def _nodes(plan, result, evaluator):
  """What every node of the found system said to some test questions."""
  examples = plan.task.test[:SAMPLE]
  job = _found(result, evaluator)
  places = roles.positions(job.edges, job.depth, job.end)
  questions = evaluator.questions(examples)
  items = waves.grid([job], [questions])
  read = votes.reader(plan.task, examples)
  outputs = []
  for question, answered in zip(
    questions, waves.run(items, evaluator.terms, evaluator.memo.ask)
  ):
    said = answered.by_node
    for depth, nodes in enumerate(job.waves):
      for node, heard in nodes:
        # Of free text any is an answer.
        answers = read is votes.nothing or read(question, said[node]) is not None
        outputs.append(
          {
            "problem": question.prompt,
            "output": said[node],
            "heard": [said[other] for other in heard],
            "answers": answers,
            "place": places[node],
            "depth": depth / max(1, job.size - 1),
          }
        )
  return {"outputs": outputs}


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
  "alone": _alone,
  "moved": _moved,
  "nodes": _nodes,
}
