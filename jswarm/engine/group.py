"""One group of a pool at work: requests -> tokens -> replies.

Here text meets the device: `resident` says what the rows run on, `batcher` keeps the
lanes full; tokenizers work ahead of the device, and replies on disk are not made again.
"""

import collections
import concurrent.futures
import copy
import hashlib
import time

from absl import logging

from jswarm.core.types import PyTree, Reply, Request
from jswarm.distributed.devices import Replicas, local_devices
from jswarm.engine import (
  adapter_forms,
  footprint,
  packing,
  rectangles,
  reply_store,
  texts,
)
from jswarm.engine.batcher import Batcher
from jswarm.engine.counters import Statistics
from jswarm.engine.resident import Resident
from jswarm.formats import tokenizer
from jswarm.model import lora
from jswarm.pool import load

_PLANNED_TOKENS = 1024  # slots a lane is planned with where `rows` is 0
_ALIKE = 0.5  # mean cosine of the A of adapters that may be averaged factor by factor
_PORTION = 4  # times the lanes: prompts that are encoded at a time


class Served:
  """A group that answers; `settings` is an `engine.Settings`."""

  def __init__(self, group: load.Group, settings, statistics: Statistics, keep=True):
    self._settings, self._statistics = settings, statistics
    self._replicas = Replicas(local_devices(settings.devices), settings.tensor)
    dense = _is_dense(group, settings.space)
    self.particles = Resident(group, self._replicas, dense, settings.int8, keep)
    self.group = group = self.particles.group
    self._row = {expert: i for i, expert in enumerate(group.members)}
    self._readers = texts.of_group(group, settings)
    self._rows = settings.rows or self._most_rows()
    self._batcher = self._new_batcher()
    self._store = reply_store.Store(settings.memo) if settings.memo else None

  def under(self, settings) -> "Served":
    """The same weights under other settings of how tokens are chosen."""
    other = copy.copy(self)
    other._settings = settings
    other._batcher = other._new_batcher()
    return other

  def _new_batcher(self):
    settings = self._settings
    return Batcher(
      self.group.config,
      self._replicas,
      self.group.stops,
      settings.sampling,
      rows=self._rows,
      fitting=None if settings.rows else self._fitting_rows,
      pack_tokens=settings.pack_tokens,
      statistics=self._statistics,
      leaps=settings.speculate,
    )

  def save(self, folder: str, particles: PyTree | None, expert: int) -> dict:
    """Writes one expert of the pool; see `Resident.save`."""
    return self.particles.save(folder, particles, self._row[expert])

  def holders(self, expert: int) -> tuple[int, ...]:
    """The processes that hold this expert of the pool; () if all do."""
    return self.particles.holders()[self._row[expert]]

  def fixed(self, expert: int) -> str:
    """Names what does not move of this expert of the pool."""
    return self.particles.fixed[self._row[expert]]

  def text(self, expert: int) -> load.Text:
    """How this expert of the pool reads and ends text."""
    return self.group.text(self._row[expert])

  def reader(self, expert: int) -> texts.Text:
    """What a prompt takes of the context of this expert of the pool."""
    return self._readers[self._row[expert]]

  def ask(self, requests: list[Request]) -> list[Reply]:
    """Replies in the order of the requests."""
    replies: list[Reply | None] = [None] * len(requests)
    for weights, mine in self._streams(requests):
      kept = {}
      limit = max(requests[i].limit for i in mine)
      said = self._batcher.serve(
        weights, self._portions(requests, mine, replies, kept), limit
      )
      began = time.perf_counter()
      for i, prompt in kept.items():
        words = self.text(requests[i].expert).tokenizer
        (reply,) = tokenizer.decode(words, [said[i]])
        replies[i] = Reply(reply, len(prompt.tokens), len(said[i]))
      self._statistics.text_seconds += time.perf_counter() - began
      if self._store:
        self._store.put(
          [self._key(p) for p in kept.values()], [replies[i] for i in kept]
        )
    return replies

  def _portions(self, requests, mine, replies, kept):
    """Yields prompts; the next portion is encoded while this one is served.

    What the disk knows goes to `replies` at once, the others to `kept`.
    """
    size = _PORTION * self._rows
    order = sorted(mine, key=lambda i: (-len(requests[i].prompt), i))
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
      encode = lambda part: thread.submit(self._encode, requests, part)
      following = encode(parts[0]) if parts else None
      for n in range(len(parts)):
        began = time.perf_counter()
        prompts = following.result()
        following = encode(parts[n + 1]) if n + 1 < len(parts) else None
        self._statistics.text_seconds += time.perf_counter() - began
        new = self._unknown(prompts, replies)
        kept.update({p.index: p for p in new})
        yield new

  def _unknown(self, prompts, replies):
    """The prompts without a reply on disk; the others are answered."""
    if not self._store:
      return prompts
    found = self._store.get([self._key(p) for p in prompts])
    for prompt, reply in zip(prompts, found):
      replies[prompt.index] = reply
    self._statistics.stored += sum(reply is not None for reply in found)
    return [p for p, reply in zip(prompts, found) if reply is None]

  def _encode(self, requests, part):
    """A `Prompt` to each request of the part."""
    asked = [requests[i] for i in part]
    tokens = dict(zip(part, rectangles.encode_each(asked, self.text), strict=True))
    for i in part:
      most = self.text(requests[i].expert).max_positions
      if len(tokens[i]) > most - requests[i].limit:
        raise ValueError(
          f"a prompt of {len(tokens[i])} tokens and {requests[i].limit}"
          f" new ones exceed the context of {most}: {requests[i].prompt[:80]!r}..."
          " Shorten the prompt, or lower task.limit."
        )
    return [
      packing.Prompt(
        i,
        self._row[requests[i].expert],
        tokens[i],
        requests[i].limit,
        self._seed(requests[i]),
      )
      for i in part
    ]

  def _key(self, prompt):
    """Of a reply on disk: all that it depends on."""
    s = self._settings
    drawn = f"|{prompt.seed}" if s.sampling.temperature else ""
    # How it is computed: in bfloat16 the last bits, and with them words, depend on it.
    how = f"{s.form}|{s.tensor}|{self._replicas.platform}|int8={s.int8}"
    return reply_store.key(
      self.particles.version(prompt.owner),
      prompt.tokens,
      prompt.limit,
      f"{s.sampling}|{how}{drawn}",
      self.particles.vocabularies[prompt.owner],
    )

  def _streams(self, requests):
    """(weights, indices) of each stream: mixed rows together, other experts alone."""
    owners = [self._row[r.expert] for r in requests]
    of = lambda chosen: [i for i, owner in enumerate(owners) if owner in chosen]
    if self.group.kind == "full" and self._replicas.count > 1:
      for placed in self._rounds(owners):
        yield self.particles.on_replicas(placed), of(placed)
      return
    form, alone = "", sorted(set(owners))
    if self.group.kind == "lora":
      form, alone = adapter_forms.choose(
        self._settings.form,
        self._replicas.platform,
        owners,
        len(self.group.members),
        self.particles.dense,
        not self._settings.int8,
        self.particles.costly,
      )
    mixed = set(owners) - set(alone)
    if mixed:
      yield self.particles.mixed(form), of(mixed)
    for owner in alone:
      yield self.particles.alone(owner), of({owner})

  def _rounds(self, owners):
    """Which expert is on which replica, round by round; the busiest first. The experts
    of a round end their replies alike."""
    rows = collections.Counter(owners)
    order = sorted(rows, key=lambda o: (-rows[o], o))
    for stops in dict.fromkeys(self.group.text(o).stops for o in order):
      alike = [o for o in order if self.group.text(o).stops == stops]
      for first in range(0, len(alike), self._replicas.count):
        chosen = alike[first : first + self._replicas.count]
        yield tuple(chosen[d % len(chosen)] for d in range(self._replicas.count))

  def _most_rows(self):
    """Lanes that are planned with before the prompts are known."""
    memory = self._replicas.memory()
    if self._replicas.platform == "cpu" or not memory:  # a cache there is by the need
      return footprint.most_lanes("cpu")
    return self._fitting_rows()

  def _fitting_rows(self, slots=0):
    """Lanes of so many slots, 0: as planned, that base and adapters leave room for."""
    slots = slots or min(self.group.config.max_positions, _PLANNED_TOKENS)
    return footprint.lanes_that_fit(
      self.group.config,
      slots,
      self.particles.held(),
      self._replicas.memory(),
      self._replicas.platform,
    )

  def _seed(self, request):
    """Of the row's draws: a function of the request, never of the batch."""
    name = self.group.specs[self._row[request.expert]].name
    drawn = f"{request.draw}|" if request.draw else ""
    words = f"{drawn}{self._settings.seed}|{name}|{request.limit}|{request.prompt}"
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little")


def _is_dense(group: load.Group, space: str) -> bool:
  """Do adapters move as dense updates? "auto": where they did not begin alike."""
  if space != "auto" or group.kind != "lora" or len(group.members) == 1:
    return space == "dense"
  alike = lora.likeness(group.particles)
  dense = alike < _ALIKE
  logging.info(
    "pool.space=auto: the A factors of %d adapters have a mean cosine of %.2f, so they"
    " move as %s.",
    len(group.members),
    alike,
    "dense updates" if dense else "factors",
  )
  return dense
