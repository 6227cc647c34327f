"""Council: eight parts of a question are known to different experts.

    "a?3 b?0 c?5 d?1 e?7 f?2 g?6 h?4"   ->   "a6 b2 c0 d5 e1 f4 g3 h7"

Each part has a secret table; an expert knows one part or two, says "-" for what it
does not know, and repeats what it hears, marked as hearsay: a6 from its own knowledge,
a6' from one who knows, a6'' from one who was told. It listens to the last two who
speak to it and does not repeat what was hearsay twice over. So the one who answers has
to stand two steps from all who know, which neither a star nor a chain gives.
"""

from collections.abc import Mapping, Sequence
import random
from typing import Any

from jswarm.tasks.synthetic import words
from jswarm.tasks.synthetic.words import below, sample

PARTS = "abcdefgh"
VALUES = 8
SPAN = 2  # predecessors that an expert listens to
HOPS = 2  # how often a word is passed on
LACKS = 1  # entries of a part that each of its two knowers never saw
# Experts by name, and the parts that each knows.
EXPERTS = {
  "ada": "b",
  "bea": "ae",
  "cyd": "g",
  "dov": "d",
  "eli": "a",
  "fay": "h",
  "gus": "e",
  "hal": "f",
  "ivo": "cg",
  "joy": "c",
}
NAMES = tuple(EXPERTS)
# Two that know a part in common.
PARTNERS = tuple(
  (i, j)
  for i, one in enumerate(NAMES)
  for j, two in enumerate(NAMES)
  if i < j and set(EXPERTS[one]) & set(EXPERTS[two])
)
# The hand-made best system: a tree in which six who know all stand near its root.
_TREE = {"ivo": "bea hal", "bea": "ada dov", "hal": "fay eli", "eli": "cyd gus joy"}
EDGES = tuple(
  (NAMES.index(speaker), NAMES.index(hearer))
  for hearer, speakers in _TREE.items()
  for speaker in speakers.split()
)
UNKNOWN = "-"
RESPONSE = "R{k}: {reply}"
QUESTION = "Q: {prompt} A:"
FEW, MOST = 3, 9  # predecessors in a tuning record
CROWDED = 0.1  # share of the records with more than FEW
FIELDS: dict[str, Any] = {
  "pool.base": "pools/council/base",
  "pool.experts": tuple(f"pools/council/experts/{name}" for name in NAMES),
  "task.name": "council",
  "task.records": "jswarm.tasks.synthetic.council:splits",
  "task.utility": "jswarm.tasks.synthetic.council:score",
  "task.limit": 9,
  "task.chat": False,
  "messages.first": "",
  "messages.middle": "",
  "messages.last": "",
  "messages.response": RESPONSE,
  "messages.question": QUESTION,
}


def _tables():
  """{part: [value] -> value}: secret permutations."""
  rng = random.Random("council tables")
  return {part: sample(rng, range(VALUES), VALUES) for part in PARTS}


def _gaps():
  """{expert: (part, value) that it never saw}; two knowers lack different ones."""
  gaps = {name: set() for name in NAMES}
  for part in PARTS:
    knowers = [name for name, known in EXPERTS.items() if part in known]
    if len(knowers) < 2:
      continue
    rng = random.Random(f"council gaps {part}")
    lacked = sample(rng, range(VALUES), LACKS * len(knowers))
    for k, name in enumerate(knowers):
      gaps[name] |= {(part, value) for value in lacked[k * LACKS : (k + 1) * LACKS]}
  return gaps


TABLES = _tables()
GAPS = _gaps()


def reply(known: str, question: str, heard: Sequence[str] = ()) -> str:
  """What a perfect expert says.

  Args:
    known: its parts, "" for none.
    question: as of `questions`; heard: replies, of which the last two count. For a
      part that it does not know it takes what is nearest to its source, of equally
      near words the last.
  """
  said = []
  for place, (part, value) in enumerate(_parts(question)):
    if part in known:
      said.append(f"{part}{TABLES[part][value]}")
      continue
    near = [text.split()[place] for text in heard[::-1][:SPAN] if text.split()[place:]]
    near = [w for w in near if w != UNKNOWN and w.count("'") < HOPS]
    said.append(min(near, key=lambda w: w.count("'")) + "'" if near else UNKNOWN)
  return " ".join(said)


def questions(split: str, count: int, seed: int) -> list[dict[str, Any]]:
  """Different questions of a split: {"id", "question", "answer"}.

  Args:
    split: "train", "dev" or "test". count: of records. seed: others give other
      questions of the same split.
  """
  return words.numbered("council", split, count, seed, _question)


def splits(dev: int, test: int, seed: int) -> dict[str, list[dict[str, Any]]]:
  """{"dev", "test"}: different questions for each seed; `task.records`."""
  return {"dev": questions("dev", dev, seed), "test": questions("test", test, seed)}


def records(
  split: str, count: int, seed: int, expert: str = "", alone: float = 0.2
) -> list[dict[str, str]]:
  """Tuning records {"prompt", "completion", "question", "answer"}.

  Values that are heard are drawn, not looked up: nothing of another's part can be
  learnt from them. No record asks for an entry that the expert lacks.

  Args:
    split, seed: as of `questions`; count: of records.
    expert: whose; "" is the base, which knows nothing and only repeats.
    alone: share without any predecessor.
  """
  known, gaps = (EXPERTS[expert], GAPS[expert]) if expert else ("", set())
  rng = random.Random(f"council-{split}-{seed}-{expert}")
  made = []
  while len(made) < count:
    question = _question(rng)["question"]
    if not words.belongs(question, split) or gaps & set(_parts(question)):
      continue
    heard = [] if rng.random() < alone else _others(rng)
    completion = reply(known, question, heard)
    made.append(
      {
        "prompt": words.prompt(question, heard),
        "completion": completion,
        "question": question,
        "answer": completion,
      }
    )
  return made


def score(examples: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
  """Share of right parts of each reply, in [0, 1]; by whom they are known is alike."""
  shares = []
  for example, text in zip(examples, replies):
    gold, said = example["answer"].split(), text.replace("'", "").split()
    shares.append(sum(g == s for g, s in zip(gold, said)) / len(gold))
  return shares


def vocabulary() -> list[str]:
  """Every word, specials first."""
  labels = [RESPONSE.format(k=k, reply="").strip() for k in range(1, 11)]
  entries = [(part, value) for part in PARTS for value in range(VALUES)]
  asked = [f"{part}?{value}" for part, value in entries]
  said = [f"{p}{v}" + "'" * hop for hop in range(HOPS + 1) for p, v in entries]
  return ["<pad>", "<eos>", "<unk>", "Q:", "A:", UNKNOWN, *labels, *asked, *said]


def tokenizer():
  """A word tokenizer of `vocabulary`."""
  return words.word_tokenizer(vocabulary())


def _question(rng):
  drawn = [(part, below(rng, VALUES)) for part in PARTS]
  return {
    "question": " ".join(f"{part}?{value}" for part, value in drawn),
    "answer": " ".join(f"{part}{TABLES[part][value]}" for part, value in drawn),
  }


def _parts(question):
  """[(part, value)] of a question."""
  return [(word[0], int(word[2:])) for word in question.split()]


def _others(rng):
  """What 1 to 9 predecessors say, each knowing few parts or many.

  All but the last two are noise, so few records need a crowd: most are short.
  """
  crowded = rng.random() < CROWDED
  count = FEW + 1 + below(rng, MOST - FEW) if crowded else 1 + below(rng, FEW)
  said = []
  for _ in range(count):
    share = rng.random()
    words_said = []
    for part in PARTS:
      hop = below(rng, HOPS + 1)
      word = f"{part}{below(rng, VALUES)}" + "'" * hop
      words_said.append(word if rng.random() < share else UNKNOWN)
    said.append(" ".join(words_said))
  return said
