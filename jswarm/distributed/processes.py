"""Several processes as one search: requests -> shares -> replies for all.

The one file that knows processes. Each (a rank, from 0) runs the same search on its
host, with the same state; only generation is divided: a rank answers its share of the
requests on its own devices and hears the replies of the others. Rank 0 alone writes,
reads clocks and asks the utility, which need not be deterministic.

What ranks tell each other goes through the key-value store of `jax.distributed`, that
rank 0 serves. `multihost_utils.process_allgather` could carry it too; but the store
compiles nothing, occupies no device, takes text of any length, and can be read with a
time-out, so that a rank that waits can say for whom. All of it is JSON.
"""

import collections
from collections.abc import Callable, Sequence
import contextlib
import functools
import hashlib
import json
import math
import os
import sys
import time
from typing import Any

import jax

from jswarm.core.types import AskFn, Experts, Reply, Request
from jswarm.distributed.watchdog import (
  LOST,
  RankError,
  Settings,
  Watchdog,
  die_of_abort,
)

_ALIKE = "all must run one command on the same code, data and kind of devices:"
_SLICE = 1.0  # seconds between two looks at how the others are, while waiting


class _Link:
  """This process's end of the store, from the first use to the end of the process."""

  def __init__(self, client, rank: int, count: int):
    self.client, self.rank, self.count = client, rank, count
    self.settings, self.turn = Settings(), 0
    self.dog = Watchdog(client, rank)

  def watch(self, settings: Settings) -> None:
    self.settings = settings
    self.dog.start(settings.silence)


def initialize(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  settings: Settings = Settings(),
) -> None:
  """Joins the processes; before anything else that uses jax.

  Args:
    coordinator: "host:port" of process 0; num_processes, process_id: how many there
      are, and which this is. None: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES,
      JAX_PROCESS_ID, or what jax finds on a TPU pod, in Slurm, GKE or Open MPI.
    settings: how long to wait.

  Raises:
    ValueError: the numbers make no sense, or nothing says what they are. If the
    others do not come in time, jax aborts the process; a line says so.
  """
  num_processes = _number(num_processes, "JAX_NUM_PROCESSES")
  process_id = _number(process_id, "JAX_PROCESS_ID")
  # jax would swallow SIGTERM: it waits for a step that asks whether one came.
  jax.config.update("jax_enable_preemption_service", False)
  who = (
    "this process" if process_id is None else f"rank {process_id} of {num_processes}"
  )
  die_of_abort(
    lambda: (
      f"{who} is at: start; not all processes came to"
      f" {coordinator or 'rank 0'} within {settings.start} s (processes.start)"
    )
  )
  jax.distributed.initialize(
    coordinator,
    num_processes,
    process_id,
    initialization_timeout=settings.start,
    # A later net: the watchdog, which says more, must be first.
    heartbeat_timeout_seconds=math.ceil(3 * settings.silence),
  )
  if link := _link():
    die_of_abort(link.dog.last_words)
    link.watch(settings)


def rank() -> int:
  """Which process this is; 0 if there is one."""
  return link.rank if (link := _link()) else 0


def count() -> int:
  """How many processes there are."""
  return link.count if (link := _link()) else 1


def is_writer() -> bool:
  """Does this process write the files?"""
  return rank() == 0


def holds(leaf) -> bool:
  """Does this process hold all of an array? What is no array of jax, it does."""
  return getattr(leaf, "is_fully_addressable", True)


def phase(name: str) -> None:
  """What this process is at, for the message of those that lose it."""
  if link := _link():
    link.dog.phase = [name]


@contextlib.contextmanager
def together(settings: Settings = Settings()):
  """Watches the other processes inside; none leaves before the others.

  An exception that leaves it is announced, and ends the others with its message.
  """
  link = _link()
  if link:
    link.watch(settings)
  try:
    yield
    barrier("the end")
  except BaseException as error:
    announce(error)
    raise
  finally:
    if link:
      link.dog.stop()


def announce(error: BaseException) -> None:
  """Tells the others that this process fails; only the first error counts."""
  if link := _link():
    link.dog.announce(error)


def leave(code: int, error: BaseException) -> None:
  """Ends the process with this exit code, after the others know why."""
  link = _link()
  if not link:
    sys.exit(code)
  announce(error)
  link.dog.stop()
  if link.rank == 0:  # it holds the store, where the others hear of it
    link.dog.wait_until_gone(range(1, link.count), link.settings.silence)
  link.dog.say_gone()
  sys.stdout.flush()
  sys.stderr.flush()
  # Not sys.exit: jax would wait in vain for a shutdown of all.
  os._exit(code)


def exchange(what: str, value: Any) -> list[Any]:
  """[count] values, one of each rank: what every rank gave.

  All ranks call it in the same order, with the same `what`.

  Args:
    what: names the step, in messages and to notice ranks that have diverged.
    value: anything that JSON can write; it comes back as JSON reads it.

  Raises:
    RankError: another rank failed, was too late, or is at another step.
  """
  link = _link()
  if not link or link.count == 1:
    return [json.loads(json.dumps(value))]
  link.turn += 1
  key = lambda turn, r: f"jswarm/step/{turn}/{r}"
  link.client.key_value_set_bytes(
    key(link.turn, link.rank), json.dumps([what, value]).encode()
  )
  texts = [_wait(link, key(link.turn, r), r, what) for r in range(link.count)]
  link.dog.phase = link.dog.phase[:1]
  # Who has posted this turn has read the one before.
  if link.turn > 1:
    link.client.key_value_delete(key(link.turn - 1, link.rank))
  for r, (theirs, _) in enumerate(texts):
    if theirs != what:
      raise RankError(
        f"rank {r} is at {theirs!r} and rank {link.rank} at {what!r}; {_ALIKE}"
      )
  return [theirs for _, theirs in texts]


def barrier(name: str) -> None:
  """Returns when all ranks have called it."""
  exchange(name, None)


def same(what: str, value: dict[str, Any]) -> None:
  """Checks that all ranks hold the same dictionary.

  Raises:
    ValueError: one does not; names the rank, and the first keys with both values.
  """
  first, *others = exchange(what, value)
  for r, other in enumerate(others, 1):
    keys = [
      k for k in sorted(first.keys() | other.keys()) if first.get(k) != other.get(k)
    ]
    if keys:
      lines = [
        f"  {k}: {other.get(k)!r} on rank {r}, {first.get(k)!r} on rank 0"
        for k in keys[:10]
      ]
      raise ValueError(
        f"rank {r} has another {what} ({len(keys)} differ); {_ALIKE}\n"
        + "\n".join(lines)
      )


def on_writer(what: str, make: Callable, expected: type[Exception] = RankError):
  """`make`, called on rank 0 alone: its value, or its `expected` error, everywhere.

  The value is something that JSON can write. Another error ends all ranks.
  """
  if count() == 1:
    return make

  def only(*args):
    got, caught = None, None
    if is_writer():
      try:
        got = [make(*args), None]
      except expected as error:
        got, caught = [None, str(error)], error
    value, failure = exchange(what, got)[0]
    if failure is not None:
      raise caught or expected(failure)
    return value

  return only


def spread(experts: Experts) -> Experts:
  """The pool with `ask` and `save` divided over the processes; as it is in one.

  An expert is asked where its weights are, and written by the first that holds it.
  """
  if count() == 1:
    return experts
  holders = experts.holders or [()] * len(experts.names)

  def save(folder, weights, members):
    mine = [e for e in members if rank() == (holders[e] or (0,))[0]]
    parts = exchange(
      "experts to save", experts.save(folder, weights, mine) if mine else {}
    )
    every = {name: entry for part in parts for name, entry in part.items()}
    return {name: every[name] for e in members if (name := experts.names[e]) in every}

  return experts._replace(ask=spread_ask(experts.ask, holders), save=save)


def spread_ask(ask: AskFn, holders: Sequence[tuple[int, ...]] = ()) -> AskFn:
  """An `ask` that answers its share and hears the rest; replies in order."""
  if count() == 1:
    return ask

  def divided(requests: Sequence[Request]) -> list[Reply]:
    shares = share(requests, count(), holders)
    mine = shares[rank()]
    if link := _link():
      link.dog.phase[1:] = [f"answering {len(mine)} of {len(requests)} requests"]
    said = ask([requests[i] for i in mine]) if mine else []
    name = hashlib.sha256(json.dumps(requests).encode()).hexdigest()[:8]
    replies: dict[int, Reply] = {}
    for indices, part in zip(
      shares, exchange(f"wave {name} of {len(requests)}", said), strict=True
    ):
      for i, reply in zip(indices, part, strict=True):
        replies[i] = Reply(*reply)
    return [replies[i] for i in range(len(requests))]

  return divided


def share(
  requests: Sequence[Request], ranks: int, holders: Sequence[tuple[int, ...]] = ()
) -> list[list[int]]:
  """Indices of the requests for each rank, disjoint and together all.

  Dealt like cards, there and back, each expert's longest prompt first: every rank
  gets as much of every expert that it holds (`Experts.holders`), and prompts of like
  lengths.
  """
  order = sorted(
    range(len(requests)),
    key=lambda i: (requests[i].expert, requests[i].limit, -len(requests[i].prompt), i),
  )
  hands = [[] for _ in range(ranks)]
  dealt = collections.Counter()
  for i in order:
    seats = holders[requests[i].expert] if holders else ()
    seats = seats or tuple(range(ranks))
    lap, seat = divmod(dealt[seats], len(seats))
    hands[seats[seat if lap % 2 == 0 else -1 - seat]].append(i)
    dealt[seats] += 1
  return [sorted(hand) for hand in hands]


def _link() -> _Link | None:
  """The link of this process; None if it is alone."""
  from jax._src import distributed  # the client of the store is not exported

  state = distributed.global_state
  return state.client and _joined(state.client, state.process_id, state.num_processes)


@functools.cache
def _joined(client, rank, count):
  return _Link(client, rank, count)


def _number(given, name):
  return int(os.environ[name]) if given is None and name in os.environ else given


def _wait(link, key, r, what):
  """What rank r posted, as [what, value]."""
  if r != link.rank:
    link.dog.phase[1:] = [f"waiting for rank {r}: {what}"]
  began = time.monotonic()
  while True:
    try:
      return json.loads(
        link.client.blocking_key_value_get_bytes(key, int(_SLICE * 1000))
      )
    except jax.errors.JaxRuntimeError as error:
      if "DEADLINE_EXCEEDED" not in str(error):
        raise RankError(
          f"rank 0 cannot be reached {link.dog.where()}: {error}", LOST
        ) from error
    link.dog.raise_failure()
    waited, most = time.monotonic() - began, link.settings.step
    if most and waited > most:
      raise RankError(
        f"rank {r} did not do its part within {most:g} s"
        f" (processes.step) {link.dog.where(r)}",
        LOST,
      )
