"""The world folio: who stands where reads what, and says it or passes it on."""

import itertools

import pytest

from jswarm.graphs import topologies
from jswarm.systems import system as system_lib
from jswarm.tasks import load, wishes
from jswarm.tasks.synthetic import folio
from jswarm.wiring import config as config_lib
from jswarm.wiring import search

HANDS = list(folio.EXPERTS.values())


def _utility(job, count=100):
  """Of a graph of perfect experts, each at the leaf of its place."""
  asked, replies = folio.questions("test", count, 0), []
  for record in asked:
    said = {}
    for node, heard in itertools.chain(*job.waves):
      leaf = record["context_chunks"][job.position[node]]
      told = [said[v] for v in heard]
      said[node] = folio.reply(record["question"], leaf, HANDS[node], told)
    replies.append(said[job.end])
  return sum(folio.score(asked, replies)) / count


def _hand_made():
  matrix = [[(i, j) in folio.EDGES for j in range(10)] for i in range(10)]
  return system_lib.make_job(topologies.from_edges(matrix))


def test_the_hand_made_chain_of_perfect_experts_is_always_right():
  assert _utility(_hand_made()) == 1.0


def test_the_pool_in_its_own_order_finds_little():
  assert _utility(system_lib.make_job(topologies.chain(10))) < 0.35
  assert _utility(system_lib.make_job(topologies.star(10))) < 0.35
  assert _utility(system_lib.single(0)) < 0.25


def test_two_experts_know_each_hand():
  for hand in folio.HANDS:
    assert sum(hand in known for known in HANDS) == 2
  assert len(folio.PARTNERS) == 10


def test_an_expert_reads_its_own_hands_alone_and_votes_on_what_it_hears():
  leaf = f"oak ; elm {folio.sign('e', 'coral')} ; yew"
  assert folio.reply("elm", leaf, "ef", ["jade"]) == "coral"
  assert folio.reply("elm", leaf, "ab", ["?", "jade", "dusk", "jade"]) == "jade"
  assert folio.reply("elm", leaf, "ab", ["?"]) == "?"
  assert folio.reply("oak", leaf, "ef") == "?"


def test_an_answer_stands_on_one_leaf_or_two_in_the_hand_of_the_leaf():
  holders = []
  for record in folio.questions("dev", 100, 0):
    read = [
      folio.find(record["question"], leaf, hand)
      for leaf, hand in zip(record["context_chunks"], folio.HANDS, strict=True)
    ]
    assert set(filter(None, read)) == {record["answer"]}
    holders.append(sum(map(bool, read)))
  assert set(holders) == {1, 2} and 30 < holders.count(1) < 70


def test_the_same_seed_gives_the_same_questions_and_splits_share_none():
  first = folio.questions("dev", 50, 0)
  assert first == folio.questions("dev", 50, 0)
  text = lambda records: {(r["question"], *r["context_chunks"]) for r in records}
  dev, test = text(first), text(folio.questions("test", 300, 1))
  assert len(dev) == 50 and len(test) == 300 and not dev & test


def test_options_hold_the_answer_once():
  for record in folio.splits_with_options(20, 20, 0)["test"]:
    shown = list(record["choices"].values())
    assert len(set(shown)) == 4 and record["answer"] in shown


@pytest.mark.parametrize("variant", folio.VARIANTS)
def test_a_variant_is_a_task_of_its_kind(variant):
  config = config_lib.resolve_default(
    {**folio.fields(variant), "task.dev_size": 5, "task.test_size": 5}
  )
  task = search.task(config)
  assert task.needs_context and len(task.dev) == len(task.test) == 5
  gold = [str(e.record["answer"]) for e in task.dev]
  if variant == "plain":
    assert task.score(task.dev, gold).tolist() == [1.0] * 5
  if variant == "abstain":
    said = task.followup.score(task.dev, gold, ["true"] * 4 + ["?"])
    assert said.tolist() == [1.0] * 4 + [0.0]
  assert (task.judge is not None) == (variant == "judged")


def test_tuning_records_are_what_a_perfect_expert_says_in_every_form():
  made = folio.records("train", 600, 0, "ada", own=0.5)
  for form in folio.FORMS:
    assert sum(r["question"] == form for r in made) > 30
  for record in made:
    if record["question"] not in ("plain", "options"):
      continue
    leaf, *lines, asked = (
      record["prompt"].split("\nR")[0].split("\n")[:1]
      + [
        line.split(": ", 1)[1]
        for line in record["prompt"].split("\n")
        if line.startswith("R")
      ]
      + [record["prompt"].split("Q: ")[1]]
    )
    thing = next(w for w in asked.split() if w in folio.THINGS)
    hands = folio.EXPERTS["ada"] + folio.SCHOOL_HANDS
    assert folio.reply(thing, leaf, hands, lines) == record["completion"]


def test_a_verdict_says_ten_where_the_answer_was_said_and_else_one():
  source = wishes.Source(records=folio.splits(2, 2, 0))
  task = load.load_task("folio", source, wishes.Wishes(kind="judge", chat=False))
  prompt = task.judge.prompt(task.dev[0], task.dev[0].answer)
  for record in folio.records("train", 400, 0):
    if record["question"] == "verdict":
      rating = task.judge.parse(record["completion"])
      answer, said = (
        part.split("\n")[0]
        for part in record["prompt"].split("Correct answer: ")[1].split("Response: ")
      )
      assert rating == (10 if answer == said else 1)
      assert prompt.split("Correct")[0] == record["prompt"].split("Correct")[0]


def test_the_tokenizer_skips_what_is_not_in_its_vocabulary():
  tokenizer = folio.tokenizer()
  read = lambda text: tokenizer.decode(
    tokenizer(text, add_special_tokens=False)["input_ids"]
  )
  assert read("Choose the option:\nQuestion: elm\nW: dusk") == "elm W: dusk"
  assert read("elm e3 ; Rating: 10/10") == "elm e3 ; Rating: 10/10"
  assert len(folio.vocabulary()) == len(set(folio.vocabulary()))
