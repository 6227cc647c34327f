"""Self-generated English questions of four skills, to tune experts on: seed -> records.

No data set is read: every question is drawn and solved by a small program, in words
that resemble what the skill is for. An expert is tuned on one skill, or on a mixture.
"""

from collections.abc import Callable, Mapping
import random
from typing import NamedTuple

import networkx

from jswarm.skills import below, choose, sample

NAMES = ("Ada", "Ben", "Cleo", "Dev", "Ela", "Finn", "Gita", "Hugo", "Iris", "Jon",
         "Kira", "Leo", "Mina", "Noor", "Otto", "Pia", "Quin", "Rosa", "Sam", "Tara")
THINGS = ("apples", "books", "coins", "eggs", "marbles", "pencils", "shells", "stamps",
          "stickers", "tickets")
PLACES = ("Berlin", "Cairo", "Delhi", "Lima", "Lagos", "Oslo", "Paris", "Quito", "Rome",
          "Tokyo")
JOBS = ("baker", "carpenter", "dentist", "farmer", "judge", "nurse", "painter", "pilot",
        "teacher", "writer")
COLORS = ("black", "blue", "brown", "green", "orange", "pink", "red", "white", "yellow")
FINISH = 'Finish your reply with the words "The answer is" and the number.'


class EnglishSkill(NamedTuple):
  """One skill.

  Attributes:
    draw: rng -> (question, worked answer, what counts as right).
    chat: tuned inside the base's chat template.
  """

  draw: Callable[[random.Random], tuple[str, str, str]]
  chat: bool


def records(mixture: Mapping[str, float], split: str, count: int,
            seed: int) -> list[dict[str, str]]:
  """{"prompt", "completion", "question", "answer"} of a mixture of skills.

  Args:
    mixture: skill -> weight, the chance of a record to be of this skill.
    split: "train", "dev" or "test": other splits draw from other streams, and a
      question of one never occurs in another.
    count, seed: how many, and which.

  Raises:
    ValueError: an unknown skill or split; lists the known ones.
  """
  unknown = sorted(set(mixture) - set(ENGLISH_SKILLS))
  if unknown or split not in _SPLITS:
    raise ValueError(f"unknown {unknown or split!r}: known skills are"
                     f" {', '.join(ENGLISH_SKILLS)}, splits {', '.join(_SPLITS)}.")
  rng = random.Random(f"{split}-{seed}-english")
  found, seen = [], set()
  while len(found) < count:
    skill = choose(rng, list(mixture), list(mixture.values()))
    question, worked, answer = ENGLISH_SKILLS[skill].draw(rng)
    # Disjoint splits: a question belongs to one by its own letters.
    if question in seen or sum(question.encode()) % 8 not in _SPLITS[split]:
      continue
    seen.add(question)
    found.append({"prompt": question, "completion": worked, "question": question,
                  "answer": answer})
  return found


_SPLITS = {"train": range(6), "dev": (6,), "test": (7,)}


def _shortest_path(rng):
  """The weight of a shortest path, told edge by edge."""
  size = 4 + below(rng, 3)
  graph = networkx.Graph()
  nodes = list(range(size))
  for node in nodes[1:]:
    graph.add_edge(node, choose(rng, nodes[:node]), weight=1 + below(rng, 9))
  for _ in range(size // 2):
    a, b = sample(rng, nodes, 2)
    graph.add_edge(a, b, weight=1 + below(rng, 9))
  a, b = sample(rng, nodes, 2)
  path = networkx.shortest_path(graph, a, b, weight="weight")
  weights = [graph[u][v]["weight"] for u, v in zip(path, path[1:])]
  edges = " ".join(f"Node {u} is connected to node {v} with weight {d['weight']}."
                   for u, v, d in graph.edges(data=True))
  question = (f"An undirected graph has the nodes 0 to {size - 1}. {edges} What is the"
              f" total weight of the shortest path from node {a} to node {b}?")
  steps = " + ".join(map(str, weights))
  worked = (f"The path {', '.join(map(str, path))} has the weight {steps} ="
            f" {sum(weights)}. The answer is {sum(weights)}.")
  return question, worked, str(sum(weights))


def _degree(rng):
  """How many edges a node has."""
  size = 4 + below(rng, 4)
  pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
  edges = sample(rng, pairs, 3 + below(rng, min(6, len(pairs) - 3)))
  node = below(rng, size)
  near = sorted({i + j - node for i, j in edges if node in (i, j)})
  told = ", ".join(f"({i}, {j})" for i, j in edges)
  question = (f"An undirected graph has the edges {told}. How many nodes is node {node}"
              " connected to?")
  listed = f"It is connected to {', '.join(map(str, near))}. " if near else ""
  return question, f"{listed}The answer is {len(near)}.", str(len(near))


def _graph(rng):
  return choose(rng, (_shortest_path, _shortest_path, _degree))(rng)


def _arithmetic(rng):
  """A word problem of two or three steps."""
  name, other = sample(rng, NAMES, 2)
  thing = choose(rng, THINGS)
  a, b, c = 5 + below(rng, 60), 2 + below(rng, 9), 2 + below(rng, 20)
  kind = below(rng, 4)
  if kind == 0:
    told = (f"{name} has {a} {thing}. {other} has {b} times as many. How many {thing} do"
            " they have together?")
    steps, result = f"{other} has {b} * {a} = {a * b}. {a} + {a * b} = {a + a * b}.", a + a * b
  elif kind == 1:
    told = (f"{name} buys {b} boxes with {c} {thing} each and gives {other} {b + c} of"
            f" them. How many {thing} are left?")
    left = b * c - b - c
    steps, result = f"{b} * {c} = {b * c}. {b * c} - {b + c} = {left}.", left
  elif kind == 2:
    told = (f"{name} sells {a} {thing} for {b} dollars each and spends {c} dollars. How"
            " many dollars remain?")
    steps, result = f"{a} * {b} = {a * b}. {a * b} - {c} = {a * b - c}.", a * b - c
  else:
    told = (f"{name} shares {b * c} {thing} equally among {b} friends. Each already had"
            f" {a}. How many {thing} does each have now?")
    steps, result = f"{b * c} / {b} = {c}. {a} + {c} = {a + c}.", a + c
  return f"{told} {FINISH}", f"{steps} The answer is {result}.", str(result)


def _people(rng):
  """Four people with a job, a place and a color each, as a short text."""
  names = sample(rng, NAMES, 4)
  facts = list(zip(names, sample(rng, JOBS, 4), sample(rng, PLACES, 4),
                   sample(rng, COLORS, 4)))
  text = " ".join(f"{n} is a {j} who lives in {p} and likes {c}."
                  for n, j, p, c in facts)
  return facts, text


def _ask(rng, facts):
  """(question about one person, answer, what the others would say)."""
  row = below(rng, len(facts))
  name, job, place, color = facts[row]
  column = 1 + below(rng, 3)
  question = (None, f"What is the job of {name}?",
              f"Where does the {job} live?",
              f"Which color does the person in {place} like?")[column]
  return question, facts[row][column], [fact[column] for fact in facts]


def _reading(rng):
  """A question on a short text with four options; the answer is a letter."""
  facts, text = _people(rng)
  question, answer, options = _ask(rng, facts)
  options = sample(rng, options, 4)
  listed = "\n".join(f"{letter}: {option}" for letter, option in zip("ABCD", options))
  letter = "ABCD"[options.index(answer)]
  prompt = (f"Choose the option that answers the question best.\nQuestion: {text}"
            f" {question}\n{listed}\nThe answer is")
  return prompt, f" {letter}: {answer}", letter


def _extraction(rng):
  """The word of a text that answers a question."""
  facts, text = _people(rng)
  question, answer, _ = _ask(rng, facts)
  return f"{text} {question} Reply with one word.", answer, answer


ENGLISH_SKILLS: dict[str, EnglishSkill] = {
    "graph": EnglishSkill(_graph, True),
    "arithmetic": EnglishSkill(_arithmetic, True),
    "reading": EnglishSkill(_reading, False),
    "extraction": EnglishSkill(_extraction, True),
}
