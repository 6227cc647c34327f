"""The words that both wings share: axis letters and the contract `ask`.

Axis letters, used in every comment, docstring and einsum of the package:

  G graphs   N nodes     E experts      P particles (G or E)   A assignments
  B rows of a batch      T prompt tokens        M new tokens   S cache slots
  L layers   D width     H heads        K key/value heads      h head size
  F mlp width            r LoRA rank    V vocabulary           X examples

The search wing (graphs, messages, tasks, utility, contribution, pso, search)
decides what to ask; the model wing (decoder, generate, hf, experts, engine)
answers. All that one knows of the other is the record `Experts` below: a remote
endpoint, or a dictionary in a test, is an equally good model wing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

PyTree = Any


class Request(NamedTuple):
  """One prompt for one expert; requests that compare equal are one call."""

  expert: int  # index into `Experts.names`
  prompt: str
  limit: int  # most new tokens
  chat: bool = False  # wrap the prompt in the expert's chat template


class Reply(NamedTuple):
  """What an expert said, with the tokens that it cost."""

  text: str
  prompt_tokens: int
  new_tokens: int


AskFn = Callable[[Sequence[Request]], list[Reply]]


class Experts(NamedTuple):
  """A pool of experts as the search sees it.

  Attributes:
    names: one a expert, unique.
    groups: experts whose weights may be mixed (they share a base); each a tuple
      of expert indices. An expert outside every group has frozen weights.
    weights: for each group a pytree of float32 leaves with a leading axis of
      `len(group)` experts: the particles of the weight-step.
    install: `install(weights)` makes the next `ask` answer with these weights.
    ask: replies in the order of the requests; a reply depends on its request and
      on the installed weights alone.
    count: `count(expert, text)` is the number of tokens of `text`.
    clip: `clip(expert, text, tokens)` is the longest prefix of `text` that the
      expert's tokenizer writes in at most `tokens` tokens.
    room: `room(expert, limit)` is the most prompt tokens beside a reply of
      `limit` tokens, chat template deducted.
    save: `save(folder, weights, members)` writes those experts so that they can
      be loaded again, each alone; gives a JSON-able description.
    fixed: for each expert a name of what does not move: its base, tokenizer and
      stops. Replies of another base are then never taken for its own. May be empty.
    holders: for each expert the processes (of several) that hold its weights and can
      ask and save it; () if all do. May be empty.
  """

  names: tuple[str, ...]
  groups: tuple[tuple[int, ...], ...]
  weights: tuple[PyTree, ...]
  install: Callable[[tuple[PyTree, ...]], None]
  ask: AskFn
  count: Callable[[int, str], int]
  clip: Callable[[int, str, int], str]
  room: Callable[[int, int], int]
  save: Callable[..., dict[str, Any]]
  fixed: tuple[str, ...] = ()
  holders: tuple[tuple[int, ...], ...] = ()
