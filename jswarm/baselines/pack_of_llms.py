"""Pack of LLMs: one decode from the mixed logits of all experts, weighed by the prompt.

  prompt -> NLL of each expert -> reference, weights -> fused decode, n caches

Mavromatis et al., arXiv 2404.11531. The weights are worked out on the prompt alone. The
fused decode is one more expert of the pool, which never moves: memo, budget and graphs
take it for any other.
"""

import bisect
from collections.abc import Mapping, Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.baselines.base import Found, NotApplicable, Setting
from jswarm.core import lookup
from jswarm.core.types import Experts, Logits, Reply, Request
from jswarm.systems import system

NAME = "pack_of_llms"
RULES = ("opt", "sim")
_GRID = np.arange(20, -1, -1, dtype=np.float32) / 20  # 1 first: of equals, stay
_NEVER = -1e9  # logit of an id that stands for no token
_BESIDE = 16  # tokens on either side that are compared by edit distance
_AT_ONCE = 8  # prompts that are decoded in lockstep
_WIDTH = 32  # prompts are padded to a multiple: few programs
_SPACES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})


def pack_of_llms(setting: Setting) -> Found:
  """All experts decode together.

  One call of the fused expert is one of each expert; it is counted as one. Options:
  `rule`, "opt" (greedy search for the least perplexity of the prompt) or "sim" (softmax
  of the negative perplexities); `tau` (1), the temperature of "sim".
  """
  rule = setting.option("rule", "opt")
  lookup.check("rule", rule, RULES)
  pool = with_fused(setting.experts, rule, setting.option("tau", 1.0))
  alone = system.single(len(setting.experts.names))
  notes = {"rule": rule, "experts_a_call": len(setting.experts.names)}
  return Found(alone, setting.dev(alone, pool), pool, notes)


def with_fused(experts: Experts, rule: str = "opt", tau: float = 1.0) -> Experts:
  """The pool and, as its last expert, the fused decode of all on the weights that the
  pool came with.

  Raises:
    NotApplicable: the pool gives no logits.
  """
  if experts.logits is None:
    raise NotApplicable(f"{NAME} needs logits, which this pool has not.")
  size = len(experts.names)
  everyone = range(size)
  standing = [experts.weights]
  pack = _Pack(experts.logits, size, _Maps(experts.logits), rule, tau)

  def install(weights):
    experts.install(weights)
    standing[0] = weights

  def fused(requests: Sequence[Request]) -> list[Reply]:
    moved = standing[0] is not experts.weights
    if moved:
      experts.install(experts.weights)
    replies = []
    for first in range(0, len(requests), _AT_ONCE):
      replies += _say(pack, requests[first : first + _AT_ONCE])
    if moved:
      experts.install(standing[0])
    return replies

  def ask(requests: Sequence[Request]) -> list[Reply]:
    mine = [i for i, r in enumerate(requests) if r.expert == size]
    others = [i for i, r in enumerate(requests) if r.expert != size]
    found = dict(zip(mine, fused([requests[i] for i in mine])))
    found |= zip(others, experts.ask([requests[i] for i in others]) if others else ())
    return [found[i] for i in range(len(requests))]

  # What it reads has to fit all of them.
  return experts._replace(
    names=(*experts.names, NAME),
    install=install,
    ask=ask,
    count=lambda e, text: max(
      experts.count(i, text) for i in (everyone if e == size else [e])
    ),
    clip=lambda e, text, tokens: min(
      (experts.clip(i, text, tokens) for i in (everyone if e == size else [e])), key=len
    ),
    room=lambda e, limit: min(
      experts.room(i, limit) for i in (everyone if e == size else [e])
    ),
    fixed=(*experts.fixed, f"{rule} {tau} of {experts.fixed}") if experts.fixed else (),
    holders=(*experts.holders, ()) if experts.holders else (),
  )


def sim(nll: np.ndarray, tau: float = 1.0) -> np.ndarray:
  """float [n]: softmax of -NLL / tau."""
  raised = np.exp(-(nll - nll.min()) / tau)
  return raised / raised.sum()


def opt(logits: Sequence[np.ndarray], tokens: Sequence[int], ended: Sequence[int] = ()):
  """(weights float [n], NLL of the prompt under the mixed logits).

  Greedy: from the expert of the least NLL on, each next one is mixed in by the share of
  a grid of twentieths that lowers the NLL most; none, if nothing does.

  Args:
    logits: of each expert [T, V], all of one vocabulary, after each token.
    tokens: [T], of the prompt. ended: tokens whose likelihood does not count.
  """
  alone = [nll(each, tokens, ended) for each in logits]
  order = [int(e) for e in np.argsort(alone, kind="stable")]
  weights = np.zeros(len(logits))
  weights[order[0]] = 1.0
  mixed, least = logits[order[0]], alone[order[0]]
  for e in order[1:]:
    values = _on_grid(mixed, logits[e], tokens, ended)
    best = int(np.argmin(values))
    share = float(_GRID[best])
    if share < 1 and values[best] < least:
      mixed, least = share * mixed + (1 - share) * logits[e], float(values[best])
      weights *= share
      weights[e] = 1 - share
  return weights, least


def nll(logits: np.ndarray, tokens: Sequence[int], ended: Sequence[int] = ()) -> float:
  """Mean of -log p(next token) of the prompt tokens [T] under logits [T, V]."""
  return float(_on_grid(logits, logits, tokens, ended)[0])


def _on_grid(a, b, tokens, ended):
  """float32 [21]: NLL of s a + (1 - s) b for all shares s of the grid."""
  count = len(tokens) - 1
  if count < 1:
    return np.zeros(len(_GRID), np.float32)
  size = -(-count // _WIDTH) * _WIDTH
  wanted = np.zeros(size, np.int32)
  wanted[:count] = tokens[1:]
  counts = np.zeros(size, np.float32)
  counts[:count] = [token not in ended for token in tokens[1:]]
  short = ((0, size - count), (0, 0))
  a, b = (np.pad(x[:count], short) for x in (a, b))
  return np.asarray(_nlls(a, b, wanted, counts))


@jax.jit
def _nlls(a, b, wanted, counts):
  def one(share):
    logits = share * a + (1 - share) * b
    told = jnp.take_along_axis(logits, wanted[:, None], axis=1)[:, 0]
    lost = jax.nn.logsumexp(logits, axis=1) - told
    return jnp.sum(lost * counts) / jnp.maximum(jnp.sum(counts), 1.0)

  return jax.lax.map(one, jnp.asarray(_GRID))


def aligned(reference: Mapping[str, int], other: Mapping[str, int]) -> np.ndarray:
  """int32 [ids of the reference]: for each the id of the other vocabulary that stands
  for it, -1 for ids without a token.

  The same token, whatever marks its space; else the one of least edit distance among
  those beside it in alphabetical order.
  """
  plain: dict[str, int] = {}
  for token, index in other.items():
    plain.setdefault(token.translate(_SPACES), index)
  words = sorted(plain)
  found = np.full(max(reference.values()) + 1, -1, np.int32)
  for token, index in reference.items():
    text = token.translate(_SPACES)
    if token in other:
      found[index] = other[token]
    elif text in plain:
      found[index] = plain[text]
    else:
      at = bisect.bisect(words, text)
      beside = words[max(0, at - _BESIDE) : at + _BESIDE]
      found[index] = plain[min(beside, key=functools.partial(distance, text))]
  return found


def distance(a: str, b: str) -> int:
  """Edit distance: insertions, deletions and substitutions."""
  row = list(range(len(b) + 1))
  for i, sign in enumerate(a, 1):
    before, row[0] = row[0], i
    for j, other in enumerate(b, 1):
      substituted = before + (sign != other)
      before = row[j]
      row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
  return row[-1]


class _Maps:
  """Which ids of one expert's vocabulary stand for those of another's."""

  def __init__(self, logits: Logits):
    self._logits = logits
    self._known: dict[tuple[int, int], np.ndarray | None] = {}

  def __call__(self, reference: int, other: int) -> np.ndarray | None:
    """See `aligned`; None: they are one vocabulary."""
    if (reference, other) not in self._known:
      mine, its = self._logits.tokens(reference), self._logits.tokens(other)
      self._known[reference, other] = None
      if mine != its:
        made = self._known[reference, other] = aligned(mine, its)
        ends, its_ends = self._logits.stops[reference], self._logits.stops[other]
        if its_ends:  # whatever they are called
          made[list(ends)] = its_ends[0]
    return self._known[reference, other]


class _Prompt(NamedTuple):
  """A prompt as all experts read it, and how they are weighed.

  Attributes:
    reference: whose tokens are decoded. size: V of its logits.
    tokens: of each expert [n][T], its own ids for those of the reference.
    weights: float [n].
  """

  reference: int
  size: int
  tokens: list[list[int]]
  weights: np.ndarray

  @property
  def chosen(self) -> list[int]:
    """The experts that are heard."""
    return [int(e) for e in np.flatnonzero(self.weights > 0)]


class _Pack(NamedTuple):
  """Who decodes together, and how they are weighed; see `pack_of_llms`."""

  logits: Logits
  experts: int
  maps: _Maps
  rule: str
  tau: float


def _weighed(pack: _Pack, request: Request) -> _Prompt:
  logits, maps, everyone = pack.logits, pack.maps, range(pack.experts)
  # 1. What each thinks of the prompt in tokens of its own.
  own = [logits.encode(request._replace(expert=e)) for e in everyone]
  along = [logits.along(e, own[e]) for e in everyone]
  alone = np.array([nll(along[e], own[e], logits.stops[e]) for e in everyone])
  reference = int(np.argmin(alone))
  size = along[reference].shape[1]
  # 2. All read it in tokens of the best, each in its own ids for them.
  told = own[reference]
  tokens = [_ids(maps(reference, e), told) for e in everyone]
  if pack.rule == "sim":
    return _Prompt(reference, size, tokens, sim(alone, pack.tau))
  # 3. Their logits for these, in the vocabulary of the best.
  shared = []
  for e in everyone:
    read = along[e] if tokens[e] == own[e] else logits.along(e, tokens[e])
    shared.append(_gathered(read, maps(reference, e), size))
  weights, _ = opt(shared, told, logits.stops[reference])
  return _Prompt(reference, size, tokens, weights)


def _say(pack: _Pack, requests: Sequence[Request]) -> list[Reply]:
  """The fused replies, each with the tokens of all experts that it took."""
  prompts = [_weighed(pack, request) for request in requests]
  said = _decode(pack, prompts, [request.limit for request in requests])
  replies = []
  for prompt, tokens in zip(prompts, said):
    text = pack.logits.decode(prompt.reference, tokens)
    read = sum(len(prompt.tokens[e]) for e in prompt.chosen)
    replies.append(Reply(text, read, len(tokens) * len(prompt.chosen)))
  return replies


def _decode(
  pack: _Pack, prompts: Sequence[_Prompt], limits: Sequence[int]
) -> list[list[int]]:
  """Tokens of each reply, in ids of its reference; all prompts in lockstep."""
  logits, maps = pack.logits, pack.maps
  rows = [(p, e) for p, prompt in enumerate(prompts) for e in prompt.chosen]
  asked = [(e, prompts[p].tokens[e]) for p, e in rows]
  found, state = logits.begin(asked, max(limits))
  said: list[list[int]] = [[] for _ in prompts]
  going = {p for p, limit in enumerate(limits) if limit > 0}
  while going:
    # 1. What all experts of a prompt say together.
    mixed = {p: np.zeros(prompts[p].size, np.float32) for p in going}
    for (p, e), row in zip(rows, found):
      if p in going:
        mapping = maps(prompts[p].reference, e)
        part = _gathered(row, mapping, prompts[p].size)
        mixed[p] += np.float32(prompts[p].weights[e]) * part
    # 2. The likeliest token is said, or ends the reply.
    for p, total in mixed.items():
      token = int(np.argmax(total))
      ends = token in logits.stops[prompts[p].reference]
      if not ends:
        said[p].append(token)
      if ends or len(said[p]) == limits[p]:
        going.discard(p)
    # 3. Each expert hears it in an id of its own; -1: this prompt is done.
    fed = []
    for p, e in rows:
      told = _ids(maps(prompts[p].reference, e), said[p][-1:])
      fed.append(told[0] if p in going else -1)
    if going:
      found, state = logits.step(state, fed)
  return said


def _ids(mapping, tokens):
  """The ids of another vocabulary for these."""
  return list(tokens) if mapping is None else [int(mapping[t]) for t in tokens]


def _gathered(logits, mapping, size):
  """Logits [..., V] of another vocabulary as [..., size] of the reference's."""
  if mapping is None:
    return logits
  taken = np.where(mapping >= 0, logits[..., mapping], _NEVER)
  lacking = size - len(mapping)
  pad = [(0, 0)] * (taken.ndim - 1) + [(0, lacking)]
  return np.pad(taken, pad, constant_values=_NEVER).astype(np.float32)
