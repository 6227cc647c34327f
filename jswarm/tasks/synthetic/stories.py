"""Self-made questions in plain English for language models: seed -> records.

Four skills that a small model has only in part: graphs in words, sums in stories,
choosing an option after reading, and finding a word in a text. Every fact is drawn,
so nothing can be known by heart, and every answer is computed. Splits as in
`skills`: by the hash of the question.
"""

from collections.abc import Callable, Mapping, Sequence
import hashlib
import random
import re
from typing import Any, NamedTuple

from jswarm.core import lookup
from jswarm.tasks.prompts import NODE_WORDING
from jswarm.tasks.synthetic.words import SPLITS, below, choose, sample

NAMES = (
  "Ana",
  "Ben",
  "Chen",
  "Dora",
  "Emil",
  "Fatma",
  "Goran",
  "Hana",
  "Ivan",
  "Julia",
  "Kofi",
  "Lena",
  "Marco",
  "Nina",
  "Omar",
  "Petra",
)
THINGS = (
  "apples",
  "stamps",
  "marbles",
  "books",
  "coins",
  "shells",
  "pencils",
  "tickets",
  "buttons",
  "stickers",
)
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple")
TOWNS = (
  "Arvik",
  "Belmora",
  "Castin",
  "Dunholt",
  "Elsby",
  "Ferrow",
  "Galten",
  "Hoxley",
  "Imber",
  "Jorvast",
)
TRADES = (
  "baker",
  "doctor",
  "farmer",
  "teacher",
  "sailor",
  "painter",
  "lawyer",
  "nurse",
  "miller",
  "tailor",
)
LABELS = "ABCD"


class Drawn(NamedTuple):
  """One question; `reply` is what a good expert says, `answer` what is scored."""

  question: str
  answer: str
  reply: str
  wrong: str  # what a careless one says


def _number(question, value, why, rng) -> Drawn:
  off = max(0, value + choose(rng, (-3, -2, -1, 1, 2, 3)))
  return Drawn(
    question,
    str(value),
    f"{why} The answer is {value}.",
    f"The answer is {off if off != value else value + 1}.",
  )


def graph(rng: random.Random) -> Drawn:
  """Edges in words: their number, the neighbours of a node, a shortest path."""
  nodes = 5 + below(rng, 3)
  pairs = [(i, j) for i in range(nodes) for j in range(i + 1, nodes)]
  edges = sorted(sample(rng, pairs, nodes + below(rng, 3)))
  told = ", ".join(f"{i}-{j}" for i, j in edges)
  text = f"An undirected graph has nodes 0 to {nodes - 1} and these edges: {told}."
  kind = below(rng, 3)
  if kind == 0:
    return _number(f"{text} How many edges does it have?", len(edges), "", rng)
  a, b = sample(rng, range(nodes), 2)
  near = [j if i == a else i for i, j in edges if a in (i, j)]
  path = _shortest(edges, a, b)
  if kind == 1 or path is None:
    listed = f"They are {', '.join(map(str, near))}." if near else "There are none."
    return _number(
      f"{text} How many neighbours does node {a} have?", len(near), listed, rng
    )
  return _number(
    f"{text} How many edges are on a shortest path from node {a} to node {b}?",
    len(path) - 1,
    f"A shortest path is {'-'.join(map(str, path))}.",
    rng,
  )


def arithmetic(rng: random.Random) -> Drawn:
  """A story of two steps with small whole numbers."""
  (one, other), thing = sample(rng, NAMES, 2), choose(rng, THINGS)
  a, b, c = (2 + below(rng, 18) for _ in range(3))
  kind = below(rng, 3)
  if kind == 0:
    return _number(
      f"{one} has {a} {thing} and gets {b} more. {other} has {c} {thing}. How many"
      f" {thing} do they have together?",
      a + b + c,
      f"{a} + {b} = {a + b}, and {a + b} + {c} = {a + b + c}.",
      rng,
    )
  if kind == 1:
    times = 2 + below(rng, 4)
    return _number(
      f"{one} buys {times} boxes of {a} {thing} and gives {min(b, a)} {thing} to"
      f" {other}. How many {thing} are left?",
      times * a - min(b, a),
      f"{times} x {a} = {times * a}, and {times * a} - {min(b, a)} ="
      f" {times * a - min(b, a)}.",
      rng,
    )
  return _number(
    f"{one} has {a + b} {thing}. {one} loses {b} of them and then finds {c}. How many"
    f" {thing} does {one} have now?",
    a + c,
    f"{a + b} - {b} = {a}, and {a} + {c} = {a + c}.",
    rng,
  )


def choice(rng: random.Random) -> Drawn:
  """Four people with a town and a trade each; the answer is the letter of one."""
  people, towns = sample(rng, NAMES, 4), sample(rng, TOWNS, 4)
  trades, target = sample(rng, TRADES, 4), below(rng, 4)
  told = [f"{p} is a {t} from {town}." for p, t, town in zip(people, trades, towns)]
  asked, options = choose(
    rng,
    (
      (f"Who comes from {towns[target]}?", people),
      (f"What does {people[target]} do?", trades),
      (f"Where does the {trades[target]} come from?", towns),
    ),
  )
  right, shown = options[target], sample(rng, options, 4)
  label = LABELS[shown.index(right)]
  lines = [f"{letter}: {option}" for letter, option in zip(LABELS, shown)]
  wrong = choose(rng, [letter for letter in LABELS if letter != label])
  return Drawn(
    "\n".join([" ".join(told), asked, *lines, "Reply with the letter."]),
    label,
    f"{label}: {right}",
    f"{wrong}: {shown[LABELS.index(wrong)]}",
  )


def extraction(rng: random.Random) -> Drawn:
  """Who keeps what where; the answer is one word of the text."""
  people, colours = sample(rng, NAMES, 3), sample(rng, COLOURS, 3)
  things, counts = sample(rng, THINGS, 3), sample(rng, range(2, 30), 3)
  told = [
    f"{p} keeps {n} {thing} in a {colour} box."
    for p, n, thing, colour in zip(people, counts, things, colours)
  ]
  k = below(rng, 3)
  asked, options = choose(
    rng,
    (
      (f"What colour is the box of {people[k]}?", colours),
      (f"Who has the {things[k]}?", people),
      (f"What is in the {colours[k]} box?", things),
    ),
  )
  wrong = options[(k + 1 + below(rng, 2)) % 3]
  return Drawn(
    f"{' '.join(told)} {asked} Reply with one word.",
    options[k],
    f"{options[k]}.",
    f"{wrong}.",
  )


ENGLISH_SKILLS: dict[str, Callable[[random.Random], Drawn]] = {
  "arithmetic": arithmetic,
  "choice": choice,
  "extraction": extraction,
  "graph": graph,
}


def questions(
  split: str, count: int, seed: int, skills: Sequence[str] = ()
) -> list[dict[str, Any]]:
  """Different questions of "train", "dev" or "test", each of one skill.

  Returns:
    Records {"id", "question", "answer", "skill"}, the skills in turn.
  """
  names = _known(skills or ENGLISH_SKILLS)
  rng = random.Random(f"english-{split}-{seed}")
  found = _distinct(rng, split, [names[k % len(names)] for k in range(count)])
  return [
    {
      "id": f"{split}-{seed}-{k}",
      "question": drawn.question,
      "answer": drawn.answer,
      "skill": name,
    }
    for k, (name, drawn) in enumerate(found)
  ]


def records(
  skills: Mapping[str, float], split: str, count: int, seed: int, talk: float = 0.3
) -> list[dict[str, str]]:
  """Tuning records {"prompt", "completion", "question", "answer", "skill"}.

  Args:
    skills: name -> weight.
    split, count, seed: as of `questions`.
    talk: share of the records in which 1 to 3 others have answered before.
  """
  names = _known(skills)
  rng = random.Random(f"english-{split}-{seed}-records")
  weights = [skills[name] for name in names]
  wanted = [choose(rng, names, weights) for _ in range(count)]
  made = []
  for name, drawn in _distinct(rng, split, wanted):
    count = 1 + below(rng, 3) if rng.random() < talk else 0
    replies = [choose(rng, (drawn.reply, drawn.wrong)) for _ in range(count)]
    made.append(
      {
        "prompt": prompt(drawn.question, replies),
        "completion": drawn.reply.strip(),
        "question": drawn.question,
        "answer": drawn.answer,
        "skill": name,
      }
    )
  return made


def prompt(question: str, replies: Sequence[str] = ()) -> str:
  """What a node reads, in the default wording of a search."""
  lines = [
    NODE_WORDING["response"].format(k=k, reply=" ".join(reply.split("\n")))
    for k, reply in enumerate(replies, 1)
  ]
  first = NODE_WORDING["middle" if replies else "first"]
  return "\n".join([first, *lines, NODE_WORDING["question"].format(prompt=question)])


def score(examples: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
  """1 where the reply is right, else 0: a utility for a search.

  A number is right as the last number of the reply, a letter or a word as the first
  one that could be an answer.
  """
  return [float(_right(e["answer"], r)) for e, r in zip(examples, replies)]


def _right(answer, reply):
  if answer.isdigit():
    numbers = re.findall(r"\d+", reply.replace(",", ""))
    return bool(numbers) and int(numbers[-1]) == int(answer)
  if answer in LABELS:
    return re.findall(r"\b[A-D]\b", reply)[:1] == [answer]
  said = re.findall(r"[a-z]+", reply.lower())
  options = {w.lower() for w in (*NAMES, *COLOURS, *THINGS)}
  return [w for w in said if w in options][:1] == [answer.lower()]


def _shortest(edges, start, end):
  """Nodes of a shortest path, the smallest node first among equals, or None."""
  paths, seen = [[start]], {start}
  for path in paths:  # grows while it is read: breadth first
    if path[-1] == end:
      return path
    for i, j in edges:
      for here, there in ((i, j), (j, i)):
        if here == path[-1] and there not in seen:
          seen.add(there)
          paths.append([*path, there])
  return None


def _distinct(rng, split, wanted):
  """(skill, Drawn) for each wanted skill, all different and of the split."""
  if split not in SPLITS:
    raise ValueError(lookup.unknown("split", split, SPLITS))
  low, high = SPLITS[split]
  seen, found = set(), []
  for name in wanted:
    drawn = ENGLISH_SKILLS[name](rng)
    while drawn.question in seen or not low <= _byte(drawn.question) < high:
      drawn = ENGLISH_SKILLS[name](rng)
    seen.add(drawn.question)
    found.append((name, drawn))
  return found


def _byte(question):
  return hashlib.sha256(question.encode()).digest()[0]


def _known(skills):
  unknown = sorted(set(skills) - set(ENGLISH_SKILLS))
  if unknown or not skills:
    raise ValueError(f"unknown skills {unknown}: known are {', '.join(ENGLISH_SKILLS)}")
  return list(skills)
