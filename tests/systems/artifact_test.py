"""The library from folders to a saved system, and back with the same words."""

import dataclasses
import json
import shutil

import huggingface_hub
import numpy as np
import pytest

import jswarm
from jswarm.run import code
from jswarm.systems import artifact, card, portable, prompts, waves
from jswarm.tasks.synthetic import words
from jswarm.wiring import config as config_lib
from jswarm.wiring import search, system
from tests import folders


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
  root = tmp_path_factory.mktemp("pool")
  base = folders.write_base(root / "base")
  return root, base, folders.write_adapters(root, base)


def _search(pool, workdir, **changes):
  return jswarm.search(
    pool,
    folders.records(),
    utility=folders.said_something_new,
    workdir=str(workdir),
    config={**folders.SMALL, **changes},
  )


def _prompts():
  return [r["question"] for r in folders.records(test=8)["test"]]


def _in_memory(result, pool, space="factors"):
  """What the found system says before it was ever saved."""
  from jswarm.engine import engine
  from jswarm.wiring import config as config_lib

  config = config_lib.resolve_default({**folders.SMALL, "pool.space": space})
  experts = engine.make_experts(pool, config.engine)
  experts.install(result.system.weights)
  questions = [prompts.Question(p) for p in _prompts()]
  terms = prompts.Terms(experts, config.wording, limit=6, chat=False)
  items = waves.grid([artifact.job_of(result.system)], [questions])
  return [done.reply for done in waves.run(items, terms, waves.direct(experts))]


@pytest.mark.slow
@pytest.mark.parametrize("space", ["factors", "dense"])
def test_a_saved_system_says_what_it_said_in_the_search(disk, tmp_path, space):
  _, base, adapters = disk
  pool = jswarm.load_pool(adapters, base=base)
  result = _search(pool, tmp_path, **{"pool.space": space})
  loaded = jswarm.load_system(tmp_path / "best")
  assert loaded.generate(_prompts()) == _in_memory(result, pool, space)


@pytest.mark.slow
def test_a_pool_of_whole_models_is_searched_and_saved(disk, tmp_path):
  root, _, _ = disk
  models = [folders.write_base(root / f"model{i}", seed=i) for i in range(3)]
  pool = jswarm.load_pool(models)
  assert [g.kind for g in pool.groups] == ["full"]
  result = _search(pool, tmp_path)
  assert jswarm.load_system(tmp_path / "best").generate(_prompts()) == _in_memory(
    result, pool
  )
  for saved in (tmp_path / "best" / "experts").iterdir():
    stops = json.loads((saved / "generation_config.json").read_text())
    assert stops["eos_token_id"] == list(pool.groups[0].stops)


@pytest.mark.slow
def test_a_system_is_served_as_it_was_found(disk, tmp_path):
  """Sampled, in bfloat16, with a seed and a shortest room of its own."""
  _, base, adapters = disk
  pool = jswarm.load_pool(adapters, base=base, dtype="bfloat16")
  changes = {"generation.temperature": 1.5, "seed": 3, "engine.max_prompt_tokens": 60}
  result = _search(pool, tmp_path, **changes)
  loaded = jswarm.load_system(tmp_path / "best")
  assert loaded.description["serving"] == {
    "seed": 3,
    "pool.dtype": "bfloat16",
    "pool.today": "2024-07-26",
    "pool.thinking": None,
    "generation.temperature": 1.5,
    "generation.top_p": 1.0,
    "engine.int8": False,
    "engine.max_prompt_tokens": 60,
  }
  said = loaded.generate([r["question"] for r in folders.records()["test"]])
  assert said == result.tested["system"].replies


def test_a_mixed_pool_moves_only_what_shares_a_base(disk, tmp_path):
  root, base, adapters = disk
  other = folders.write_base(root / "other", seed=7)
  pool = jswarm.load_pool([*adapters, other], base=base)
  result = _search(pool, tmp_path)
  assert [len(s.utility) for s in result.state.weight] == [3]
  assert len(result.results["singles_dev"]) == 4


def test_the_bare_base_can_be_an_expert_among_its_adapters(disk):
  _, base, adapters = disk
  pool = jswarm.load_pool([*adapters, {"base": base, "name": "plain"}])
  (group,) = pool.groups
  assert group.kind == "lora" and pool.names[-1] == "plain"
  assert all(not np.asarray(f["B"][-1]).any() for f in group.particles.values())


def test_the_saved_folder_is_complete_and_reads_as_a_model_card(disk, tmp_path):
  _, base, adapters = disk
  _search(jswarm.load_pool(adapters, base=base), tmp_path)
  best = tmp_path / "best"
  card = (best / "README.md").read_text()
  assert card.startswith("---\nlibrary_name: jswarm") and "```mermaid" in card
  described = json.loads((best / "jswarm_system.json").read_text())
  assert described["schema_version"] == 1
  scoring = described["scoring"]
  assert (scoring["task.kind"], scoring["task.limit"]) == ("custom", 6)
  assert scoring["code.utility"] and "code.readers" not in scoring
  for entry in described["experts"].values():
    assert (best / entry["path"] / "adapter_model.safetensors").is_file()
  results = json.loads((tmp_path / "results.json").read_text())
  assert results["system"]["edges"] == described["edges"]
  assert set(results["test"]) == {"system", "initial", "best_single"}


@pytest.fixture(scope="module")
def best(disk, tmp_path_factory):
  """A saved system of a pool that lies in absolute folders."""
  _, base, adapters = disk
  folder = tmp_path_factory.mktemp("run")
  _search(jswarm.load_pool(adapters, base=base), folder, **{"search.iterations": 0})
  return folder / "best"


def test_the_saved_folder_holds_all_that_travels(best):
  described = json.loads((best / "jswarm_system.json").read_text())
  names = {path.relative_to(best).as_posix() for path in best.rglob("*")}
  assert {"graph.mmd", "graph.dot", "graph.svg", "config.json", "SHA256SUMS"} <= names
  assert {"eval/results.json", "eval/samples_test.jsonl"} <= names
  for field in ("first", "middle", "last", "response", "question"):
    kept = (best / "prompts" / f"{field}.txt").read_bytes().decode()
    assert kept == described["wording"][field]
  for entry in described["experts"].values():
    assert f"{entry['tokenizer']}/tokenizer.json" in names
    assert f"{entry['tokenizer']}/generation_config.json" in names
    assert f"{entry['path']}/README.md" in names
  assert not [n for n in names if n.endswith((".bin", ".pkl", ".pt", ".npy"))]
  sums = (best / "SHA256SUMS").read_text()
  assert "eval/results.json" in sums and "here.json" not in sums


def test_no_file_that_travels_names_a_folder_of_this_machine(disk, best):
  root, *_ = disk
  for path in best.rglob("*"):
    if path.is_file() and path.name != portable.HERE:
      assert str(root).encode() not in path.read_bytes(), path
  assert json.loads((best / portable.HERE).read_text()) == {"base": str(root / "base")}


def test_a_system_that_was_given_away_names_the_base_that_it_wants(best, tmp_path):
  gone = shutil.copytree(best, tmp_path / "gone")
  (gone / portable.HERE).unlink()
  with pytest.raises(ValueError, match="on the base 'base', which .* is not here: say"):
    jswarm.load_system(gone)


def test_the_card_is_one_that_the_hub_can_read(best):
  loaded = huggingface_hub.ModelCard.load(best / "README.md")
  data = loaded.data
  assert data.library_name == "jswarm" and data.base_model == ["base"]
  (row,) = data.eval_results
  results = json.loads((best / "eval" / "results.json").read_text())
  assert row.metric_value == results["test"]["system"]["score"]
  low, high = row.metric_args["confidence_interval_95"]
  assert low <= row.metric_value <= high and row.metric_args["n"] == 5
  assert "timing" not in results
  assert data.model_name == "system"


def test_what_the_hub_takes_for_no_repository_stands_in_the_text_alone():
  described = {"nodes": [{"id": 0, "expert": "a", "depth": 0}], "edges": [], "end": 0}
  described |= {"iteration": 1, "step": "role", "dev": 0.5}
  stored = {"a": {"kind": "lora", "base": "builtin:folio/base"}, "b": {"base": "x/y"}}
  text = card.card(described, stored, {"task": "gym:letter_counting"})
  data = huggingface_hub.ModelCard(text).data
  assert data.base_model == ["x/y"] and data.datasets is None
  assert "Bases: builtin:folio/base, x/y." in text


def test_two_bases_of_one_name_are_told_apart(tmp_path):
  entry = lambda base: {"kind": "lora", "path": "x", "base": base}
  stored = {"a": entry("/one/base"), "b": entry("/two/base"), "c": entry("hub/base")}
  named = portable.name_bases(tmp_path, stored)
  assert [named[n]["base"] for n in "abc"] == ["base", "base~2", "hub/base"]
  assert json.loads((tmp_path / portable.HERE).read_text()) == {
    "base": "/one/base",
    "base~2": "/two/base",
  }
  assert portable.places(tmp_path) == {}  # neither is there


def test_paths_are_named_and_sentences_are_left_alone():
  told = {"path": "/home/me/data.json", "list": ["C:\\x\\y", "a/b"], "n": 1}
  assert portable.named(told) == {"path": "data.json", "list": ["y", "a/b"], "n": 1}
  for told in (
    "/no_think",
    "Q: {prompt}",
    "/a/b\nis a sentence",
    "builtin:folio/base",
  ):
    assert portable.named(told) == told


@pytest.mark.parametrize(
  "damage, message",
  [
    (lambda best: (best / "graph.mmd").write_text("x"), "graph.mmd is missing or was"),
    (lambda best: (best / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    (
      lambda best: (best / "jswarm_system.json").unlink(),
      "holds no jswarm_system.json",
    ),
    (
      lambda best: (best / "jswarm_system.json").write_text('{"schema_version": 9}'),
      "schema_version 9, this jswarm reads 1",
    ),
  ],
)
def test_a_damaged_system_is_refused_by_name(disk, tmp_path, damage, message):
  _, base, adapters = disk
  _search(jswarm.load_pool(adapters, base=base), tmp_path, **{"search.iterations": 0})
  damage(tmp_path / "best")
  with pytest.raises(ValueError, match=message):
    jswarm.load_system(tmp_path / "best")


def test_a_base_whose_weights_were_replaced_is_refused(disk, tmp_path):
  _, base, adapters = disk
  _search(jswarm.load_pool(adapters, base=base), tmp_path, **{"search.iterations": 0})
  other = folders.write_base(tmp_path / "other", seed=9)
  with pytest.raises(ValueError, match="other holds other weights than the base"):
    jswarm.load_system(tmp_path / "best", base=str(other))


def test_one_base_given_for_experts_of_two_is_refused_by_the_experts_it_is_not_of(
  disk, tmp_path
):
  root, base, adapters = disk
  other = folders.write_base(tmp_path / "second", seed=9)
  pairs = [{"adapter": adapters[0]}, {"adapter": adapters[1], "base": other}]
  pool = jswarm.load_pool(pairs, base=base)
  stored = {
    spec.name: {"base": spec.base, "base_digest": g.base_digest(), "dtype": "float32"}
    for g in pool.groups
    for spec in g.specs
  }
  system._check_bases(pool, stored)
  both = jswarm.load_pool(adapters[:2], base=base)
  with pytest.raises(ValueError, match="second' of the search, on which skill1 were"):
    system._check_bases(both, stored)


def test_a_base_that_moved_can_be_given(disk, tmp_path):
  root, base, adapters = disk
  _search(jswarm.load_pool(adapters, base=base), tmp_path, **{"search.iterations": 0})
  elsewhere = root / "base-copy"
  elsewhere.symlink_to(base)
  same = jswarm.load_system(tmp_path / "best").generate(_prompts()[:2])
  moved = jswarm.load_system(tmp_path / "best", base=str(elsewhere))
  assert moved.generate(_prompts()[:2]) == same


@pytest.mark.parametrize(
  "experts, message",
  [
    ([], "pool.experts is empty"),
    ([{"adapter": "x", "nam": "y"}], "unknown .'nam'.*allowed are"),
    ([{"adapter": "x"}], "names no base: set pool.base"),
  ],
)
def test_a_bad_pool_is_named(experts, message):
  with pytest.raises(ValueError, match=message):
    jswarm.load_pool(experts)


def test_two_experts_of_one_name_are_refused(disk):
  _, base, adapters = disk
  with pytest.raises(ValueError, match="2 experts named 'skill0'"):
    jswarm.load_pool([adapters[0], adapters[0]], base=base)


@pytest.mark.parametrize(
  "path", ["../other", "/etc", "experts/../../x", "C:\\x", "..\\x", ""]
)
def test_an_expert_that_leads_out_of_the_systems_folder_is_refused(path, tmp_path):
  best = tmp_path / "best"
  best.mkdir()
  experts = {"one": {"kind": "full", "path": path}}
  (best / artifact.FILE).write_text(
    json.dumps({"schema_version": artifact.SCHEMA, "experts": experts})
  )
  artifact._write_sums(best)
  with pytest.raises(ValueError, match="jswarm_system.json: the expert 'one' lies at"):
    artifact.read(best)


def test_sums_of_files_elsewhere_and_no_sums_at_all_are_refused(tmp_path):
  (tmp_path / artifact.FILE).write_text('{"schema_version": 1, "experts": {}}')
  for line in ("0  ../secret\n", "0  /etc/passwd\n", "garbage\n"):
    (tmp_path / "SHA256SUMS").write_text(line)
    with pytest.raises(ValueError, match="SHA256SUMS names .*allowed are files in its"):
      artifact.read(tmp_path)


def test_a_description_that_is_no_json_is_a_sentence_with_its_path(tmp_path):
  for damage in (b"", b"{", b"\xff\xfe", b"[]"):
    (tmp_path / artifact.FILE).write_bytes(damage)
    with pytest.raises(ValueError, match=f"{tmp_path}/jswarm_system.json .*JSON"):
      artifact.read(tmp_path)


def _to_be_scored(**changes):
  """(resolved configuration, task, its `code.` fields) of words that are matched."""
  fields = {"task.name": "mine", "task.kind": "exact_match", "task.limit": 8}
  config = config_lib.resolve_default({**fields, **words.MESSAGES, **changes})
  task = search.task(config, folders.records())
  return config, task, search.defining(config, task)


def _described(config, task, defining):
  """What a system that was found so says of it."""
  wording = dataclasses.asdict(config.wording)
  return {"wording": wording, "scoring": code.scoring(task, defining)}


def test_a_system_that_is_scored_as_it_was_found_has_not_changed():
  found = _to_be_scored()
  assert system.check("best", _described(*found), *found) == []


def test_another_wording_limit_or_reader_is_refused_with_the_difference():
  described = _described(*_to_be_scored())
  described["scoring"]["code.readers"] = "of another version"
  changes = {"messages.last": "Say it now.", "task.limit": 5}
  with pytest.raises(ValueError) as caught:
    system.check("best", described, *_to_be_scored(**changes))
  told = str(caught.value)
  for line in (
    f"messages.last: {words.MESSAGES['messages.last']!r} there, 'Say it now.' now",
    "task.limit: 8 there, 5 now",
    "code.readers: what reads answers",
    "--config.accept_changes=messages.last,task.limit,code.readers",
  ):
    assert line in told
  accepted = {**changes, "accept_changes": "messages,task.limit,code.readers"}
  assert len(system.check("best", described, *_to_be_scored(**accepted))) == 3


def test_of_a_utility_another_text_is_told_and_of_an_older_system_nothing():
  config, task, defining = _to_be_scored()
  own = {**defining, "code.utility": ["def score(examples, replies):", "  return []"]}
  described = _described(config, task, own)
  own["code.utility"] = own["code.utility"][:1]
  with pytest.raises(ValueError, match="code.utility: the text of the utility"):
    system.check("best", described, config, task, own)
  del described["scoring"]
  assert system.check("best", described, config, task, own) == []


def test_a_system_of_other_readers_loads_with_a_warning(caplog):
  described = _described(*_to_be_scored())
  with caplog.at_level("WARNING"):
    system._warn_of_readers("best", described)
    assert not caplog.records
    described["scoring"]["code.readers"] = "of another version"
    system._warn_of_readers("best", described)
  assert "best was found with another version of what reads answers" in caplog.text
