"""Pools without a model: replies are a function of weights and prompt."""

import re

import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Experts, Reply


def dictionary(replies, names=("a", "b", "c"), room=10_000):
  """A pool that answers (expert, prompt) from a function; words are tokens."""
  asked = []

  def ask(requests):
    asked.extend(requests)
    return [
      Reply(replies(r.expert, r.prompt), len(r.prompt.split()), 1) for r in requests
    ]

  experts = Experts(
    names=tuple(names),
    groups=(),
    weights=(),
    install=lambda weights: None,
    ask=ask,
    count=lambda e, text: len(text.split()),
    clip=lambda e, text, n: " ".join(text.split()[:n]),
    room=lambda e, limit: room,
    save=lambda folder, weights, members: {},
  )
  return experts, asked


def numeric(num=4, size=3, seed=0, groups=None):
  """Experts whose weights are what they say: each quotes, in every place, the mean of
  its own weight and the largest that its predecessors said, between 0 and 1. A graph
  that puts good experts last scores higher, and so do better weights."""
  start = np.random.default_rng(seed).uniform(0, 0.6, (num, size)).astype(np.float32)
  groups = groups or (tuple(range(num)),)
  holder = {"rows": start.copy()}

  def install(weights):
    rows = start.copy()
    for members, tree in zip(groups, weights, strict=True):
      rows[list(members)] = np.asarray(tree["w"])
    holder["rows"] = rows

  def say(expert, prompt):
    heard = [
      [float(x) for x in line.split()]
      for line in re.findall(r"response \d+: ([-\d.e ]+)", prompt)
    ]
    own = holder["rows"][expert]
    said = (own + np.max(heard, axis=0)) / 2 if heard else own
    return " ".join(f"{x:.4f}" for x in np.clip(said, 0, 1))

  experts, asked = dictionary(say, [f"expert{i}" for i in range(num)])
  return experts._replace(
    groups=groups,
    install=install,
    save=lambda folder, weights, members: {
      experts.names[e]: {"kind": "fake"} for e in members
    },
    weights=tuple({"w": jnp.asarray(start[list(m)])} for m in groups),
  ), asked


def mean_of_numbers(examples, replies):
  """The utility of `numeric`: mean of the numbers, less what the question asks."""
  return [
    float(np.mean([float(x) for x in reply.split()])) - float(e["answer"]) / 100
    for e, reply in zip(examples, replies)
  ]


def records(dev=5, test=6):
  make = lambda split, n: [
    {"id": f"{split}{i}", "question": f"{split} question {i}", "answer": str(i)}
    for i in range(n)
  ]
  return {"dev": make("dev", dev), "test": make("test", test)}


def splits(dev, test, seed):
  """Records as `task.records` makes them."""
  del seed
  return records(dev, test)
