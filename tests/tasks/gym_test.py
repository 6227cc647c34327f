"""gym: generators as tasks, of a stub of the package, and of the package itself."""

import dataclasses
import json
import random
import sys
import types

import pytest

from configs import gym as gym_config
from configs import gym_pool
from jswarm.tasks import gym, reproducible
from jswarm.tasks.wishes import Wishes
from jswarm.training.sources import Source
from jswarm.wiring import config, search, training


@dataclasses.dataclass
class _Config:
  most: int = 10_000
  seed: int = 0
  size: int = 500

  def validate(self):
    assert self.most > 0, "most must be positive"


class _Doubles:
  """Asks for the double of a number; scores like a generator that reads numbers."""

  def __init__(self, config):
    self._config = config

  def __getitem__(self, k):
    number = random.Random(self._config.seed + k).randrange(self._config.most)
    return {
      "question": f"Twice {number}?",
      "answer": str(2 * number),
      "metadata": {"number": (number,)},
    }

  def score_answer(self, answer, entry):
    return 1.0 if int(answer) == 2 * entry["metadata"]["number"][0] else 0.25


class _Open(_Doubles):
  """Has no reference answer."""

  def __getitem__(self, k):
    item = super().__getitem__(k)
    return {**item, "question": f"Name {item['question']}", "answer": None}

  def score_answer(self, answer, entry):
    return float(entry["answer"] is None)


@pytest.fixture
def package(monkeypatch):
  """A stub of reasoning_gym, in this process."""
  made = types.ModuleType("reasoning_gym")
  made.__version__ = "0.0.stub"
  kinds = {"doubles": (_Doubles, _Config), "open_ended": (_Open, _Config)}
  made.factory = types.SimpleNamespace(DATASETS={**kinds, "composite": (None, None)})

  def create_dataset(name, **fields):
    configured = _Config(**fields)
    configured.validate()
    return kinds[name][0](configured)

  made.create_dataset = create_dataset
  monkeypatch.setitem(sys.modules, "reasoning_gym", made)
  monkeypatch.setattr(reproducible, "call", lambda fn, *arguments: fn(*arguments))
  gym._scorer.cache_clear()
  yield made
  gym._scorer.cache_clear()


def _words(records):
  return {" ".join(r["question"].casefold().split()) for r in records}


def test_a_name_holds_generators_weights_and_options():
  parts = gym.parse("gym:2*a(low=-1, word='x')+b+.5*c")
  assert [(p.call, p.weight) for p in parts] == [
    ("a(low=-1, word='x')", 2.0),
    ("b", 1.0),
    ("c", 0.5),
  ]


@pytest.mark.parametrize(
  "name",
  ["gym:", "gym:a b", "gym:a-b", "gym:-1*a", "gym:a(3)", "gym:a(**b)"],
)
def test_a_name_that_is_written_otherwise_is_refused_with_the_syntax(name):
  with pytest.raises(ValueError, match="generators joined by \\+, with a weight"):
    gym.parse(name)


def test_no_question_is_in_two_splits_whatever_the_seeds(package):
  """The generator has 150 questions, and most of them are drawn."""
  splits = {split: set() for split in gym.SPLITS}
  for seed in range(3):
    name = "gym:doubles(most=150)"
    made = gym.draw(name, dict.fromkeys(gym.SPLITS, 35), seed)
    for split, records in made.items():
      assert len(_words(records)) == len(records) == 35
      splits[split] |= _words(records)
  assert not splits["train"] & splits["dev"]
  assert not splits["dev"] & splits["test"]
  assert not splits["train"] & splits["test"]
  assert sum(map(len, splits.values())) > 140


def test_two_parts_never_ask_the_same(package):
  made = gym.draw("gym:doubles(most=99)+doubles(most=100)", {"test": 30}, 0)["test"]
  assert len(_words(made)) == 30


def test_weights_hold_for_the_first_questions_too(package):
  made = gym.draw("gym:3*doubles+open_ended", {"dev": 40, "test": 7}, 0)
  turns = [r["generator"] for r in made["dev"]]
  assert turns.count("doubles") == 30 and turns[:8].count("doubles") == 6
  assert [r["generator"] for r in made["test"]].count("open_ended") == 2


def test_the_questions_of_a_split_do_not_depend_on_the_size_of_another(package):
  few = gym.draw("gym:doubles", {"dev": 5, "test": 1}, 3)["dev"]
  assert gym.draw("gym:doubles", {"dev": 9, "test": 80}, 3)["dev"][:5] == few
  assert gym.draw("gym:doubles", {"dev": 5}, 4)["dev"] != few


def test_a_generator_with_too_few_questions_is_refused(package):
  with pytest.raises(ValueError, match=r"most=6\) gives no more.*lower task.dev_size"):
    gym.draw("gym:doubles(most=6)", {"dev": 20, "test": 5}, 0)


@pytest.mark.parametrize(
  "name, message",
  [
    ("gym:double", "unknown generator 'double' of reasoning-gym; did you mean doubles"),
    ("gym:composite", "unknown generator 'composite'"),
    ("gym:doubles(mots=3)", "unknown option of doubles 'mots'.*Did you mean most"),
    ("gym:doubles(seed=3)", "unknown option of doubles 'seed'; allowed are most"),
    ("gym:doubles(most=0)", r"doubles\(most=0\): most must be positive; change its"),
    ("gym:0*doubles", "the weight of doubles is 0.0; allowed is more than 0"),
  ],
)
def test_what_a_name_cannot_mean_is_refused_by_name(package, name, message):
  with pytest.raises(ValueError, match=message):
    gym.load(name, Wishes(dev_size=2, test_size=2), 0)


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch):
  monkeypatch.setitem(sys.modules, "reasoning_gym", None)
  with pytest.raises(ValueError, match=r"pip install 'jswarm\[gym\]'"):
    gym.load("gym:letter_counting", Wishes(dev_size=2, test_size=2), 0)


@pytest.mark.parametrize(
  "reply, score",
  [
    ("<answer>{right}</answer>", 1.0),
    ("<answer>1</answer> no: <answer>\n{right}\n</answer>", 1.0),
    ("<think>1</think> {right} ", 1.0),
    ("-1", 0.25),
    ("it is {right}", 0.0),  # this generator's scorer raises here
    ("", 0.0),
  ],
)
def test_the_scorer_of_the_package_is_asked(package, reply, score):
  task = gym.load("gym:doubles", Wishes(dev_size=1, test_size=0), 0)
  said = reply.format(right=task.dev[0].answer)
  assert task.score(task.dev, [said]).tolist() == [score]


def test_what_has_no_reference_answer_is_a_task_but_no_tuning_data(package):
  task = gym.load("gym:open_ended", Wishes(dev_size=2, test_size=1), 0)
  assert task.score(task.dev, ["x", "y"]).tolist() == [1.0, 1.0]
  with pytest.raises(ValueError, match="open_ended has no reference answers"):
    gym.records("train", 3, 0, "open_ended")


def test_tuning_records_are_those_of_an_experts_source(package):
  source = Source(
    records="jswarm.tasks.gym:records",
    arguments={"name": "doubles"},
    count=6,
    dev_count=4,
    score=gym.SCORE,
  )
  train, dev = source.load(seed=1)
  assert len(train) == 6 and len(dev) == 4 and not _words(train) & _words(dev)
  assert all(r["prompt"] == r["question"] for r in train)
  assert gym.score(dev, [r["completion"] for r in dev]) == [1.0] * 4
  (put,) = gym.records("dev", 1, 1, "doubles", "Q: {prompt} A:")
  assert put["prompt"] == f"Q: {dev[0]['question']} A:"


def _configured(**fields):
  given = {"task.name": "gym:doubles", "task.dev_size": 3, "task.test_size": 2}
  return config.resolve_default({**given, **fields})


def test_a_configuration_names_it_alone(package):
  task = search.task(_configured())
  assert (task.name, task.kind) == ("gym:doubles", "custom")
  assert task.bounds == task.range == (0.0, 1.0)  # so that races know what can come
  assert task.spec["gym"] == "0.0.stub" and task.spec["utility"] == gym.SCORE
  json.dumps(task.spec)
  assert search.defining(_configured(), task)["data.gym"] == "0.0.stub"
  limited = _configured(**{"task.utility_seconds": 9.0})
  assert search.task(limited).spec == task.spec and search.task(limited).bounds
  other = search.task(_configured(seed=1))
  assert other.spec["sha256"] != task.spec["sha256"]


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"task.path": "a.json"}, "makes its own questions, and .*task.path='a.json'"),
    ({"task.kind": "exact_match"}, "has a scorer of its own; leave kind open"),
    ({"task.test_size": 0}, "set task.dev_size and task.test_size"),
  ],
)
def test_fields_that_do_not_go_with_it_are_refused(package, fields, message):
  with pytest.raises(ValueError, match=message):
    search.task(_configured(**fields))


def test_an_own_utility_scores_its_questions_instead(package):
  task = search.task(_configured(**{"task.utility": "tests.fakes:mean_of_numbers"}))
  assert task.spec["utility"] == "tests.fakes:mean_of_numbers" and task.bounds is None


def test_the_mixed_search_asks_what_its_ten_experts_were_tuned_on():
  made = training.arguments(gym_pool.get_config())
  config_of_search = gym_config.get_config()
  parts = gym.parse(config_of_search.task.name)
  assert len(parts) == 10 and {part.weight for part in parts} == {1.0}
  named = [source.arguments["name"] for source in made["sources"].values()]
  assert [part.call for part in parts] == [gym.parse(name)[0].call for name in named]
  folders = [path.rpartition("/")[2] for path in config_of_search.pool.experts]
  assert folders == list(made["sources"])
  for source in made["sources"].values():
    assert source.arguments["template"] == config_of_search.messages.question
    assert (source.chat, source.limit) == (False, config_of_search.task.limit)


@pytest.mark.slow
def test_the_generators_of_the_pool_take_their_options():
  pytest.importorskip("reasoning_gym")
  for name in gym_pool.EXPERTS.values():
    made = gym.records("train", 3, 0, name, gym_pool.TEMPLATE)
    assert gym.score(made, [r["completion"] for r in made]) == [1.0] * 3, name


@pytest.mark.slow  # the package takes seconds to import
def test_questions_of_the_package_itself_are_scored_by_its_answers():
  pytest.importorskip("reasoning_gym")
  name = "gym:letter_counting+2*chain_sum(max_terms=3)"
  made = gym._drawn(name, {"dev": 6}, 0)["dev"]
  assert gym.score(made, [r["answer"] for r in made]) == [1.0] * 6
  assert gym.score(made, ["no idea"] * 6) == [0.0] * 6


@pytest.mark.slow
def test_another_process_makes_the_same_questions(monkeypatch):
  """Of a generator that draws from a set of letters, too."""
  pytest.importorskip("reasoning_gym")
  name, counts = "gym:isomorphic_strings+word_ladder+chain_sum", {"dev": 9, "test": 6}
  made = []
  for salt in ("1", "2"):
    monkeypatch.setenv("PYTHONHASHSEED", salt)
    made.append(gym.draw(name, counts, 0))
  assert made[0] == made[1]


@pytest.mark.slow
def test_every_generator_makes_questions_that_its_scorer_reads():
  """Six of each; those that take a second for one question are left out."""
  pytest.importorskip("reasoning_gym")
  slow = {"futoshiki", "knight_swap", "puzzle24", "zebra_puzzles"}
  for name in sorted(gym._known().keys() - slow):
    made = gym._drawn(f"gym:{name}", {"test": 2}, 0)["test"]
    scores = gym.score(made, [r["answer"] for r in made])
    assert all(0 <= s <= 1 for s in scores), name
    assert scores == [1.0] * 2 or not made[0]["answer"], name
