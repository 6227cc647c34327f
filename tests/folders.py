"""A tiny pool on disk: a word-level base, adapters and whole models."""

import dataclasses

import jax
import numpy as np

from jswarm.formats import hf_model, peft_adapter
from jswarm.tasks.synthetic import words
from tests import tiny

CONFIG = dataclasses.replace(tiny.CONFIG, vocab=len(words.vocabulary()))


def write_base(folder, seed=0):
  hf_model.save_base(folder, CONFIG, tiny.base(seed, CONFIG))
  words.tokenizer().save_pretrained(folder)
  return str(folder)


def write_adapters(folder, base, num=3):
  stacked = tiny.adapters(num, config=CONFIG)
  for e in range(num):
    adapter = jax.tree.map(lambda x: np.asarray(x[e]), stacked)
    peft_adapter.save_adapter(folder / f"skill{e}", adapter, base, CONFIG)
  return [str(folder / f"skill{e}") for e in range(num)]


def records(dev=4, test=5):
  return {
    "dev": words.questions("dev", dev, seed=0),
    "test": words.questions("test", test, seed=0),
  }


def said_something_new(examples, replies):
  """A utility that random models differ in: distinct words of the reply."""
  return [len(set(r.split())) / 10 for r in replies]


SMALL = {
  "pool.space": "factors",
  "search.graphs": 2,
  "search.assignments": 3,
  "search.iterations": 1,
  "task.limit": 6,
  "log.progress": False,
  "log.tensorboard": False,
  **words.MESSAGES,
  "engine.compile_cache": False,
}
