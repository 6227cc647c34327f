"""Synthetic questions that need several skills in one answer: seed -> records.

A question is a few parts, each of one skill, and the answer is one word a part:

    "add 7 5 ; odd b a b ; max 3 8 5 ; next d 2"   ->   "2 a 8 f"

Questions are split by their own hash, so a question of one split can never be in
another, whatever the seeds. All draws come from `random.Random.random`, whose
stream Python promises to keep, so records are the same everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
import hashlib
import random
import re
from typing import Any, NamedTuple

from jswarm.core import lookup

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghij")
SPLITS = {"train": (0, 192), "dev": (192, 224), "test": (224, 256)}
PARTS = 4  # in a question
RESPONSE = "R{k}: {reply}"  # the wording that experts are tuned on
QUESTION = "Q: {prompt} A:"
MOST_RESPONSES = 5


class Skill(NamedTuple):
  """One kind of part.

  Attributes:
    draw: rng -> the words after the skill's name.
    solve: these words -> the one word that is right.
  """

  draw: Callable[[random.Random], list[str]]
  solve: Callable[[Sequence[str]], str]


def below(rng: random.Random, n: int) -> int:
  """A whole number in 0..n-1."""
  return int(rng.random() * n)


def choose(rng: random.Random, items: Sequence[Any], weights=None) -> Any:
  """One item, each with its weight (None: equal ones)."""
  if weights is None:
    return items[below(rng, len(items))]
  left = rng.random() * sum(weights)
  for item, weight in zip(items, weights):
    left -= weight
    if left < 0:
      return item
  return items[-1]


def sample(rng: random.Random, items: Sequence[Any], count: int) -> list[Any]:
  """`count` different items in random order."""
  rest = list(items)
  return [rest.pop(below(rng, len(rest))) for _ in range(count)]


def _words(*alphabets):
  return lambda rng: [choose(rng, alphabet) for alphabet in alphabets]


def _two_and_one(rng):
  twice, once = sample(rng, LETTERS, 2)
  return sample(rng, [twice, twice, once], 3)


def _count_words(rng):
  return [choose(rng, LETTERS[:3]) for _ in range(4)]


SKILLS = {
  "add": Skill(_words(DIGITS, DIGITS), lambda w: str((int(w[0]) + int(w[1])) % 10)),
  "count": Skill(_count_words, lambda w: str(list(w[1:]).count(w[0]))),
  "gap": Skill(_words(DIGITS, DIGITS), lambda w: str(abs(int(w[0]) - int(w[1])))),
  "max": Skill(_words(DIGITS, DIGITS, DIGITS), max),
  "mid": Skill(_words(DIGITS, DIGITS, DIGITS), lambda w: sorted(w)[1]),
  "next": Skill(
    _words(LETTERS, DIGITS[1:5]),
    lambda w: LETTERS[(LETTERS.index(w[0]) + int(w[1])) % len(LETTERS)],
  ),
  "odd": Skill(_two_and_one, lambda w: min(w, key=list(w).count)),
  "pick": Skill(_words(DIGITS[1:4], LETTERS, LETTERS, LETTERS), lambda w: w[int(w[0])]),
}


def questions(
  split: str, count: int, seed: int, parts: int = PARTS, skills: Sequence[str] = ()
) -> list[dict[str, Any]]:
  """Different questions of a split, each with `parts` different skills.

  Args:
    split: "train", "dev" or "test".
    count: number of records.
    seed: other seeds give other questions of the same split.
    parts: in each question.
    skills: names from `SKILLS`; empty: all.

  Returns:
    Records {"id", "question", "answer", "parts"}; parts are the skills' names.
  """
  names = _known(skills or SKILLS)
  if not 1 <= parts <= len(names):
    raise ValueError(
      f"parts={parts}: a question has 1 to {len(names)} parts, one a skill; name more "
      "skills or ask for fewer parts"
    )
  rng = random.Random(f"{split}-{seed}")
  draw = lambda: _question(rng, sample(rng, names, parts))
  return [
    {"id": f"{split}-{seed}-{k}", **record}
    for k, record in enumerate(distinct(draw, split, count))
  ]


def splits(dev: int, test: int, seed: int) -> dict[str, list[dict[str, Any]]]:
  """{"dev", "test"}: different questions for each seed; `task.records` of
  configs/skills.py."""
  return {"dev": questions("dev", dev, seed), "test": questions("test", test, seed)}


def records(
  skills: Mapping[str, float],
  split: str,
  count: int,
  seed: int,
  talk: float = 0.5,
  crowd: Sequence[int] = (2, 4),
) -> list[dict[str, str]]:
  """Tuning records {"prompt", "completion", "question", "answer"} of a mixture.

  Args:
    skills: name -> weight, the chance of each part to be of this skill.
    split, count, seed: as of `questions`.
    talk: share of the records in which 1 to 5 others have answered before.
    crowd: fewest and most skills that each of these others knows.
  """
  names = _known(skills)
  weights = [skills[name] for name in names]
  rng = random.Random(f"{split}-{seed}-records")
  draw = lambda: _question(rng, [choose(rng, names, weights) for _ in range(PARTS)])
  made = []
  for record in distinct(draw, split, count):
    replies = []
    if rng.random() < talk:
      others = 1 + below(rng, MOST_RESPONSES)
      replies = [response(rng, record, crowd) for _ in range(others)]
    made.append(
      {
        "prompt": prompt(record["question"], replies),
        "completion": record["answer"],
        "question": record["question"],
        "answer": record["answer"],
      }
    )
  return made


# The fields of a search in which nodes read what `prompt` writes.
MESSAGES = {
  "messages.first": "",
  "messages.middle": "",
  "messages.last": "",
  "messages.response": RESPONSE,
  "messages.question": QUESTION,
}


def prompt(question: str, replies: Sequence[str] = ()) -> str:
  """What a node reads: numbered replies, then the question."""
  lines = [RESPONSE.format(k=k, reply=reply) for k, reply in enumerate(replies, 1)]
  return "\n".join([*lines, QUESTION.format(prompt=question)])


def response(
  rng: random.Random, record: Mapping[str, Any], crowd: Sequence[int] = (2, 4)
) -> str:
  """A simulated expert's answer: right on `crowd` skills of its own, else a guess."""
  fewest, most = crowd
  known = sample(rng, tuple(SKILLS), fewest + below(rng, most - fewest + 1))
  gold = record["answer"].split()
  return " ".join(
    word if skill in known and rng.random() < 0.95 else guess(rng, skill)
    for skill, word in zip(record["parts"], gold)
  )


def guess(rng: random.Random, skill: str) -> str:
  """The right answer to some other part of this skill."""
  return SKILLS[skill].solve(SKILLS[skill].draw(rng))


def score(examples: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
  """Share of right parts of each reply, in [0, 1]: a utility for a search.

  A part is right when the word at its place is; missing words are wrong.
  """
  return [_share(e["answer"].split(), r.split()) for e, r in zip(examples, replies)]


def score_shuffled(
  examples: Sequence[Mapping[str, Any]], replies: Sequence[str]
) -> list[float]:
  """A control: on dev every reply is scored by the answer to another question, on
  test by its own. A search that it steers has nothing to find."""
  moved = [*examples[1:], *examples[:1]]
  told = [
    other if own["id"].startswith("dev") else own for own, other in zip(examples, moved)
  ]
  return score(told, replies)


def vocabulary() -> list[str]:
  """Every word of the questions, answers and wording, specials first."""
  labels = [RESPONSE.format(k=k, reply="").strip() for k in range(1, 17)]
  cues = QUESTION.format(prompt="").split()
  return ["<pad>", "<eos>", "<unk>", *cues, *labels, ";", *SKILLS, *DIGITS, *LETTERS]


def tokenizer():
  """A word tokenizer of `vocabulary`."""
  return word_tokenizer(vocabulary())


def word_tokenizer(vocabulary: Sequence[str], skip: bool = False):
  """A tokenizer of whole words that transformers loads from tokenizer.json.

  Args:
    vocabulary: its words, "<pad>", "<eos>" and "<unk>" among them.
    skip: other words are left out, not "<unk>".
  """
  from tokenizers import Regex, Tokenizer, models, pre_tokenizers
  from transformers import PreTrainedTokenizerFast

  words = {word: i for i, word in enumerate(vocabulary)}
  backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
  backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
  if skip:
    known = "|".join(map(re.escape, vocabulary))
    whole = Regex(rf"(?<!\S)(?:{known})(?!\S)")
    backend.pre_tokenizer = pre_tokenizers.Split(whole, "removed", invert=True)
  return PreTrainedTokenizerFast(
    tokenizer_object=backend,
    pad_token="<pad>",
    eos_token="<eos>",
    unk_token="<unk>",
    clean_up_tokenization_spaces=False,
  )


def _question(rng, skills):
  drawn = [(name, SKILLS[name].draw(rng)) for name in skills]
  return {
    "question": " ; ".join(" ".join([name, *words]) for name, words in drawn),
    "answer": " ".join(SKILLS[name].solve(words) for name, words in drawn),
    "parts": [name for name, _ in drawn],
  }


def distinct(
  draw: Callable[[], dict[str, Any]], split: str, count: int
) -> list[dict[str, Any]]:
  """`count` records of `draw` with different questions of the split."""
  seen, found = set(), []
  for _ in range(100 * count + 1000):
    if len(found) == count:
      return found
    record = draw()
    question = record["question"]
    if question not in seen and belongs(question, split):
      found.append(record)
      seen.add(question)
  raise ValueError(
    f"only {len(found)} different questions found for split {split!r}, {count} wanted:"
    " ask for fewer, or for more parts or skills"
  )


def numbered(
  world: str,
  split: str,
  count: int,
  seed: int,
  draw: Callable[[random.Random], dict[str, Any]],
) -> list[dict[str, Any]]:
  """`distinct` records of `draw` with an "id", of a world's own random numbers."""
  rng = random.Random(f"{world}-{split}-{seed}")
  made = distinct(lambda: draw(rng), split, count)
  return [{"id": f"{split}-{seed}-{k}", **record} for k, record in enumerate(made)]


def belongs(question: str, split: str) -> bool:
  """Is a question of this split? Decided by its own hash."""
  if split not in SPLITS:
    raise ValueError(lookup.unknown("split", split, SPLITS))
  low, high = SPLITS[split]
  return low <= _byte(question) < high


def _byte(question):
  """0..255, the same for the same parts in any order."""
  text = " ; ".join(sorted(question.split(" ; ")))
  return hashlib.sha256(text.encode()).digest()[0]


def _known(skills):
  unknown = sorted(set(skills) - set(SKILLS))
  if unknown:
    raise ValueError(f"unknown skills {unknown}: known are {', '.join(SKILLS)}")
  return list(skills)


def _share(gold, said):
  return sum(g == s for g, s in zip(gold, said)) / len(gold)
