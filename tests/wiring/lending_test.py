"""What a real pool lends: draws, merged models, and a model trained on all records."""

import importlib
import json

from ml_collections import ConfigDict
import numpy as np
import pytest

from jswarm.core.types import Request
from jswarm.training import sources as sources_lib
from jswarm.wiring import config as config_lib
from jswarm.wiring import lending, methods

RECORDS = "jswarm.tasks.synthetic.words:records"


def test_all_records_of_all_experts_are_one_file(tmp_path):
  source = lambda skill, count: sources_lib.Source(
    records=RECORDS, count=count, arguments={"skills": {skill: 1.0}}
  )
  sources = {"a": source("add", 3), "b": source("max", 5)}
  union = lending._union(sources, 7, tmp_path / "records.jsonl")
  lines = (tmp_path / "records.jsonl").read_text("utf-8").splitlines()
  rows = [json.loads(line) for line in lines]
  wanted = sources["a"].load(8)[0] + sources["b"].load(9)[0]
  assert [r["prompt"] for r in rows] == [r["prompt"] for r in wanted] and len(rows) == 8
  assert union.load(0)[0] == rows


def test_records_with_and_without_a_chat_template_are_not_one_file(tmp_path):
  make = lambda chat: sources_lib.Source(path="x.jsonl", chat=chat)
  with pytest.raises(ValueError, match="chat"):
    lending._union({"a": make(True), "b": make(False)}, 0, tmp_path / "r.jsonl")


@pytest.fixture(scope="module")
def bench():
  config = importlib.import_module("configs.skills").get_config()
  changes = {"task.dev_size": 4, "task.test_size": 4, "engine.compile_cache": False}
  small = dict(records=RECORDS, count=24, arguments={"skills": {"add": 1.0}})
  trained = ConfigDict(
    dict(
      base="builtin:tiny_pool/base",
      max_tokens=128,
      settings=dict(steps=2, batch=4, warmup=1, rank=2),
      experts={"a": small, "b": {**small, "count": 12}},
    )
  )
  return methods.bench(config_lib.override(config, changes), trained=trained)


def _said(experts, expert, bench):
  task = bench.plan.task
  asked = [q.prompt for q in bench.evaluator.questions(task.dev)]
  wording = bench.plan.wording.question
  return [
    r.text
    for r in experts.ask(
      [Request(expert, wording.replace("{prompt}", p), task.limit) for p in asked]
    )
  ]


@pytest.mark.slow
def test_one_hot_updates_on_the_base_are_that_expert(bench):
  (deltas,) = bench.lent.deltas()
  assert sorted(deltas)[0].startswith("layers/attn/")
  for expert in (0, 3):
    update = {name: np.asarray(read())[expert] for name, read in deltas.items()}
    served = bench.lent.serve(0, update)
    assert served.names == ("merged",)
    assert _said(served, 0, bench) == _said(bench.plan.experts, expert, bench)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["dare_ties", "self_consistency", "data_merge", "lorahub", "pack_of_llms"]
)
def test_methods_that_borrow_run_on_a_real_pool(bench, name):
  options = {"lorahub": {"trials": 3, "shots": 2}}.get(name)
  row = bench.row(name, bench.setting(0, 0, options=options), methods.known())
  assert row["test"]["n"] == 4 and row["dev"] is not None
  assert json.loads(json.dumps(row))
