"""Runs of a tiny model that are harmed at random, over and over: all must end alike.

  python -m tests.soak FOLDER --seconds=3600 --seed=0

A child is one life of a search with an engine of its own, whose memory runs out now and
then, and whose judge is a server here that answers 429, 500 or nothing. It is killed or
told to end at random moments, also while it writes its checkpoint or the programs that
it has compiled, and begun again until it finishes. With what is killed, what is told to
end, what memory ran out and what the judge did not say, a row says how it was harmed.
"""

import argparse
import json
import logging
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib

from tests.judge_server import Failing, serving

ROOT = pathlib.Path(__file__).parent.parent
FIELDS = {
  "task.name": "ltp",
  "task.chat": False,
  "task.limit": 6,
  "task.judge_model": "rater",
  "search.graphs": 2,
  "search.assignments": 3,
  "search.iterations": 3,
  "log.progress": False,
  "log.tensorboard": False,
}
MOST_HARMS = 4  # of one run, so that it ends
_MEMORY = "memory runs out"  # what a life says then


def child(workdir, url, seed, pool):
  """One life; seed 0 is left alone."""
  import dataclasses

  import jax
  import numpy as np

  from jswarm import cli
  from jswarm.run import loop
  from jswarm.wiring import config as config_lib
  from jswarm.wiring import search
  from jswarm.wiring.defaults import get_config

  def main(argv):
    cli.end_on_signal()
    _run_out_of_memory(seed)
    cli.keep_compiled(config_lib.override(get_config(), FIELDS))
    rows = [{"question": f"question {i}", "answer": f"gold {i}"} for i in range(8)]
    config = config_lib.override(get_config(), {**FIELDS, "task.judge": url})
    experts = _experts(pool)

    def ask(requests):
      print("asking", flush=True)
      return experts.ask(requests)

    plan = search.plan(
      config,
      records={"dev": rows[:4], "test": rows[4:]},
      experts=experts._replace(ask=ask, save=_told),
      workdir=workdir,
    )
    result = loop.run(dataclasses.replace(plan, every=2), workdir)
    leaves = map(np.asarray, jax.tree.leaves(result.state))
    np.savez(os.path.join(workdir, "state.npz"), *leaves)

  cli._guard(main, [])


def _experts(pool):
  """A tiny model with three adapters, or, far quicker, experts that say numbers."""
  from tests import fakes, tiny

  if pool == "numbers":
    return fakes.numeric(3)[0]
  from jswarm.engine import engine

  return engine.make_experts(tiny.pool(tiny.lora_group(3)), tiny.settings())


def _run_out_of_memory(seed):
  """Twice in this life, at moments that the seed decides; never for seed 0."""
  import jax

  from jswarm.engine import batcher

  chance, left = random.Random(seed), [2 * bool(seed)]

  def harmed(true):
    def method(self, *arguments):
      if left[0] and chance.random() < 0.1:
        left[0] -= 1
        print(_MEMORY, flush=True)
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: injected")
      return true(self, *arguments)

    return method

  for name in ("_decode", "_compute"):
    setattr(batcher.Batcher, name, harmed(getattr(batcher.Batcher, name)))


def _told(folder, weights, members):
  return {f"expert{e}": {"kind": "fake"} for e in members}


def _verdict(prompt):
  return f"Rating: {1 + zlib.crc32(prompt.encode()) % 10}"


class _Harming(Failing):
  """A server that fails at random, but lets every question pass in the end."""

  def __init__(self, chance):
    super().__init__(say=_verdict)
    self._chance, self._failed, self.harms = chance, {}, 0

  def next(self, prompt):
    with self.lock:
      self.posts.clear(), self.bodies.clear(), self.headers.clear()
      if self._chance.random() > 0.2 or self._failed.get(prompt, 0) >= 3:
        return "ok"
      self._failed[prompt] = self._failed.get(prompt, 0) + 1
      self.harms += 1
      return self._chance.choice([(429, "0.05")] * 6 + [(500, "0.05"), "empty", "drop"])


def _life(workdir, url, seed, pool, harm, chance):
  """(exit code, peak of memory in bytes, how often memory ran out) of one life, ended
  by `harm` if not None."""
  with open(workdir.with_suffix(".log"), "ab") as log:
    life = [str(workdir), f"--child={url}", f"--seed={seed}", f"--pool={pool}"]
    process = subprocess.Popen(
      [sys.executable, "-m", "tests.soak", *life],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=log,
      text=True,
      # Compiled once for all lives, and away with the folder.
      env={**os.environ, "XDG_CACHE_HOME": str(workdir.parent / "cache")},
    )
  # At work, and not on its way there, which is most of its time.
  line = process.stdout.readline()
  if harm is not None and line:
    time.sleep(chance.uniform(0.0, 2.0))
    process.send_signal(harm)
  said = process.stdout.read()
  process.stdout.close()
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  return process.returncode, usage.ru_maxrss * 1024, said.count(_MEMORY)


def _run(workdir, server, chance, pool, harmed):
  """One run to its end: {lives, harms by kind, peak, disk, end}."""
  lives, peak, harms = 0, 0, {"SIGKILL": 0, "SIGTERM": 0, "memory": 0}
  before = server.harms
  while True:
    harm, seed = None, chance.randrange(1, 1 << 30) if harmed else 0
    if harmed and lives < MOST_HARMS and chance.random() < 0.8:
      harm = chance.choice([signal.SIGKILL, signal.SIGTERM])
    code, memory, out = _life(workdir, server.url, seed, pool, harm, chance)
    lives, peak = lives + 1, max(peak, memory)
    harms["memory"] += out
    if code == 0:
      break
    if harm is None or code not in (-signal.SIGKILL, 75):
      log = workdir.with_suffix(".log").read_text()[-3000:]
      raise AssertionError(f"a life ended with {code}, harmed by {harm}:\n{log}")
    harms[harm.name] += 1
  from tests.fake_run import end

  disk = sum(p.stat().st_size for p in workdir.rglob("*") if p.is_file())
  harms["judge"] = server.harms - before
  return {"lives": lives, **harms, "peak": peak, "disk": disk, "end": end(workdir)}


def soak(folder, seconds, seed, pool="model", told=logging.info):
  """Harms runs for so long; raises AssertionError where one ends otherwise.

  Returns:
    [{lives, SIGKILL, SIGTERM, memory, judge, peak, disk}] of each run, the one that is
    not killed and whose memory does not run out first.
  """
  folder, chance = pathlib.Path(folder), random.Random(seed)
  began, rows = time.monotonic(), []
  with serving(_Harming(chance)) as server:
    whole = None
    while not rows or len(rows) < 2 or time.monotonic() - began < seconds:
      workdir = folder / f"run{len(rows)}"
      row = _run(workdir, server, chance, pool, harmed=bool(rows))
      found = row.pop("end")
      whole = whole or found
      for a, b, what in zip(found, whole, ("results", "state", "files")):
        assert a == b, f"the {what} of {workdir} are not those of {folder / 'run0'}"
      rows.append(row)
      told(json.dumps({**row, "s": round(time.monotonic() - began)}))
      if len(rows) > 1:
        shutil.rmtree(workdir)
        workdir.with_suffix(".log").unlink()
  return rows


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  parser.add_argument("folder")
  parser.add_argument("--seconds", type=float, default=60)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--pool", choices=("model", "numbers"), default="model")
  parser.add_argument("--child", default="")
  given = parser.parse_args()
  if given.child:
    child(given.folder, given.child, given.seed, given.pool)
  else:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    soak(given.folder, given.seconds, given.seed, given.pool)
