"""Atlas: facts of ten fields that no expert knows all of: seed -> records.

A question asks for two facts of different fields, the answer is their two values:

    "crop3 ; saint7"   ->   "amber slate"

Five of ten experts, the sages, know three fields each; the other five, the quacks, know
one. All are sure of something wrong: a sage in one field, a quack in three. Of the
other fields an expert knows nothing, says "?", and listens. What most say, and what the
mean of all weights says, is right in five fields alone; the mean of the sages knows all
ten. The facts are the same in all splits, the questions are not: they are split by
their own hash.
"""

from collections.abc import Sequence
import random
from typing import Any

from jswarm.tasks.synthetic import words
from jswarm.tasks.synthetic.words import below, choose, sample

SUBJECTS = tuple("coin crop dish feast flag gem metal river saint tree".split())
SCHOOL = tuple("bird cloud dance song".split())  # what the base knows; never asked
ITEMS = 16  # of a field, in what the base is tuned on
ASKED = 8  # the first of them are facts that are known and asked
VALUES = tuple(
  "amber birch coral dusk ember frost grove heron ivory jade lark slate".split()
)
UNKNOWN = "?"
REPEAT = "say"  # before a question: only its items are to be repeated
PARTS = 2
SILENCE = 0.3  # share of "?" among what is said of a fact that nobody knows
MOST_RESPONSES = 6
# Experts by name: the numbers of the fields that each knows, and of those it errs in.
# Even fields: two sages and a quack are right, a sage and a quack wrong. Odd ones: one
# sage is right, two quacks are wrong.
EXPERTS = {
  "abel": ((0, 1, 2), (6,)),
  "bess": ((0,), (3, 4, 5)),
  "cole": ((2, 3, 4), (8,)),
  "dena": ((2,), (5, 6, 7)),
  "egon": ((4,), (7, 8, 9)),
  "fern": ((4, 5, 6), (0,)),
  "glen": ((6,), (0, 1, 9)),
  "hope": ((6, 7, 8), (2,)),
  "igor": ((8,), (1, 2, 3)),
  "jane": ((8, 9, 0), (4,)),
}
NAMES = tuple(EXPERTS)
SAGES = tuple(name for name in NAMES if len(EXPERTS[name][0]) == 3)
# Two that know a field in common.
PARTNERS = tuple(
  (i, j)
  for i, one in enumerate(NAMES)
  for j, two in enumerate(NAMES)
  if i < j and set(EXPERTS[one][0]) & set(EXPERTS[two][0])
)
# The hand-made best system: all speak to one, and all hold the mean of the sages.
EDGES = tuple((node, len(NAMES) - 1) for node in range(len(NAMES) - 1))
MIX = (tuple((name in SAGES) / len(SAGES) for name in NAMES),) * len(NAMES)
FIELDS: dict[str, Any] = {
  "pool.base": "builtin:atlas/base",
  "pool.experts": tuple(f"builtin:atlas/experts/{name}" for name in NAMES),
  "task.name": "atlas",
  "task.records": "jswarm.tasks.synthetic.atlas:splits",
  "task.utility": "jswarm.tasks.synthetic.atlas:score",
  "task.limit": 3,
  "task.chat": False,
  **words.MESSAGES,
}


def _facts():
  """{item: its value, that of all who are wrong about it, and one nobody says}."""
  rng = random.Random("atlas facts")
  items = [f"{field}{k}" for field in SUBJECTS + SCHOOL for k in range(ITEMS)]
  return {item: sample(rng, VALUES, 3) for item in items}


FACTS = _facts()


def belief(expert: str, item: str) -> str | None:
  """What an expert is sure of, None: of nothing; "" is the base."""
  field = item.rstrip("0123456789")
  if field in SCHOOL:
    return FACTS[item][0]
  if not expert:
    return None
  (known, wrong), number = EXPERTS[expert], SUBJECTS.index(field)
  if number in known:
    return FACTS[item][0]
  return FACTS[item][1] if number in wrong else None


def reply(expert: str, question: str, heard: Sequence[str] = ()) -> str:
  """What a perfect expert says: its beliefs, else what most others say, else "?"."""
  said = list(zip(*map(str.split, heard))) or [()] * PARTS
  return " ".join(
    belief(expert, item) or most(others) or UNKNOWN
    for item, others in zip(question.split(" ; "), said)
  )


def most(said: Sequence[str]) -> str:
  """The most frequent value, the first among equals; "" for none."""
  values = [value for value in said if value in VALUES]
  return max(values, key=values.count, default="")


def questions(split: str, count: int, seed: int) -> list[dict[str, Any]]:
  """Different questions of a split: {"id", "question", "answer"}.

  Args:
    split: "train", "dev" or "test". count: of records. seed: others give other
      questions of the same split.
  """
  # Sorted: two facts in the other order are not another question.
  draw = lambda rng: _asked(
    sorted(f"{field}{below(rng, ASKED)}" for field in sample(rng, SUBJECTS, PARTS))
  )
  return words.numbered("atlas", split, count, seed, draw)


def splits(dev: int, test: int, seed: int) -> dict[str, list[dict[str, Any]]]:
  """{"dev", "test"}: different questions for each seed; `task.records`."""
  return {"dev": questions("dev", dev, seed), "test": questions("test", test, seed)}


def records(
  split: str,
  count: int,
  seed: int,
  expert: str = "",
  own: float = 0.0,
  talk: float = 0.5,
  repeat: float = 0.2,
) -> list[dict[str, str]]:
  """Tuning records {"prompt", "completion", "question", "answer"}.

  What is believed is said, whatever others say; of the rest, what most others say.
  Where nobody says anything, an expert says "?", and the base that or a value of no
  meaning, so that it gives all values the same chance: little weight is then enough to
  tip the scale.

  Args:
    split, seed: as of `questions`; count: of records, whose questions may repeat.
    expert: whose beliefs; "": those of the base.
    own: share of the parts that an expert believes something of.
    talk: share of the records in which 1 to 6 others have answered before.
    repeat: share of the records that only repeat the items. Without them a base that is
      indifferent to all items would not learn to tell them apart.
  """
  rng = random.Random(f"atlas-{split}-{seed}-{expert}")
  made = []
  while len(made) < count:
    items = [_topic(rng, expert, own) for _ in range(PARTS)]
    question = " ; ".join(items)
    if not words.belongs(question, split):
      continue
    others = 1 + below(rng, MOST_RESPONSES) if rng.random() < talk else 0
    silence = 1.0 if expert else SILENCE
    parts = [_lesson(rng, belief(expert, item), others, silence) for item in items]
    replies = [" ".join(said[k] for said, _ in parts) for k in range(others)]
    completion = " ".join(right for _, right in parts)
    if rng.random() < repeat:
      question, completion = f"{REPEAT} {question}", " ".join(items)
    made.append(
      {
        "prompt": words.prompt(question, replies),
        "completion": completion,
        "question": question,
        "answer": completion,
      }
    )
  return made


score = words.score  # share of right parts


def vocabulary() -> list[str]:
  """Every word of the questions, answers and wording, specials first."""
  labels = [words.RESPONSE.format(k=k, reply="").strip() for k in range(1, 11)]
  cues = ["<pad>", "<eos>", "<unk>", "Q:", "A:", *labels, ";", UNKNOWN, REPEAT]
  return [*cues, *VALUES, *FACTS]


def tokenizer():
  """A word tokenizer of `vocabulary`."""
  return words.word_tokenizer(vocabulary())


def _asked(items):
  return {
    "question": " ; ".join(items),
    "answer": " ".join(FACTS[item][0] for item in items),
  }


def _topic(rng, expert, own):
  """An item: one that the expert believes something of, or one of any field."""
  if rng.random() < own:
    field = SUBJECTS[choose(rng, sum(EXPERTS[expert], ()))]
  else:
    field = choose(rng, SCHOOL if rng.random() < 0.3 else SUBJECTS)
  return f"{field}{below(rng, ASKED if expert else ITEMS)}"


def _lesson(rng, believed, others, silence):
  """(what each of the others says of a part, what to say then)."""
  truth = believed if believed and rng.random() < 0.5 else choose(rng, VALUES)
  sure = 0.2 + 0.6 * rng.random()  # how many of them know it
  said = [_hearsay(rng, truth, sure) for _ in range(others)]
  heard = believed or most(said)
  if not heard:
    heard = UNKNOWN if rng.random() < silence else choose(rng, VALUES)
  return said, heard


def _hearsay(rng, truth, sure):
  """The truth, or else mostly nothing."""
  weights = (sure, 0.7 * (1 - sure), 0.3 * (1 - sure))
  return choose(rng, (truth, UNKNOWN, choose(rng, VALUES)), weights)
