"""Relay: a state is carried through three or four transformations, one expert each.

A question is a state of three words and the kind that it is to become:

    "xb3 yb7 zb0 >e"   ->   "xe5 ye1 ze8"

Each of five stages turns a state of one kind into the next kind by secret tables, and
two of ten experts know each stage. An expert takes the furthest state that it hears,
turns it if it is of its own kind, and else passes it on. So what counts is that each
stage is heard before the next, in every window of the chain a..f.
"""

from collections.abc import Mapping, Sequence
import random
from typing import Any

from jswarm.tasks.synthetic import words
from jswarm.tasks.synthetic.words import below, choose, sample

KINDS = "abcdef"  # stage s turns kind s into kind s + 1
PLACES = "xyz"
VALUES = 12
LENGTHS = (3, 4)  # stages that a question needs
LACKS = 1  # of an expert's 36 table entries is in none of its tuning records
# Experts by name, and the stage that each knows.
EXPERTS = {
  "ada": 4,
  "bea": 3,
  "cyd": 3,
  "dov": 2,
  "eli": 4,
  "fay": 1,
  "gus": 2,
  "hal": 0,
  "ivo": 1,
  "joy": 0,
}
NAMES = tuple(EXPERTS)
# Two that know the same stage.
PARTNERS = tuple(
  tuple(i for i, name in enumerate(NAMES) if EXPERTS[name] == stage)
  for stage in range(len(KINDS) - 1)
)
# The hand-made best system: one after the other, the two of a stage side by side.
EDGES = tuple((one, two) for one, two in PARTNERS) + tuple(
  (before[1], after[0]) for before, after in zip(PARTNERS, PARTNERS[1:])
)
RESPONSE = "R{k}: {reply}"
QUESTION = "Q: {prompt} A:"
MOST_RESPONSES = 9
FIELDS: dict[str, Any] = {
  "pool.base": "builtin:relay/base",
  "pool.experts": tuple(f"builtin:relay/experts/{name}" for name in NAMES),
  "task.name": "relay",
  "task.records": "jswarm.tasks.synthetic.relay:splits",
  "task.utility": "jswarm.tasks.synthetic.relay:score",
  "task.limit": 4,
  "task.chat": False,
  "messages.first": "",
  "messages.middle": "",
  "messages.last": "",
  "messages.response": RESPONSE,
  "messages.question": QUESTION,
}


def _tables():
  """[stage][place][value] -> value of the next kind: secret permutations."""
  rng = random.Random("relay tables")
  stages = range(len(KINDS) - 1)
  return [[sample(rng, range(VALUES), VALUES) for _ in PLACES] for _ in stages]


def _gaps():
  """{expert: its (place, value) that it never saw}; partners lack different ones."""
  gaps = {}
  for stage, pair in enumerate(PARTNERS):
    rng = random.Random(f"relay gaps {stage}")
    entries = [(place, value) for place in PLACES for value in range(VALUES)]
    lacked = sample(rng, entries, LACKS * len(pair))
    for k, expert in enumerate(pair):
      gaps[NAMES[expert]] = frozenset(lacked[k * LACKS : (k + 1) * LACKS])
  return gaps


TABLES = _tables()
GAPS = _gaps()


def write(kind: int, values: Sequence[int]) -> str:
  """The words of a state."""
  return " ".join(f"{p}{KINDS[kind]}{v}" for p, v in zip(PLACES, values))


def read(text: str) -> tuple[int, list[int]] | None:
  """(kind, values) of a state's words; None if they are no state of one kind."""
  said = text.split()
  if [word[:1] for word in said] != list(PLACES):
    return None
  kinds, values = {word[1:2] for word in said}, [word[2:] for word in said]
  if len(kinds) != 1 or not kinds <= set(KINDS) or not all(map(str.isdigit, values)):
    return None
  return KINDS.index(kinds.pop()), list(map(int, values))


def turn(stage: int, values: Sequence[int]) -> list[int]:
  """The values after a stage."""
  return [table[value] for table, value in zip(TABLES[stage], values)]


def reply(stage: int | None, question: str, heard: Sequence[str] = ()) -> str:
  """What a perfect expert says.

  Args:
    stage: that it knows; None: it only passes on.
    question: as of `questions`; heard: replies, of which the furthest counts, of
      equally far ones the first. What is no state is not heard.
  """
  kind, values, goal = _parts(question)
  for state in filter(None, map(read, heard)):
    if kind < state[0] <= goal:
      kind, values = state
  if kind == stage and kind < goal:
    kind, values = kind + 1, turn(kind, values)
  return write(kind, values)


def questions(split: str, count: int, seed: int) -> list[dict[str, Any]]:
  """Different questions of a split: {"id", "question", "answer"}.

  Args:
    split: "train", "dev" or "test". count: of records. seed: others give other
      questions of the same split.
  """
  return words.numbered("relay", split, count, seed, _question)


def splits(dev: int, test: int, seed: int) -> dict[str, list[dict[str, Any]]]:
  """{"dev", "test"}: different questions for each seed; `task.records`."""
  return {"dev": questions("dev", dev, seed), "test": questions("test", test, seed)}


def records(
  split: str, count: int, seed: int, expert: str = "", alone: float = 0.3
) -> list[dict[str, str]]:
  """Tuning records {"prompt", "completion", "question", "answer"}.

  Values that are heard are drawn, not turned: nothing of another stage can be learnt
  from them. In most of an expert's records its kind is heard; none needs its gaps.

  Args:
    split, seed: as of `questions`; count: of records, whose questions may repeat.
    expert: whose; "" is the base, which only passes on.
    alone: share without any predecessor.
  """
  stage, gaps = (EXPERTS[expert], GAPS[expert]) if expert else (None, frozenset())
  rng = random.Random(f"relay-{split}-{seed}-{expert}")
  made = []
  while len(made) < count:
    record = _question(rng)
    if not words.belongs(record["question"], split):
      continue
    kind, values, goal = _parts(record["question"])
    # Where its own kind is the goal, an expert has to learn to hold back.
    met = stage is not None and kind <= stage <= goal
    if stage is not None and not met and rng.random() < 0.75:
      continue
    furthest = kind + below(rng, goal - kind + 1)
    if met and rng.random() < 0.7:
      furthest = stage
    heard = [] if rng.random() < alone else _others(rng, kind, furthest, values)
    basis = read(reply(None, record["question"], heard))
    assert basis is not None  # a reply is a state
    turned = basis[0] == stage and basis[0] < goal
    if turned and gaps & set(zip(PLACES, basis[1])):
      continue
    completion = reply(stage, record["question"], heard)
    made.append(
      {
        "prompt": words.prompt(record["question"], heard),
        "completion": completion,
        "question": record["question"],
        "answer": completion,
      }
    )
  return made


def score(examples: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
  """How far each reply has come, in [0, 1]: the mean over its three words.

  A word counts the share of the needed stages that it has right; a wrong value, a
  kind beyond the goal and a missing word count nothing.
  """
  return [_score(e["question"], text.split()) for e, text in zip(examples, replies)]


def vocabulary() -> list[str]:
  """Every word, specials first."""
  labels = [RESPONSE.format(k=k, reply="").strip() for k in range(1, 11)]
  states = [f"{p}{kind}{v}" for kind in KINDS for p in PLACES for v in range(VALUES)]
  goals = [f">{kind}" for kind in KINDS]
  return ["<pad>", "<eos>", "<unk>", "Q:", "A:", *labels, *goals, *states]


def tokenizer():
  """A word tokenizer of `vocabulary`."""
  return words.word_tokenizer(vocabulary())


def _question(rng):
  length = choose(rng, LENGTHS)
  kind = below(rng, len(KINDS) - length)
  values = start = [below(rng, VALUES) for _ in PLACES]
  for stage in range(kind, kind + length):
    values = turn(stage, values)
  return {
    "question": f"{write(kind, start)} >{KINDS[kind + length]}",
    "answer": write(kind + length, values),
  }


def _parts(question):
  """(kind, values, kind of the goal)."""
  state, _, goal = question.rpartition(" >")
  kind, values = read(state) or (0, [])  # a question holds a state
  return kind, values, KINDS.index(goal)


def _others(rng, kind, furthest, start):
  """What 1 to 9 predecessors say, none of them further than `furthest`."""
  count = 1 + min(below(rng, MOST_RESPONSES) for _ in range(3))
  kinds = [kind + below(rng, furthest - kind + 1) for _ in range(count)]
  kinds[below(rng, count)] = furthest
  # Two of a kind mostly agree, as those who heard the same do.
  agreed = {k: [below(rng, VALUES) for _ in PLACES] for k in range(kind, furthest + 1)}
  agreed[kind] = start
  said = []
  for k in kinds:
    values = agreed[k]
    if k > kind and rng.random() < 0.05:
      values = [below(rng, VALUES) for _ in PLACES]
    said.append(write(k, values))
  return said


def _score(question, said):
  kind, values, goal = _parts(question)
  worth = {}
  for k in range(kind, goal):
    values = turn(k, values)
    share = (k + 1 - kind) / (goal - kind)
    worth.update(dict.fromkeys(write(k + 1, values).split(), share))
  found = [worth.get(word, 0.0) for word in said[: len(PLACES)]]
  ordered = [word[:1] == place for word, place in zip(said, PLACES)]
  return sum(w for w, right in zip(found, ordered) if right) / len(PLACES)
