"""What a search will need of memory and disk, of a pool that is checked, not loaded."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jswarm.core.types import Experts, PyTree
from jswarm.distributed.devices import Replicas
from jswarm.engine import footprint, texts
from jswarm.model.architecture import DecoderConfig
from jswarm.pool import load
from jswarm.pool.specs import Spec
from jswarm.swarm import state
from jswarm.systems import prompts
from jswarm.tasks import base
from jswarm.wiring import config as config_lib
from jswarm.wiring.config import Resolved

_SPARE = 1 << 16  # bytes of a checkpoint's folders and small files
_REPLY = 200  # bytes of a reply in a checkpoint, beside its words
_LETTERS = 5  # bytes of a token, about


def shapes(
  config: Resolved, specs: Sequence[Spec], checked: load.Checked
) -> list[footprint.Shape]:
  """The groups of the pool in the order of the loaded one."""
  dtype = np.dtype(config_lib.model_dtype(config.pool.dtype, "pool.dtype"))
  made = []
  for kind, entries in load.divide(specs, checked):
    members = [i for mine, _ in entries for i in mine]
    mine = entries[0][1].config
    made.append(
      footprint.Shape(
        kind,
        len(members),
        mine,
        dtype,
        _stacked(checked, [specs[i].name for i in members]) if kind == "lora" else None,
        config.engine.space == "dense" and kind == "lora",
        config.engine.int8,
      )
    )
  return made


def moving(config: Resolved, specs: Sequence[Spec], checked: load.Checked) -> bool:
  """Is there a weight-step, and anything that it can move?"""
  groups = [shape for shape in shapes(config, specs, checked) if shape.experts > 1]
  return config.swarm.steps != "role" and bool(groups)


def need(
  config: Resolved,
  task: base.Task,
  specs: Sequence[Spec],
  checked: load.Checked,
  replicas: Replicas,
) -> footprint.Bytes:
  """Bytes on the busiest device of this process; on a CPU that is all of them."""
  pool = texts.unloaded(specs, checked, config.engine)
  limit = max([task.limit, *(x.limit for x in (task.followup, task.judge) if x)])
  rows = config.engine.rows or _widest(config, task, len(specs))
  return footprint.together(
    [
      footprint.of_group(
        shape,
        longest_prompt(config, task, pool, shape.config),
        limit,
        rows,
        replicas.memory(),
        replicas.platform,
      )
      for shape in shapes(config, specs, checked)
    ]
  )


def longest_prompt(
  config: Resolved, task: base.Task, pool: Experts, decoder: DecoderConfig
) -> int:
  """Tokens of the longest prompt that any node may get, at most.

  The longest question and chunk with the replies of all other nodes in it, each as long
  as a reply may be; no more than the context leaves.
  """
  examples = [*task.dev, *task.held, *task.test]
  bare = [
    prompts.compose(config.wording, config.wording.last, (), _longest(e.chunks), text)
    for e, text in zip(examples, map(task.prompt, examples))
  ]
  top = sorted(bare, key=len)[-8:]  # tokens and letters go together, not quite
  asked = max((pool.count(0, text) for text in top), default=0)
  heard = config.wording.reply_tokens or task.limit
  line = pool.count(0, prompts.compose(config.wording, "", ("",), "", ""))
  quoted = (len(pool.names) - 1) * (min(heard, task.limit) + line)
  room = max(1, decoder.max_positions - task.limit)
  return min(asked + quoted + 64, config.engine.max_prompt_tokens or room, room)


def checkpoint(config: Resolved, task: base.Task, specs, checked) -> int:
  """Bytes of one checkpoint: the arrays of the state, and the replies it remembers."""
  groups, members = [], []
  for shape, (_, entries) in zip(
    shapes(config, specs, checked), load.divide(specs, checked), strict=True
  ):
    if shape.experts > 1:
      members.append(tuple(i for mine, _ in entries for i in mine))
      groups.append(_particles(shape))
  arrays = footprint.size(_state(config, len(specs), tuple(members), tuple(groups)))
  settings = config.swarm
  systems = settings.graphs + settings.assignments + 2
  replies = systems * len(specs) * len(task.dev)
  return arrays + replies * (_REPLY + _LETTERS * task.limit) + _SPARE


def saved_experts(config: Resolved, specs, checked) -> int:
  """Bytes of the experts that a run leaves below best/, at most."""
  total = 0
  for shape in shapes(config, specs, checked):
    if shape.kind == "lora":
      total += footprint.size(shape.adapters) * (shape.experts if shape.dense else 1)
    else:
      whole = footprint.size(footprint.params_shapes(shape.config, shape.dtype))
      moved = 4 // shape.dtype.itemsize if shape.experts > 1 else 1
      total += shape.experts * whole * moved
  return total


def _widest(config, task, num) -> int:
  """Prompts of the largest call, at most: all nodes of all systems at once."""
  weight = num if config.swarm.credit == "replace" else config.swarm.assignments
  systems = max(config.swarm.graphs, config.swarm.assignments, weight) + 1
  return num * max(systems * len(task.dev), len(task.test))


def _stacked(checked, names) -> PyTree:
  """Shapes of the factors of all experts, as `load` stacks them."""
  given = [checked.adapters[name] for name in names if name in checked.adapters]
  rank = max((f["A"].shape[-1] for a in given for f in a.values()), default=1)
  single = {}
  for adapter in given:
    for name, factors in adapter.items():
      a, b = factors["A"].shape, factors["B"].shape
      single[name] = {"A": (*a[:2], rank), "B": (b[0], rank, b[2])}
  make = lambda shape: jax.ShapeDtypeStruct((len(names), *shape), np.float32)
  return jax.tree.map(make, single, is_leaf=lambda x: isinstance(x, tuple))


def _particles(shape: footprint.Shape) -> PyTree:
  """What moves of a group."""
  if shape.dense:
    size = (shape.experts, shape.experts)
    return {"mix": jax.ShapeDtypeStruct(size, np.float32)}
  if shape.kind == "lora":
    return shape.adapters
  params = footprint.params_shapes(shape.config, np.float32)
  stack = lambda x: jax.ShapeDtypeStruct((shape.experts, *x.shape), np.float32)
  return jax.tree.map(stack, params)


def _state(config, num, members, weights):
  """The search state of so many experts, as shapes."""

  def blank(weights):
    nobody: Any = None  # shapes ask nothing
    experts = Experts(
      names=tuple(map(str, range(num))),
      groups=members,
      weights=weights,
      install=nobody,
      ask=nobody,
      count=nobody,
      clip=nobody,
      room=nobody,
      save=nobody,
    )
    return state.blank(experts, config.swarm)

  return jax.eval_shape(blank, weights)


def _longest(chunks) -> str:
  return max(chunks or ("",), key=len)
