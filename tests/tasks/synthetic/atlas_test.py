"""The world atlas: what one believes, what most believe, and who is told."""

import collections

from jswarm.tasks.synthetic import atlas, words

ITEMS = [f"{field}{k}" for field in atlas.SUBJECTS for k in range(atlas.ASKED)]


def _said(names, count=200):
  """(asked, what most of these experts say) of test questions."""
  asked = atlas.questions("test", count, 0)
  replies = []
  for record in asked:
    told = [atlas.reply(name, record["question"]) for name in names]
    replies.append(atlas.reply("", record["question"], told))
  return asked, replies


def test_most_who_are_sure_are_right_in_even_fields_and_wrong_in_odd_ones():
  for item in ITEMS:
    said = [atlas.belief(name, item) for name in atlas.NAMES]
    votes = collections.Counter(filter(None, said)).most_common()
    even = atlas.SUBJECTS.index(item.rstrip("0123456789")) % 2 == 0
    assert [count for _, count in votes] == ([3, 2] if even else [2, 1])
    assert votes[0 if even else 1][0] == atlas.FACTS[item][0]


def test_what_most_sages_say_is_always_right():
  assert len(atlas.SAGES) == 5
  assert atlas.score(*_said(atlas.SAGES)) == [1.0] * 200


def test_what_most_of_all_say_is_right_half_of_the_time():
  assert 0.45 < sum(atlas.score(*_said(atlas.NAMES))) / 200 < 0.55


def test_the_hand_made_hub_is_the_mean_of_the_sages():
  shares = dict(zip(atlas.NAMES, atlas.MIX[-1]))
  assert {name for name, share in shares.items() if share} == set(atlas.SAGES)
  assert [round(sum(row), 9) for row in atlas.MIX] == [1.0] * 10


def test_one_expert_alone_is_right_on_its_own_fields():
  asked = atlas.questions("test", 300, 0)
  for name in atlas.NAMES:
    said = [atlas.reply(name, record["question"]) for record in asked]
    share = len(atlas.EXPERTS[name][0]) / 10
    assert abs(sum(atlas.score(asked, said)) / 300 - share) < 0.05
    assert share == (0.3 if name in atlas.SAGES else 0.1)


def test_a_belief_is_said_whatever_others_say_and_the_rest_is_voted_on():
  known, wrong = (f"{atlas.SUBJECTS[fields[0]]}3" for fields in atlas.EXPERTS["abel"])
  assert atlas.reply("abel", f"{known} ; river2") == f"{atlas.FACTS[known][0]} ?"
  heard = ["jade ?", "jade coral", "jade birch", "? birch"]
  said = atlas.reply("abel", f"{known} ; river2", heard)
  assert said == f"{atlas.FACTS[known][0]} birch"
  assert atlas.reply("abel", wrong) == atlas.FACTS[wrong][1] != atlas.FACTS[wrong][0]


def test_the_same_seed_gives_the_same_questions_and_splits_share_none():
  first = atlas.questions("dev", 60, 0)
  assert first == atlas.questions("dev", 60, 0)
  assert first[0] == {
    "id": "dev-0-0",
    "question": "dish0 ; gem3",
    "answer": "amber frost",
  }
  parts = lambda records: {frozenset(r["question"].split(" ; ")) for r in records}
  dev, test = parts(first), parts(atlas.questions("test", 300, 1))
  assert len(dev) == 60 and len(test) == 300 and not dev & test
  tuned = parts(atlas.records("train", 400, 0, "abel", own=1.0))
  assert not tuned & (dev | test)


def _silent(expert, own=0.0):
  """(item, value) of the tuning records in which nobody has answered before."""
  for record in atlas.records("train", 800, 0, expert, own, talk=0.0, repeat=0.0):
    yield from zip(record["question"].split(" ; "), record["completion"].split())


def test_the_records_of_an_expert_say_what_it_believes_and_else_that_it_knows_nothing():
  believed = collections.Counter()
  for item, value in _silent("abel", own=0.5):
    belief = atlas.belief("abel", item)
    assert value == (belief or atlas.UNKNOWN)
    assert int(item.lstrip("abcdefghijklmnopqrstuvwxyz")) < atlas.ASKED
    believed[belief is not None] += 1
  assert believed[True] > believed[False] > 100


def test_the_records_of_the_base_are_indifferent_to_what_it_does_not_know():
  free = collections.Counter(v for item, v in _silent("") if not atlas.belief("", item))
  share = {value: count / free.total() for value, count in free.items()}
  assert abs(share[atlas.UNKNOWN] - atlas.SILENCE) < 0.06
  assert max(share[value] for value in atlas.VALUES) < 0.1


def test_what_others_said_is_merged_in_tuning_records():
  for record in atlas.records("train", 200, 0, talk=1.0, repeat=0.0):
    *lines, _ = record["prompt"].split("\n")
    heard = [line.split(": ")[1] for line in lines]
    said = atlas.reply("", record["question"], heard).split()
    for got, wanted in zip(record["completion"].split(), said):
      assert got == wanted or wanted == atlas.UNKNOWN


def test_every_word_is_in_the_vocabulary():
  text = [r["prompt"] + " " + r["completion"] for r in atlas.records("train", 300, 0)]
  known = set(atlas.vocabulary())
  assert {word for line in text for word in line.split()} <= known
  assert len(known) == len(atlas.vocabulary())
  assert atlas.FIELDS.items() >= words.MESSAGES.items()
