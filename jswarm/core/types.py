"""The words that both wings share: axis letters and the contract `ask`.

Axis letters, used in every comment, docstring and einsum of the package:

  G graphs   N nodes     E experts      P particles (G or E)   A assignments
  B rows of a batch      T prompt tokens        M new tokens   S cache slots
  L layers   D width     H heads        K key/value heads      h head size
  F mlp width            r LoRA rank    V vocabulary           X examples
  C prompt tokens of a lane (its room)         J jobs to be scored
  R requests, prompts of a pack, or positions of a row that are asked for

The search wing (rooms graphs, tasks, systems, swarm, run) decides what to ask; the
model wing (model, formats, pool, engine) answers; wiring is where they meet. All that
one knows of the other is the record `Experts` below: a remote endpoint, or a dictionary
in a test, is an equally good model wing.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

PyTree = Any


class Request(NamedTuple):
  """One prompt for one expert; requests that compare equal are one call."""

  expert: int  # index into `Experts.names`
  prompt: str
  limit: int  # most new tokens
  chat: bool = False  # wrap the prompt in the expert's chat template
  draw: int = 0  # which of several samples; where decoding is greedy all are equal


class Reply(NamedTuple):
  """What an expert said, with the tokens that it cost."""

  text: str
  prompt_tokens: int
  new_tokens: int


AskFn = Callable[[Sequence[Request]], list[Reply]]


class Candidates(NamedTuple):
  """One prompt for one expert, and completions whose likelihood is asked."""

  expert: int  # index into `Experts.names`
  prompt: str
  completions: tuple[str, ...]
  chat: bool = False  # completions follow the prompt in the chat template


# For each request and each of its completions: float32 [tokens of the completion],
# natural logarithms, so that their sum is that of the completion given its prompt.
ScoreFn = Callable[[Sequence[Candidates]], list[list[np.ndarray]]]
HiddenFn = Callable[[Sequence[Request]], np.ndarray]


class Logits(NamedTuple):
  """Next-token logits of many rows at once, each with a cache of its own.

  A row is a request: one prompt for each of several experts, or several prompts. Rows
  may be of different bases, so logits are a list of R arrays, float32 [V] of the row's
  own vocabulary; those of one vocabulary can be stacked to [R, V].

  Attributes:
    prefill: `prefill(requests)` gives (logits, state) after the prompts. A state goes
      on with the weights that were installed then.
    step: `step(state, tokens)` feeds each row a token of its own vocabulary and gives
      (logits, state). A row whose token is -1 waits: its logits stay what they were,
      so that rows may need different numbers of tokens for one piece of text. A state
      can be stepped once (its memory is used again), and as often in all as the
      largest `limit` of the requests says.
    tokens: `tokens(expert)` is its vocabulary, each token as the tokenizer writes it,
      with its id.
    encode: `encode(request)` is its prompt in tokens, as `prefill` feeds them.
    begin: `begin(prompts, limit)` is `prefill` of prompts (expert, tokens) that are
      given in tokens of the expert's own.
    along: `along(expert, tokens)` is float32 [T, V], the logits after each of them.
    decode: `decode(expert, tokens)` is their text, special tokens dropped.
    stops: for each expert the ids that end a reply.
  """

  prefill: Callable[[Sequence[Request]], tuple[list[np.ndarray], Any]]
  step: Callable[[Any, Sequence[int]], tuple[list[np.ndarray], Any]]
  encode: Callable[[Request], list[int]]
  begin: Callable[[Sequence[tuple[int, Sequence[int]]], int], tuple[list, Any]]
  along: Callable[[int, Sequence[int]], np.ndarray]
  tokens: Callable[[int], dict[str, int]]
  decode: Callable[[int, Sequence[int]], str]
  stops: tuple[tuple[int, ...], ...]


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
    score: `score(candidates)` are the log-likelihoods of completions, token by token,
      in the order of the requests. Where prompt and completion meet, both are encoded
      as one text, which is split after as many tokens as the prompt alone has.
    logits: what a decode that fuses experts asks, see `Logits`.
    hidden: `hidden(requests)` is float32 [R, D], the mean over a prompt's tokens of the
      last hidden state, after the final norm; all requests need experts of one D.
      `limit` does not matter.
    statistics: what this pool has done so far: rows, tokens, seconds, programs.

  `score`, `logits` and `hidden` answer with the installed weights, as `ask` does. None:
  this pool cannot, and a method that needs it is not applicable. Of several processes
  each answers for itself, with the experts that it holds.
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
  score: ScoreFn | None = None
  logits: Logits | None = None
  hidden: HiddenFn | None = None
  statistics: Callable[[], dict[str, Any]] | None = None
