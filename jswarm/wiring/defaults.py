"""Every field of a search, once, with its unit and the paper's symbol.

`None` means "decided by `search.mode`" or "the task's own"; `config.resolve` replaces
it, and what was decided stands in the run's config.json.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from jswarm.swarm import motion
from jswarm.tasks import prompts


def get_config() -> ConfigDict:
  """The complete default configuration; overlays in configs/ change a few fields."""
  config = ConfigDict()
  config.seed = 0
  config.accept_changes = ""  # fields, by comma, in which a workdir may differ

  config.task = ConfigDict(
    dict(
      name="",  # one of jswarm.tasks.TASKS, or any name for data of your own
      path="",  # published JSON {"dev": [...], "test": [...]} or JSONL
      dev_path="",
      test_path="",  # or one JSONL a split
      records="",  # or pkg.module:function, (dev_size, test_size, seed) -> records
      kind=placeholder(str),  # None: the named task's
      parser=placeholder(str),  # strict | as_published; None: by mode
      dev_size=0,
      test_size=0,  # first examples of a split; 0: all
      limit=placeholder(int),  # most new tokens of a reply; None: the task's
      chat=placeholder(bool),  # use the chat template; None: the task's
      utility="",  # pkg.module:function, (examples, replies) -> scores
      utility_seconds=0.0,  # a call may take, in a process of its own; 0: no limit
      retry_seconds=120.0,  # most that one call may take that asks to be tried again
      judge="",  # who rates replies: expert of the pool, path of a model, or https://
      ratings=placeholder(str),  # of a judge: points, 1 to 10 | share, of ten; by mode
      judge_model="",  # where it is a server: the model's name there
      judge_seconds=120.0,  # most that one verdict of a server may take, with retries
      allow_overlap=False,  # the same question in dev and test
      held_out=0.0,  # share of dev that chooses nothing and scores what was found
      problems="refuse",  # refuse | drop records that are bad, or in both splits
    )
  )
  config.pool = ConfigDict(
    dict(
      base="",  # of adapters that name none: folder, hub id or .gguf
      experts=(),  # n: "adapter", "model" or "base+adapter", or dicts with a name
      dtype="float32",  # float32 | bfloat16, of the base on the device
      allow_pickle=False,  # read .bin files, which can run code
      skip_bad=False,  # go on without experts that are refused before they are loaded
      space=placeholder(str),  # how adapters move: factors | dense | auto; by mode
      today="2024-07-26",  # the date that chat templates see, on whatever day
      thinking=placeholder(bool),  # told to chat templates that can; None: as they do
    )
  )
  config.messages = ConfigDict(
    dict(
      **prompts.NODE_WORDING,  # first, middle, last, response, question
      chunks_by="position",  # which context chunk a node reads: position | node
      reply_tokens=0,  # most tokens quoted of a predecessor; 0: a share of the room
    )
  )
  config.generation = ConfigDict(
    dict(
      temperature=0.0,  # 0: greedy, as published
      top_p=1.0,
    )
  )
  config.engine = ConfigDict(
    dict(
      rows=0,  # B, most lanes of a device; 0: what its memory holds
      pack_tokens=2048,  # T, most tokens of a prefill
      form="auto",  # adapters meet the base: auto | grouped | masked | merged
      speculate=False,  # draft the last replies of a wave from their prompts
      memo="",  # file of replies that outlive a search; empty: none
      int8=False,  # kernels of the base in 8 bits, one scale an output channel
      devices=0,  # of this process; 0: all
      tensor=1,  # devices that hold one base together
      max_prompt_tokens=0,  # T; 0: what the context leaves
      compile_cache=True,  # keep compiled programs between runs
    )
  )
  config.graph = ConfigDict(
    dict(
      top_p=placeholder(float),  # p; None: 0.8 fixed, 0 as_published
      anneal=0,  # moves over which p falls to 0; 0: it stays
      edge_mode=placeholder(str),  # single: one edge a node | multi | independent
      threshold=0.0,  # tau: smaller entries are no edges
      as_published=placeholder(bool),  # softmax twice; None: by mode
      noise="fresh",  # a particle's draws: fresh | particle (the same at every move)
      preferences="raw",  # entries as logits: raw | standard
      temperature=0.5,  # of standard preferences
    )
  )
  config.search = ConfigDict(
    dict(
      mode="fixed",  # fixed | paper | as_published; see docs/modes.md
      steps="both",  # both | role | weight
      graphs=10,  # N, adjacency particles
      assignments=10,  # M, random assignments a weight-step
      iterations=20,  # T, at most
      keep_assignments=placeholder(bool),  # a random assignment may be the result
      role_weights=placeholder(str),  # graphs are scored on: best | current; by mode
      credit=placeholder(str),  # of an expert: jfk | replace
      result=placeholder(str),  # the best system scored | the last, as in the paper
      imprint=placeholder(bool),  # bests hold the graph that scored
      dropout_r=0.0,  # d_R, d_W: chance that an iteration has no role-step,
      dropout_w=0.0,  # no weight-step
      l1=0.0,  # lambda_1: role.method=pso maximises f(A) - lambda_1 mean |a_ij|
      race=0,  # dev examples a chunk, to drop graphs that cannot matter; 0: score all
    )
  )
  config.role = _pso()
  config.weight = _pso()
  config.budget = ConfigDict(
    dict(
      calls=0,
      tokens=0,
      seconds=0.0,  # 0: no limit; seconds in which experts are
      # asked. The final test is not counted.
    )
  )
  config.checkpoint = ConfigDict(
    dict(
      every=1,  # iterations
      keep=2,  # newest checkpoints
      on_full="stop",  # where the disk is full: stop (exit 74) | pause until it is not
    )
  )
  config.processes = ConfigDict(
    dict(  # where a search runs in several
      start=60,  # seconds to wait at the start for all processes to come
      silence=60.0,  # seconds without a sign of life until a process is lost
      step=3600.0,  # seconds to wait for another's part of a step; 0: no limit
    )
  )
  config.log = ConfigDict(
    dict(
      tensorboard=True,
      progress=True,
      baselines=False,  # also test star, chain, a vote, and random search
    )
  )
  return config.lock()  # a field misspelt in an overlay is an error


def _pso() -> ConfigDict:
  """One swarm: the fields, symbols and values of `motion.Settings`."""
  fields: dict[str, Any] = dataclasses.asdict(motion.Settings())
  # Decided by search.mode.
  fields["method"] = placeholder(str)  # pso | random | evolution
  fields["velocity"] = placeholder(str)
  fields["step_decay"] = placeholder(float)
  fields["restart"] = placeholder(bool)
  return ConfigDict(fields)
