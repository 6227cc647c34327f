"""A pool of experts: made once, continued, and never taken for another one."""

import importlib
import json
import pathlib
import shutil
import subprocess
import sys

from ml_collections import ConfigDict
import numpy as np
import pytest
from safetensors.numpy import load_file

import jswarm
from jswarm.tasks.synthetic import words
from jswarm.training import pool as pool_lib
from jswarm.wiring import training

ROOT = pathlib.Path(__file__).parents[2]
SCRATCH = dict(  # of few shapes: nearly all of the time is compiling
  config=dict(
    width=16, layers=1, heads=2, kv_heads=2, head_dim=8, hidden=16, max_positions=64
  ),
  tokenizer="jswarm.tasks.synthetic.words:tokenizer",
  source=dict(
    records="jswarm.tasks.synthetic.words:records",
    count=40,
    arguments={"skills": {"max": 1.0, "pick": 1.0}, "talk": 0.0},
  ),
  settings=dict(steps=4, batch=8, multiple=32, lr=1e-2, warmup=1),
)
SETTINGS = dict(
  steps=3,
  batch=8,
  multiple=32,
  lr=1e-2,
  warmup=1,
  rank=2,
  alpha=4.0,
  targets=("q", "v"),
)


def source(**fields):
  return {
    **dict(
      records="jswarm.tasks.synthetic.words:records",
      count=24,
      dev_count=4,
      limit=4,
      arguments={"skills": {"max": 1.0}, "talk": 0.0},
      score="jswarm.tasks.synthetic.words:score",
    ),
    **fields,
  }


def config(**changes):
  """What a config file holds, with {"base.settings.steps": 5, ...} changed."""
  made = ConfigDict(
    dict(
      base=SCRATCH,
      max_tokens=64,
      settings=SETTINGS,
      experts={
        "one": source(),
        "two": source(arguments={"skills": {"pick": 1.0}, "talk": 0.0}),
      },
    )
  )
  made.update_from_flattened_dict(changes)
  return made


def on(base):
  made = config().to_dict()
  return ConfigDict({**made, "base": str(base)})


def make(out, made=None):
  return pool_lib.train_pool(out, **training.arguments(made or config()))


def files(folder):
  return {
    p: (p.stat().st_mtime_ns, p.read_bytes())
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }


def weights(out, name):
  return out / "experts" / name / "adapter_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  out = tmp_path_factory.mktemp("pool") / "first"
  return out, make(out)


@pytest.fixture
def pool(made, tmp_path):
  """A copy in a place of its own, and its rows."""
  return pathlib.Path(shutil.copytree(made[0], tmp_path / "pool")), made[1]


def test_the_folders_are_a_pool_and_the_rows_their_scores(made):
  out, rows = made
  assert [row["name"] for row in rows] == ["one", "two"]
  for row in rows:
    assert list(row) == ["name", "steps", "dev_loss", "dev_score", "base_score"]
    assert row["steps"] == 3 and len(row["dev_loss"]) == 1
    assert 0 <= row["dev_score"] <= 1 and 0 <= row["base_score"] <= 1
  assert json.loads((out / "pool.json").read_text()) == {
    "base": str(out / "base"),
    "experts": rows,
  }
  loaded = jswarm.load_pool([str(out / "experts" / name) for name in ("one", "two")])
  assert loaded.names == ("one", "two")
  (group,) = loaded.groups  # on one base
  assert {n: f["A"].shape for n, f in group.particles.items()} == {
    "q": (2, 1, 16, 2),
    "v": (2, 1, 16, 2),
  }
  assert np.abs(group.particles["q"]["B"]).max() > 0


def test_a_second_call_trains_nothing(pool):
  out, rows = pool
  before = {p: s for p, s in files(out).items() if p.name != "pool.json"}
  assert make(out) == rows
  assert {p: s for p, s in files(out).items() if p.name != "pool.json"} == before


def test_an_expert_that_is_deleted_comes_back_byte_for_byte_and_alone(pool):
  out, rows = pool
  before = {name: weights(out, name).read_bytes() for name in ("one", "two")}
  kept = files(out / "experts" / "one") | files(out / "base")
  shutil.rmtree(out / "experts" / "two")
  assert make(out) == rows
  assert files(out / "experts" / "one") | files(out / "base") == kept
  assert weights(out, "two").read_bytes() == before["two"] != before["one"]


@pytest.mark.parametrize(
  "changes, folder, difference",
  [
    ({"settings.lr": 0.5}, "experts/one", ["settings.lr: 0.01 there, 0.5 now"]),
    (
      {"experts.two.dev_count": 5},
      "experts/two",
      ["source.dev_count: 4 there, 5 now", "records: "],
    ),
    ({"experts.two.limit": 5}, "experts/two", ["source.limit: 4 there, 5 now"]),
    ({"base.settings.steps": 5}, "base", ["settings.steps: 4 there, 5 now"]),
    ({"base.config.layers": 2}, "base", ["config.layers: 1 there, 2 now"]),
    ({"max_tokens": 63}, "base", ["max_tokens: 64 there, 63 now"]),
  ],
)
def test_what_was_made_from_something_else_is_refused_with_the_difference(
  pool, changes, folder, difference
):
  out, _ = pool
  before = files(out)
  with pytest.raises(ValueError) as error:
    make(out, config(**changes))
  message, *lines = str(error.value).split("\n")
  assert message.startswith(f"{out / folder} was made from other settings or data")
  assert "another --out" in message and f"delete {out / folder}" in message
  shown = [line.strip() for line in lines if not line.startswith("  base: ")]  # a copy
  assert len(shown) == len(difference)
  for part in difference:
    assert any(line.startswith(part) for line in shown)
  assert files(out) == before


def test_another_base_under_finished_experts_is_refused(pool, tmp_path):
  out, rows = pool
  other = pathlib.Path(shutil.copytree(out / "base", tmp_path / "other"))
  assert make(out, on(other)) == rows  # the same one, elsewhere
  settings = json.loads((other / "config.json").read_text())
  (other / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 0.1}))
  before = files(out)
  with pytest.raises(ValueError, match="base_sha256: .* there, .* now") as error:
    make(out, on(other))
  assert f"{str(other)!r} now" in str(error.value) and files(out) == before


def test_what_changes_no_result_may_change(pool):
  out, rows = pool
  changes = {"settings.save_every": 2, "settings.eval_every": 1}
  assert make(out, config(**changes)) == rows


def test_a_pool_of_an_older_version_is_taken_with_a_warning(pool, caplog):
  out, rows = pool
  (out / "base" / "training.json").unlink()
  for row in rows:
    (out / "experts" / row["name"] / "training.json").write_text(json.dumps(row))
  assert make(out) == rows
  said = [r.getMessage() for r in caplog.records if "taken as it is" in r.getMessage()]
  assert [message.split(" is ")[0] for message in said] == [
    str(out / "base"),
    str(out / "experts" / "one"),
    str(out / "experts" / "two"),
  ]


def write_jsonl(path, split, count):
  made = words.records({"max": 1.0}, split, count, seed=0, talk=0.0)
  path.write_text(
    "".join(
      json.dumps({k: r[k] for k in ("prompt", "completion")}) + "\n" for r in made
    )
  )
  return str(path)


def test_a_pool_is_written_in_half_precision_where_that_is_asked_for(tmp_path):
  out, rows = tmp_path / "half", make(tmp_path / "half", config(save_dtype="bfloat16"))
  for path in (out / "base" / "model.safetensors", weights(out, "one")):
    assert b'"BF16"' in path.read_bytes() and b'"F32"' not in path.read_bytes()
  assert [row["name"] for row in rows] == ["one", "two"]
  assert make(out, config(save_dtype="bfloat16")) == rows
  with pytest.raises(ValueError, match="dtype"):
    make(out)
  with pytest.raises(ValueError, match="dtype='half'.*float32, bfloat16"):
    make(out, config(save_dtype="half"))


@pytest.mark.slow
def test_experts_that_are_tuned_together_share_their_a_and_depend_on_each_other(
  made, tmp_path
):
  base = made[0] / "base"
  together = on(base)
  together.settings["mixes"] = 2
  rows = make(tmp_path / "out", together)
  assert [row["name"] for row in rows] == ["one", "two"]
  read = lambda name: load_file(weights(tmp_path / "out", name))
  one, two = read("one"), read("two")
  for key, value in one.items():
    assert np.array_equal(value, two[key]) == ("lora_A" in key)
  together.experts.two["count"] = 16
  with pytest.raises(ValueError, match="experts/one was made from other.*\n  experts:"):
    make(tmp_path / "out", together)


def test_files_in_chat_form_on_a_base_without_a_template(pool, tmp_path, caplog):
  base, out = pool[0] / "base", tmp_path / "out"
  made = on(base)
  made.experts = ConfigDict(
    {
      "one": dict(
        path=write_jsonl(tmp_path / "train.jsonl", "train", 16),
        dev_path=write_jsonl(tmp_path / "dev.jsonl", "dev", 6),
        dev_count=4,
        chat=True,
        limit=4,
      )
    }
  )
  (row,) = make(out, made)
  assert 0 <= row["dev_score"] <= 1 and not (out / "base").exists()
  assert "has no chat template" in caplog.text
  shutil.copy(tmp_path / "train.jsonl", tmp_path / "elsewhere.jsonl")
  write_jsonl(tmp_path / "train.jsonl", "train", 15)
  with pytest.raises(ValueError, match="records: .* there, .* now"):
    make(out, made)
  made.experts.one.path = str(tmp_path / "elsewhere.jsonl")
  assert make(out, made) == [row]  # the same records in another file


@pytest.mark.parametrize(
  "field, message",
  [
    ("base", "the config: missing 'base'. Allowed are base (needed), experts (needed)"),
    ("experts", "the config: missing 'experts'"),
    ("settings", "the config: missing 'settings'"),
    ("max_tokens", "the config: missing 'max_tokens'"),
    ("base.config", "base: missing 'config'"),
    ("base.tokenizer", "base: missing 'tokenizer'"),
    ("base.source", "base: missing 'source'"),
    ("base.settings", "base: missing 'settings'. Allowed are config (needed)"),
    ("base.config.width", "base.config: missing 'width'"),
    ("base.settings.steps", "base.settings: missing 'steps'. Allowed are alpha, batch"),
    ("settings.steps", "settings: missing 'steps'"),
    ("base.source.count", "base.source: count=0, dev_count=0: allowed are 1 or more"),
    ("experts.one.records", "experts.one: path='' and records='': give exactly one"),
  ],
)
def test_a_missing_field_is_named(field, message):
  made = config()
  *sections, last = field.split(".")
  at = made
  for section in sections:
    at = at[section]
  del at[last]
  with pytest.raises(ValueError) as error:
    training.arguments(made)
  assert str(error.value).startswith(message)


@pytest.mark.parametrize(
  "section, message",
  [
    ("", "the config: unknown 'stepz'. Allowed are base (needed)"),
    ("base.", "base: unknown 'stepz'. Allowed are config (needed)"),
    ("base.config.", "base.config: unknown 'stepz'. Allowed are activation"),
    ("base.source.", "base.source: unknown 'stepz'"),
    ("base.settings.", "base.settings: unknown 'stepz'"),
    ("settings.", "settings: unknown 'stepz'"),
    ("experts.two.", "experts.two: unknown 'stepz'. Allowed are arguments, chat"),
  ],
)
def test_an_unknown_field_is_named(section, message):
  with pytest.raises(ValueError) as error:
    training.arguments(config(**{f"{section}stepz": 1}))
  assert str(error.value).startswith(message)
  assert "rename or remove" in str(error.value)


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("base", None, "base is None; allowed is a section"),
    ("base.source", "a.jsonl", "base.source is 'a.jsonl'; allowed is a section"),
    ("experts", {}, "experts is {}: allowed is a section"),
    ("experts", ("one",), "experts is ('one',): allowed is a section"),
    ("settings.steps", 0, "settings: steps=0: allowed is 1 or more"),
    ("settings.steps", "3", "settings: '<' not supported"),
  ],
)
def test_an_impossible_value_is_named_with_its_field(field, value, message):
  made = config()
  *sections, last = field.split(".")
  at = made
  for section in sections:
    at = at[section]
  with at.ignore_type():
    at[last] = value
  with pytest.raises(ValueError) as error:
    training.arguments(made)
  assert str(error.value).startswith(message)


@pytest.mark.parametrize(
  "name, experts",
  [("tiny_pool", 6), ("smollm2_pool", 4), ("atlas_pool", 10), ("folio_pool", 10)],
)
def test_the_configs_that_ship_are_complete(name, experts):
  shipped = importlib.import_module(f"configs.{name}").get_config()
  assert len(training.arguments(shipped)["sources"]) == experts


def test_records_of_a_function_are_checked_like_those_of_a_file(tmp_path):
  with pytest.raises(ValueError, match='train record 0: "prompt" is nothing'):
    make(
      tmp_path / "out",
      config(
        **{
          "base.source": source(
            records="jswarm.tasks.synthetic.words:questions", arguments={}
          )
        }
      ),
    )


@pytest.mark.slow
def test_the_launcher_prints_the_table(tmp_path):
  file = tmp_path / "small.py"
  file.write_text("from tests.training.pool_test import config as get_config\n")

  def launch(*more):
    return subprocess.run(
      [
        sys.executable,
        "-m",
        "experiments.train_experts",
        f"--config={file}",
        f"--out={tmp_path / 'out'}",
        *more,
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=600,
    )

  done = launch()
  assert done.returncode == 0, done.stderr
  head, *rows = [line.split() for line in done.stdout.strip().splitlines()]
  assert head == ["expert", "dev", "score", "base", "dev", "loss"]
  assert [row[0] for row in rows] == ["one", "two"]
  assert all(0 <= float(x) <= 1 for row in rows for x in row[1:3])
  assert launch().stdout == done.stdout  # found finished
  refused = launch("--config.settings.lr=0.5")
  assert refused.returncode == 65 and "Traceback" not in refused.stderr
  assert "settings.lr: 0.01 there, 0.5 now" in refused.stderr
