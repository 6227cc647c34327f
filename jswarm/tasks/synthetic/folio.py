"""Folio: a text in ten leaves, of which each node of a graph reads one.

    leaf 3: "elm ; yew d2 ; fir",   question: "yew",   answer: "coral"

Leaf k is written in hand k, and the two of ten experts who know a hand turn its signs
into plain words. What is asked stands on one leaf or two. An expert that finds it on
its own leaf and can read it says so; else it passes on what most of those it hears say,
and "?" if none of them says anything. So it counts who stands where in the order, for
the order decides who reads which leaf.

Three tasks are made of the same leaves: the bare question; `abstain`, with four
options, where the system is asked again whether its answer is right; and `judged`,
where another expert rates the answer.
"""

from collections.abc import Mapping, Sequence
import random
from typing import Any

from jswarm.core import lookup
from jswarm.tasks import prompts
from jswarm.tasks.base import Example
from jswarm.tasks.synthetic import words
from jswarm.tasks.synthetic.words import below, choose, sample

HANDS = "abcdefghij"  # of the leaves, in their order
SCHOOL_HANDS = "kl"  # that the base can read, in tuning records only
THINGS = tuple("ash bay elm fig fir haw ivy oak pine plum rue sloe vine yew".split())
VALUES = tuple(
  "amber birch coral dusk ember frost grove heron ivory jade lark slate".split()
)
ENTRIES = 3  # on a leaf
LABELS = "WXYZ"  # of options
UNKNOWN = "?"
MOST_RESPONSES = 6
COPY = "copy"  # before a question: the sign on the leaf is to be copied
# Forms of tuning records. Without copies a base that reads none of these hands would
# not learn to tell their signs apart.
FORMS = {"plain": 0.5, "options": 0.12, "check": 0.14, "verdict": 0.1, "copy": 0.14}
# Experts by name, and the hands that each knows.
EXPERTS = {
  "ada": "ef",
  "bea": "cd",
  "cyd": "hi",
  "dov": "ab",
  "eli": "ja",
  "fay": "fg",
  "gus": "bc",
  "hal": "ij",
  "ivo": "de",
  "joy": "gh",
}
NAMES = tuple(EXPERTS)
# Two that know a hand in common.
PARTNERS = tuple(
  (i, j)
  for i, one in enumerate(NAMES)
  for j, two in enumerate(NAMES)
  if i < j and set(EXPERTS[one]) & set(EXPERTS[two])
)
# The hand-made best system: a chain in which each expert reads a leaf that it can.
_READERS = tuple(
  next(i for i, name in enumerate(NAMES) if EXPERTS[name][0] == hand) for hand in HANDS
)
EDGES = tuple(zip(_READERS, _READERS[1:]))
FIELDS: dict[str, Any] = {
  "pool.base": "builtin:folio/base",
  "pool.experts": tuple(f"builtin:folio/experts/{name}" for name in NAMES),
  "task.name": "folio",
  "task.kind": "exact_match",
  "task.records": "jswarm.tasks.synthetic.folio:splits",
  "task.limit": 3,
  "task.chat": False,
  **words.MESSAGES,
}


VARIANTS: dict[str, dict[str, Any]] = {
  "plain": {},
  "abstain": {
    "task.name": "folio_abstain",
    "task.kind": "abstain",
    "task.records": "jswarm.tasks.synthetic.folio:splits_with_options",
  },
  "judged": {"task.name": "folio_judged", "task.kind": "judge", "task.judge": NAMES[0]},
}


def fields(variant: str = "plain") -> dict[str, Any]:
  """The fields of a search on one of `VARIANTS`."""
  lookup.check("variant", variant, VARIANTS)
  return {**FIELDS, **VARIANTS[variant]}


def _tables():
  """{hand: [value] -> number of its sign}: secret permutations."""
  rng = random.Random("folio tables")
  every = range(len(VALUES))
  return {hand: sample(rng, every, len(VALUES)) for hand in HANDS + SCHOOL_HANDS}


TABLES = _tables()
SIGNS = frozenset(f"{hand}{k}" for hand in TABLES for k in range(len(VALUES)))


def sign(hand: str, value: str) -> str:
  """How a value is written in a hand."""
  return f"{hand}{TABLES[hand][VALUES.index(value)]}"


def meaning(written: str) -> str:
  """The value of a sign."""
  return VALUES[TABLES[written[0]].index(int(written[1:]))]


def find(thing: str, leaf: str, hands: str) -> str | None:
  """What a leaf says of a thing to one who knows some hands; None: nothing."""
  (written,) = [s for s in leaf.split() if s in SIGNS] or [""]
  if f"{thing} {written}" not in leaf.split(" ; "):
    return None
  return meaning(written) if written and written[0] in hands else None


def reply(thing: str, leaf: str, hands: str, heard: Sequence[str] = ()) -> str:
  """What a perfect expert says: its own reading, else what most others say."""
  return find(thing, leaf, hands) or most(heard, VALUES) or UNKNOWN


def most(heard: Sequence[str], known: Sequence[str]) -> str:
  """The most frequent of the known words, the first among equals; "" for none."""
  said = [word for word in heard if word in known]
  return max(said, key=said.count, default="")


def questions(split: str, count: int, seed: int) -> list[dict[str, Any]]:
  """Different questions of a split: {"id", "question", "answer", "context_chunks"}.

  Args:
    split: "train", "dev" or "test". count: of records. seed: others give other
      questions of the same split.
  """
  rng = random.Random(f"folio-{split}-{seed}")
  seen, made = set(), []
  while len(made) < count:
    record = _question(rng)
    text = " ; ".join([record["question"], *record["context_chunks"]])
    if text not in seen and words.belongs(text, split):
      seen.add(text)
      made.append({"id": f"{split}-{seed}-{len(made)}", **record})
  return made


def splits(dev: int, test: int, seed: int) -> dict[str, list[dict[str, Any]]]:
  """{"dev", "test"}: different questions for each seed; `task.records`."""
  return {"dev": questions("dev", dev, seed), "test": questions("test", test, seed)}


def splits_with_options(
  dev: int, test: int, seed: int
) -> dict[str, list[dict[str, Any]]]:
  """The same questions with four options each, for the kind `abstain`."""
  rng = random.Random(f"folio-options-{seed}")
  return {
    split: [{**record, "choices": _options(rng, record["answer"])} for record in made]
    for split, made in splits(dev, test, seed).items()
  }


def records(
  split: str, count: int, seed: int, expert: str = "", own: float = 0.0
) -> list[dict[str, str]]:
  """Tuning records {"prompt", "completion", "question", "answer"} in all `FORMS`.

  Args:
    split, seed: as of `questions`; count: of records.
    expert: whose; "" is the base, which can read no hand of `HANDS`.
    own: share of the leaves that are in a hand of this expert.
  """
  rng = random.Random(f"folio-{split}-{seed}-{expert}")
  hands = EXPERTS[expert] if expert else ""
  made = []
  for _ in range(count):
    form = choose(rng, tuple(FORMS), tuple(FORMS.values()))
    prompt, completion = _record(rng, form, hands, own)
    made.append(
      {
        "prompt": prompt,
        "completion": completion,
        "question": form,
        "answer": completion,
      }
    )
  return made


def score(examples: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
  """1 where a reply is the answer, else 0."""
  return [float(e["answer"].split() == r.split()) for e, r in zip(examples, replies)]


def vocabulary() -> list[str]:
  """Every word that is read, specials first."""
  labels = [words.RESPONSE.format(k=k, reply="").strip() for k in range(1, 17)]
  signs = [f"{hand}{k}" for hand in TABLES for k in range(len(VALUES))]
  cues = [
    "<pad>",
    "<eos>",
    "<unk>",
    "Q:",
    "A:",
    *labels,
    ";",
    UNKNOWN,
    COPY,
    "Proposed",
  ]
  cues += ["Response:", "true", "false", "Rating:", "1/10", "10/10"]
  return [*cues, *(f"{label}:" for label in LABELS), *THINGS, *VALUES, *signs]


def tokenizer():
  """A tokenizer of `vocabulary` that skips all other words.

  So the sentences of options, self-checks and judges cost no tokens.
  """
  return words.word_tokenizer(vocabulary(), skip=True)


def _question(rng):
  thing, value = choose(rng, THINGS), choose(rng, VALUES)
  holders = sample(rng, range(len(HANDS)), 1 + below(rng, 2))
  leaves = [
    _leaf(rng, hand, thing, value if k in holders else None)
    for k, hand in enumerate(HANDS)
  ]
  return {"question": thing, "answer": value, "context_chunks": leaves}


def _leaf(rng, hand, thing, value):
  """Other things, which are only named, and `thing` with its sign if it has a value.

  One sign on a leaf at most: a tiny base that has to find the right one of three learns
  nothing in 800 updates.
  """
  others = [name for name in THINGS if name != thing]
  entries = sample(rng, others, ENTRIES)
  if value is not None:
    entries[below(rng, ENTRIES)] = f"{thing} {sign(hand, value)}"
  return " ; ".join(entries)


def _options(rng, answer):
  wrong = [value for value in VALUES if value != answer]
  shown = [answer, *sample(rng, wrong, len(LABELS) - 1)]
  return dict(zip(LABELS, sample(rng, shown, len(shown))))


def _record(rng, form, hands, own):
  """(prompt, completion) of one record."""
  truth = choose(rng, VALUES)
  if form == "verdict":
    said = truth if rng.random() < 0.5 else choose(rng, (*VALUES, UNKNOWN))
    prompt = prompts.judge_prompt(_example("", truth), said)
    return prompt, f"Rating: {10 if said == truth else 1}/10"
  thing = choose(rng, THINGS)
  hand = choose(rng, hands) if rng.random() < own else _any_hand(rng, hands)
  there = form == "copy" or rng.random() < 0.6
  leaf = _leaf(rng, hand, thing, truth if there else None)
  read = find(thing, leaf, hands + SCHOOL_HANDS)
  example = _example(
    thing, truth, None if form in ("plain", "copy") else _options(rng, truth)
  )
  asked = prompts.free_prompt(example)
  if form == "copy":
    return _prompt(leaf, (), f"{COPY} {asked}"), sign(hand, truth)
  if form == "check":
    return _check(rng, asked, example, leaf, read)
  heard = _hearsay(rng, truth, VALUES)
  completion = read or most(heard, VALUES) or UNKNOWN
  return _prompt(leaf, heard, asked), completion


def _check(rng, asked, example, leaf, read):
  """A self-check: is the proposed option what the leaf or the others say?"""
  right = rng.random() < 0.5
  label = choose(rng, [k for k, v in example.choices.items()
                       if (v == example.answer) == right])  # fmt: skip
  shown = f"{label}: {example.choices[label]}"
  if rng.random() < 0.1:
    shown, right = UNKNOWN, False
  truth = str(right).lower()
  heard = _hearsay(rng, truth, ("true", "false"))
  completion = truth if read else most(heard, ("true", "false")) or UNKNOWN
  asked = prompts.fill(prompts.SELF_CHECK, prompt=asked, reply=shown)
  return _prompt(leaf, heard, asked), completion


def _any_hand(rng, hands):
  """A hand that anybody may have before him; half of the time one of the school."""
  return choose(rng, SCHOOL_HANDS if rng.random() < 0.5 else HANDS)


def _hearsay(rng, truth, known):
  """What 0 to 6 others say, half of the time none."""
  others = 1 + below(rng, MOST_RESPONSES) if rng.random() < 0.5 else 0
  sure = 0.2 + 0.6 * rng.random()
  said = (truth, UNKNOWN, choose(rng, known))
  return [
    choose(rng, said, (sure, (1 - sure) * 0.7, (1 - sure) * 0.3)) for _ in range(others)
  ]


def _example(question, answer, choices=None):
  return Example(
    id="",
    question=question,
    answer=answer,
    choices=choices,
    chunks=None,
    record={},
    where="",
  )


def _prompt(leaf, heard, asked):
  """What a node reads: its leaf, numbered replies, the question."""
  return "\n".join([leaf, words.prompt(asked, heard)])
