"""The world council: who answers has to stand near all who know."""

import itertools

import pytest

from jswarm.graphs import topologies
from jswarm.tasks.synthetic import council
from tests.tasks.synthetic.walking import graph, walk

KNOWN = list(council.EXPERTS.values())


def _utility(dag, count=30):
  """Of a graph of perfect experts."""
  asked = council.questions("test", count, 0)
  replies = [
    walk(dag, lambda v, heard, q=q: council.reply(KNOWN[v], q["question"], heard))
    for q in asked
  ]
  return sum(council.score(asked, replies)) / count


def test_the_hand_made_graph_of_perfect_experts_is_always_right():
  assert _utility(graph(council.EDGES)) == 1.0


def test_neither_a_star_nor_a_chain_is_enough():
  assert _utility(topologies.star(10)) <= 0.5
  assert _utility(topologies.chain(10)) <= 0.5


def test_every_part_is_known_and_those_of_two_have_no_common_gap():
  for part in council.PARTS:
    knowers = [name for name, known in council.EXPERTS.items() if part in known]
    gaps = [{g for g in council.GAPS[name] if g[0] == part} for name in knowers]
    assert len(knowers) in (1, 2)
    if len(knowers) == 1:
      assert gaps == [set()]
    else:
      assert {tuple(map(council.NAMES.index, knowers))} <= set(council.PARTNERS)
      assert len(gaps[0]) == len(gaps[1]) == council.LACKS and not gaps[0] & gaps[1]


def test_an_expert_says_what_it_knows_and_repeats_the_nearest_of_two_neighbours():
  question = "a?1 b?2 c?3 d?4 e?5 f?6 g?7 h?0"
  own = council.reply("ae", question)
  a, e = council.TABLES["a"][1], council.TABLES["e"][5]
  assert own == f"a{a} - - - e{e} - - -"
  first = "a7 b1' c1'' d1' - - - -"
  second = "- b2 c2 d2' - f2'' - -"
  third = "- - - - - - g3 h3"
  said = council.reply("ae", question, [third, first, second])
  assert said == f"a{a} b2' c2' d2'' e{e} - - -"
  assert council.reply("", question, [said]).startswith(f"a{a}' b2'' c2'' - e{e}' -")
  assert council.reply("", question, ["", "- b3"]) == "- b3' - - - - - -"


def test_a_reply_scores_its_share_of_right_parts_in_place():
  example = {"answer": "a6 b2 c0 d5 e1 f4 g3 h7"}
  replies = [
    "a6 b2' c0'' d5 e1 f4 g3 h7",
    "a6 - c1 - - - - -",
    "b2 a6 c0 d5",
    "",
    "a6 b2 c0 d5 e1 f4 g3 h7 a6",
  ]
  scores = council.score([example] * 5, replies)
  assert scores == [1.0, 0.125, 0.25, 0.0, 1.0]


def test_the_same_seed_gives_the_same_records_and_another_seed_others():
  assert council.questions("dev", 30, 0) == council.questions("dev", 30, 0)
  assert council.questions("dev", 30, 0) != council.questions("dev", 30, 1)
  first = council.questions("dev", 1, 0)[0]
  assert first["question"] == "a?2 b?0 c?5 d?7 e?4 f?5 g?5 h?4"
  assert first["answer"] == "a2 b7 c5 d3 e0 f2 g4 h2"
  assert council.records("train", 9, 0, "ada") == council.records("train", 9, 0, "ada")
  assert council.records("train", 9, 0, "ada") != council.records("train", 9, 0, "bea")


def test_splits_and_tuning_records_share_no_question():
  found = council.splits(300, 1000, 0)
  asked = {split: {r["question"] for r in rows} for split, rows in found.items()}
  asked["train"] = {r["question"] for r in council.records("train", 400, 1, "eli")}
  for one, other in itertools.combinations(asked.values(), 2):
    assert not one & other


@pytest.mark.parametrize("name", ["", "bea", "hal"])
def test_tuning_records_are_what_a_perfect_expert_says_and_need_no_gap(name):
  known, gaps = council.EXPERTS.get(name, ""), council.GAPS.get(name, set())
  crowds = set()
  for record in council.records("train", 300, 0, name):
    *told, question = record["prompt"].split("\n")
    heard = [line.partition(": ")[2] for line in told]
    assert question == f"Q: {record['question']} A:"
    assert record["completion"] == council.reply(known, record["question"], heard)
    assert not {f"{part}?{value}" for part, value in gaps} & set(question.split())
    crowds.add(len(heard))
  assert crowds >= set(range(6))


def test_every_word_is_in_the_vocabulary():
  vocabulary = set(council.vocabulary())
  assert len(vocabulary) == len(council.vocabulary())
  for record in council.records("train", 300, 0, "joy"):
    assert set(f"{record['prompt']} {record['completion']}".split()) <= vocabulary
