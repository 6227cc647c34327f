"""A tiny pool on disk: a word-level base, adapters and whole models."""

import dataclasses

import jax
import numpy as np

from jswarm import hf, skills
from tests import tiny

CONFIG = dataclasses.replace(tiny.CONFIG, vocab=len(skills.vocabulary()))


def write_base(folder, seed=0):
  hf.save_base(folder, CONFIG, tiny.base(seed, CONFIG))
  skills.tokenizer().save_pretrained(folder)
  return str(folder)


def write_adapters(folder, base, num=3):
  stacked = tiny.adapters(num, config=CONFIG)
  for e in range(num):
    adapter = jax.tree.map(lambda x: np.asarray(x[e]), stacked)
    hf.save_adapter(folder / f"skill{e}", adapter, base, CONFIG)
  return [str(folder / f"skill{e}") for e in range(num)]


def records(dev=4, test=5):
  return {"dev": skills.questions("dev", dev, seed=0),
          "test": skills.questions("test", test, seed=0)}


def said_something_new(examples, replies):
  """A utility that random models differ in: distinct words of the reply."""
  return [len(set(r.split())) / 10 for r in replies]


SMALL = {"search.graphs": 2, "search.assignments": 3, "search.iterations": 1,
         "task.limit": 6, "log.progress": False, "log.tensorboard": False,
         **skills.MESSAGES, "engine.compile_cache": False}
