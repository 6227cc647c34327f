"""The world relay: what counts is who is heard before whom."""

import itertools

import pytest

from jswarm.graphs import topologies
from jswarm.tasks.synthetic import relay, words
from tests.tasks.synthetic.walking import graph, walk

STAGES = list(relay.EXPERTS.values())


def _utility(dag, count=30):
  """Of a graph of perfect experts."""
  asked = relay.questions("test", count, 0)
  replies = [
    walk(dag, lambda v, heard, q=q: relay.reply(STAGES[v], q["question"], heard))
    for q in asked
  ]
  return sum(relay.score(asked, replies)) / count


def test_the_hand_made_graph_of_perfect_experts_is_always_right():
  assert _utility(graph(relay.EDGES)) == 1.0


def test_who_is_wired_the_other_way_round_gets_nearly_nowhere():
  assert _utility(graph([(b, a) for a, b in relay.EDGES])) < 0.45


def test_neither_a_star_nor_a_chain_finds_the_order():
  assert _utility(topologies.star(10)) < 0.4
  assert _utility(topologies.chain(10)) < 0.7


def test_every_stage_is_known_to_two_who_lack_different_entries():
  for pair in relay.PARTNERS:
    one, two = (relay.NAMES[i] for i in pair)
    assert relay.EXPERTS[one] == relay.EXPERTS[two]
    assert len(relay.GAPS[one]) == len(relay.GAPS[two]) == relay.LACKS
    assert not relay.GAPS[one] & relay.GAPS[two]
  assert sorted(itertools.chain(*relay.PARTNERS)) == list(range(10))


def test_an_expert_turns_the_furthest_state_it_hears_and_never_beyond_the_goal():
  question = "xb1 yb2 zb3 >d"
  c, other = "xc4 yc5 zc6", "xc7 yc8 zc9"
  assert relay.reply(None, question) == "xb1 yb2 zb3"
  assert relay.reply(1, question) == relay.write(2, relay.turn(1, [1, 2, 3]))
  assert relay.reply(2, question) == "xb1 yb2 zb3"
  assert relay.reply(None, question, ["xb1 yb2 zb3", c, other]) == c
  assert relay.reply(2, question, [c, other]) == relay.write(
    3, relay.turn(2, [4, 5, 6])
  )
  assert relay.reply(3, question, [c, "xd1 yd1 zd1"]) == "xd1 yd1 zd1"
  assert relay.reply(1, question, ["xe1 ye1 ze1", "xc1 yb1 zc1", "", "R1: ?"]) == (
    relay.reply(1, question)
  )


def test_a_reply_is_worth_how_far_it_has_come_word_by_word():
  question = "xb1 yb2 zb3 >e"
  states = ["xb1 yb2 zb3"]
  for stage in (1, 2, 3):
    states.append(relay.reply(stage, question, states[-1:]))
  mixed = " ".join([states[3].split()[0], states[1].split()[1], "zf0"])
  swapped = " ".join(reversed(states[3].split()))
  replies = [*states, mixed, swapped, "", states[3] + " " + states[3]]
  scores = relay.score([{"question": question}] * len(replies), replies)
  third = 1 / 3
  expected = [0, third, 2 * third, 1, (1 + third) / 3, third, 0, 1]
  assert scores == pytest.approx(expected)


def test_the_same_seed_gives_the_same_records_and_another_seed_others():
  assert relay.questions("dev", 30, 0) == relay.questions("dev", 30, 0)
  assert relay.questions("dev", 30, 0) != relay.questions("dev", 30, 1)
  assert relay.questions("dev", 1, 0)[0]["question"] == "xb6 yb8 zb9 >e"
  assert relay.questions("dev", 1, 0)[0]["answer"] == "xe8 ye4 ze2"
  assert relay.records("train", 9, 0, "ada") == relay.records("train", 9, 0, "ada")
  assert relay.records("train", 9, 0, "ada") != relay.records("train", 9, 0, "bea")


def test_splits_and_tuning_records_share_no_question():
  found = relay.splits(300, 1000, 0)
  asked = {split: {r["question"] for r in rows} for split, rows in found.items()}
  asked["train"] = {r["question"] for r in relay.records("train", 400, 1, "eli")}
  for one, other in itertools.combinations(asked.values(), 2):
    assert not one & other


def test_tuning_records_are_what_a_perfect_expert_says_and_need_no_gap():
  for name in ("", "bea", "hal"):
    stage, gaps = relay.EXPERTS.get(name), relay.GAPS.get(name, frozenset())
    turned, crowds = 0, set()
    for record in relay.records("train", 400, 0, name):
      *told, question = record["prompt"].split("\n")
      heard = [line.partition(": ")[2] for line in told]
      assert question == f"Q: {record['question']} A:"
      assert record["completion"] == relay.reply(stage, record["question"], heard)
      basis = relay.reply(None, record["question"], heard)
      crowds.add(len(heard))
      if basis != record["completion"]:
        turned += 1
        assert not gaps & set(zip(relay.PLACES, relay.read(basis)[1]))
    assert crowds >= set(range(6))
    assert turned == 0 if stage is None else turned > 100


def test_every_word_is_in_the_vocabulary():
  known = set(relay.vocabulary())
  assert len(known) == len(relay.vocabulary())
  for record in relay.records("train", 300, 0, "joy"):
    assert set(f"{record['prompt']} {record['completion']}".split()) <= known


def test_an_unknown_split_lists_the_known():
  with pytest.raises(ValueError, match="unknown split 'tset'.*train, dev, test"):
    words.belongs("xb1 yb2 zb3 >e", "tset")
