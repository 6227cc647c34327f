"""Tasks as a whole: settings, prompts, scores, and the user's own utility."""

import json
import math
from pathlib import Path
import pickle
import sys

import numpy as np
import pytest

from jswarm.tasks.base import UtilityError
from jswarm.tasks.custom import custom_utility
from jswarm.tasks.published import TASKS
from tests.loading import load_task

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"
CHOICES = {"A": "one", "B": "two"}


def record(k, answer="A", choices=CHOICES):
  return {
    "id": k,
    "question": f"question {k}?",
    "answer": answer,
    **({"choices": choices} if choices else {}),
  }


def choice_task(name=None, kind="multiple_choice", answers="AB", **other):
  dev = [record(k, a) for k, a in enumerate(answers)]
  return load_task(name, kind=kind, records={"dev": dev}, test_size=0, **other)


def text_task(answer="42", kind="exact_match", **other):
  records = {"dev": [{"question": "how many?", "answer": answer}]}
  return load_task(kind=kind, records=records, test_size=0, **other)


def own(fn, n=2):
  task = load_task(
    records=[record(k) for k in range(n)], dev_size=n, test_size=0, utility=fn
  )
  return task, task.score(task.dev, ["x"] * n)


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"wow"}))
def test_a_published_file_loads_with_its_settings(name):
  path = PUBLISHED / f"{name}.json"
  if not path.exists():
    pytest.skip("the published data are not at hand")
  task, known = load_task(name, path=PUBLISHED, min_chunks=10), TASKS[name]
  assert (len(task.dev), len(task.test)) == known.size
  assert (task.kind, task.limit, task.chat) == (known.kind, known.limit, known.chat)
  assert task.needs_context == known.context
  assert json.loads(json.dumps(task.spec)) == task.spec
  gold = [f"{e.answer}" for e in task.dev]
  if task.kind in ("multiple_choice", "exact_match"):
    assert task.score(task.dev, gold).mean() == 1
    assert task.score(task.dev, [f"The answer is {g}." for g in gold]).mean() == 1
    texts = [e.choices[e.answer] if e.choices else e.answer for e in task.test]
    assert task.score(task.test, texts).mean() > 0.99
  assert all(task.prompt(e).strip() for e in task.dev + task.test)


def test_the_table_has_the_twelve_tasks_of_the_paper():
  assert len(TASKS) == 12
  assert {n for n, t in TASKS.items() if t.context} == {"gaia", "qasper"}
  assert {n for n, t in TASKS.items() if t.kind == "judge"} == {"ltp", "qasper"}
  assert TASKS["mmlu"].kind == "abstain" and TASKS["gsm8k"].limit == 100


def test_multiple_choice_asks_with_one_line_an_option_and_a_cue():
  task = choice_task()
  assert task.prompt(task.dev[0]).split("\n")[1:] == [
    "Question: question 0?",
    "A: one",
    "B: two",
    "The answer is",
  ]


def test_solved_examples_stand_in_place_of_the_instruction():
  records = {"dev": [record(0)], "icl_prompt": "Question: x\nThe answer is A."}
  task = load_task("knowledge_crosswords", records=records, test_size=0)
  assert task.prompt(task.dev[0]).startswith(
    "Question: x\nThe answer is A.\nQuestion: question 0?\nA: one"
  )
  assert "mine\n" in choice_task(icl_prompt="mine").prompt(task.dev[0])


def test_missing_solved_examples_of_a_published_task_are_reported(caplog):
  with caplog.at_level("WARNING"):
    choice_task("knowledge_crosswords")
  assert "knowledge_crosswords has no icl_prompt" in caplog.text


def test_gsm8k_asks_for_a_fixed_phrase_and_as_published_reads_five_words():
  records = {"dev": [{"question": "how many?", "answer": "42"}]}
  strict, lenient = (
    load_task("gsm8k", records=records, test_size=0, parser=p)
    for p in ("strict", "as_published")
  )
  assert strict.prompt(strict.dev[0]).startswith("how many? ")
  assert "The answer is" in strict.prompt(strict.dev[0])
  early = "42 is what we have to find in the end."
  inside = "we see the answer is 142"
  assert [
    t.score(t.dev, [r])[0] for t in (strict, lenient) for r in (early, inside)
  ] == [1, 0, 0, 1]


def test_scores_are_float64_one_an_example_and_a_missing_reply_is_nan():
  for parser in ("strict", "as_published"):
    task = choice_task(parser=parser)
    scores = task.score(task.dev, ["A", None])
    assert scores.dtype == np.float64 and scores[0] == 1 and math.isnan(scores[1])
  with pytest.raises(ValueError, match="1 replies for 2 examples"):
    task.score(task.dev, ["A"])


def test_the_published_reader_gives_its_false_positives_only_on_request():
  reply = ["A man walks in", "A man walks in"]
  strict, lenient = choice_task(), choice_task(parser="as_published")
  assert strict.score(strict.dev, reply).tolist() == [0, 0]
  assert lenient.score(lenient.dev, reply).tolist() == [1, 0]


def test_several_golds_count_as_the_best_of_them():
  for kind in ("exact_match", "token_f1"):
    task = text_task(["red car", "blue bus"], kind)
    assert task.score(task.dev, ["the blue bus"])[0] == 1


def test_abstain_scores_right_wrong_and_silent_as_one_minus_one_and_zero():
  task = choice_task(kind="abstain", answers="AAAAA")
  replies = ["A", "B", "A", "nothing", None]
  checks = ["True", "true", "false", "true", "true"]
  scores = task.followup.score(task.dev, replies, checks)
  assert scores[:4].tolist() == [1, -1, 0, -1] and math.isnan(scores[4])
  assert task.range == (-1, 1) and task.followup.limit == 10
  assert math.isnan(task.followup.score(task.dev[:1], ["A"], [None])[0])
  assert task.score(task.dev[:2], replies[:2]).tolist() == [1, 0]


def test_abstain_as_published_hears_only_the_capital_true():
  task = choice_task(kind="abstain", answers="AA", parser="as_published")
  assert task.followup.score(task.dev, ["A", "A"], ["true", "True"]).tolist() == [0, 1]


def test_the_self_check_shows_the_question_and_the_proposed_answer():
  task, lenient = (
    choice_task(kind="abstain", parser=p) for p in ("strict", "as_published")
  )
  example = task.dev[0]
  for t, reply, shown in (
    (task, "B.", "B: two"),
    (task, "{no\nidea}", "{no idea}"),
    (lenient, "B.", "B"),
    (lenient, "no", "Z"),
  ):
    text = t.followup.prompt(example, reply)
    assert text.startswith(task.prompt(example) + "\n")
    assert f"\nProposed answer: {shown}\n" in text


def test_a_judge_sees_gold_and_reply_and_an_unreadable_verdict_is_missing():
  task = text_task("a {reply} in braces", "judge")
  text = task.judge.prompt(task.dev[0], "my {answer}")
  assert "a {reply} in braces" in text and "my {answer}" in text
  assert task.range == (1, 10) and task.judge.limit == 20
  assert task.score(task.dev, ["Rating: 7/10"])[0] == task.judge.parse("Rating: 7") == 7
  assert math.isnan(task.score(task.dev, ["no rating"])[0])
  assert text_task(kind="judge", parser="as_published").judge.parse("no rating") == 1


def test_ratings_may_be_shares_of_ten_and_rank_alike():
  points, share = (
    text_task(["x", "y"], "judge", ratings=r) for r in ("points", "share")
  )
  verdicts = ["Rating: 3", "no rating", "9/10"]
  np.testing.assert_allclose(
    [share.judge.parse(v) for v in verdicts],
    [points.judge.parse(v) / 10 for v in verdicts],
  )
  assert share.range == (0.1, 1.0) and share.score(share.dev, ["Rating: 7"])[0] == 0.7
  assert share.spec["ratings"] == "share" and "ratings" not in points.spec
  with pytest.raises(ValueError, match="ratings='percent': allowed are points, share"):
    text_task(["x"], "judge", ratings="percent")


def test_the_judge_may_have_its_own_wording_and_limit():
  task = text_task(
    ["x", "y"], "judge", judge_limit=5, judge_prompt="{question} {answer} {reply}"
  )
  assert task.judge.prompt(task.dev[0], "z") == "how many? x or y z"
  assert task.judge.limit == 5
  with pytest.raises(ValueError, match="lacks {reply}"):
    text_task(kind="judge", judge_prompt="rate it")


def test_arguments_beat_the_table_of_the_task():
  task = choice_task("mmlu", "multiple_choice", limit=7, chat=True)
  assert (task.limit, task.chat, task.followup) == (7, True, None)
  with pytest.raises(ValueError, match="limit is 0"):
    choice_task(limit=0)


def test_an_own_name_needs_a_kind_and_a_wrong_one_lists_near_ones():
  assert choice_task("my_own").name == "my_own"
  for arguments, words in (
    (dict(name="gsm8"), "unknown task 'gsm8'.*Did you mean gsm8k"),
    (dict(kind="judg"), "unknown kind 'judg'.*Did you mean judge"),
    (dict(kind="judge", parser="strikt"), "unknown parser .*Did you mean strict"),
    (dict(), "kind is not set; allowed are multiple_choice"),
    (dict(kind="token_f1", parser="as_published"), "exists for multiple_choice"),
    (dict(kind="custom"), "allowed is a utility with kind 'custom'"),
    (dict(kind="judge", utility=len), "allowed is a utility with kind 'custom'"),
  ):
    with pytest.raises(ValueError, match=words):
      load_task(**arguments, records=[])


def test_the_data_come_from_exactly_one_place():
  for arguments in (
    dict(),
    dict(path="a", records=[]),
    dict(test_path="a"),
    dict(path="a", test_path="b"),
  ):
    with pytest.raises(ValueError, match="allowed is one of: path; records; dev_path"):
      load_task(kind="judge", **arguments)


def test_the_spec_changes_with_data_prompt_and_parser_and_is_json():
  base = choice_task()
  assert json.loads(json.dumps(base.spec)) == base.spec == choice_task().spec
  assert base.spec["counts"] == {"dev": 2, "test": 0}
  for other in (
    choice_task(answers="BB"),
    choice_task(icl_prompt="x"),
    choice_task(parser="as_published"),
    choice_task(limit=9),
  ):
    assert other.spec != base.spec


def test_a_task_can_be_pickled():
  for task in (choice_task(), choice_task(kind="abstain"), text_task(kind="judge")):
    assert pickle.loads(pickle.dumps(task)).dev == task.dev


def test_a_custom_utility_sees_the_users_own_records_and_the_replies():
  seen = []

  def utility(examples, replies):
    seen.append((examples, replies))
    return np.array([3, -0.5])

  task, scores = own(utility)
  assert scores.tolist() == [3, -0.5] and scores.dtype == np.float64
  examples, replies = seen[0]
  assert replies == ["x", "x"] and examples[0] == {
    **task.dev[0].record,
    "where": "records[0]",
    "id": 0,
  }
  assert task.kind == "custom" and "utility" in task.spec["utility"]
  assert task.prompt(task.dev[0]).endswith("The answer is")


@pytest.mark.parametrize(
  "scores,words",
  [
    (None, "gave nothing"),
    ("11", "gave a str"),
    (0.5, "gave a single float"),
    ([1], "gave 1 scores; allowed is a list or array of 2"),
    ({0: 1}, "gave a dict"),
    ([1, None], "1 of 2 scores .* None for records"),
    ([1, "2"], "the first '2'"),
    ([math.nan, 1], "the first nan for records.0. .id 0."),
    ([1, math.inf], "inf"),
    (np.zeros((2, 3)), "2 of 2 scores"),
    (np.float64(1), "single"),
    (range(3), "gave 3"),
  ],
)
def test_what_is_not_a_list_of_scores_is_an_error(scores, words):
  with pytest.raises(UtilityError, match=words):
    own(lambda examples, replies: scores)


def test_an_error_inside_a_utility_keeps_its_cause():
  def utility(examples, replies):
    raise KeyError("gold")

  with pytest.raises(UtilityError, match="raised KeyError: 'gold'") as caught:
    own(utility)
  assert isinstance(caught.value.__cause__, KeyError)


def test_a_utility_can_be_named_and_what_is_missing_is_said(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / "own_utility.py").write_text(
    "limit = 3\ndef lengths(examples, replies):\n  return list(map(len, replies))\n"
  )
  (tmp_path / "own_needy.py").write_text("import no_such_thing_at_all\n")
  (tmp_path / "own_broken.py").write_text("1 / 0\n")
  assert own("own_utility:lengths")[1].tolist() == [1, 1]
  for spec, words in (
    ("own_utility", 'allowed is "pkg.module:function"'),
    ("own_utility:length", "no function 'length'; did you mean lengths"),
    ("own_utility:limit", "has no function 'limit'"),
    ("own_nowhere:f", "no module 'own_nowhere', there is no such module"),
    ("own_needy:f", "no module 'no_such_thing_at_all', which own_needy imports"),
    ("own_broken:f", "importing own_broken raised ZeroDivisionError"),
    (3, "allowed are a function"),
  ):
    with pytest.raises(ValueError, match=words):
      custom_utility(spec)


def test_tasks_import_neither_jax_nor_the_model_wing():
  package = Path(sys.modules["jswarm.tasks"].__file__).parent
  for file in package.glob("*.py"):
    for line in file.read_text().splitlines():
      if line.startswith(("import ", "from ")):
        assert "jax" not in line and "flax" not in line, (file.name, line)
        if line != "from jswarm.core import lookup":
          assert "jswarm" not in line or "jswarm.tasks" in line, (file.name, line)
