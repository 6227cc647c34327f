"""A judge behind a URL that speaks OpenAI's chat completions: prompts -> verdicts.

  ask -> kept verdicts -> post -> Reply
                            -> 429, 5xx, a time-out, nonsense: again, but not for ever
                            -> Unheard: missing, not kept, asked again by another `ask`

A verdict that came is on disk at once: a search that goes on asks only for the others.
"""

from collections.abc import Callable, Sequence
import concurrent.futures
import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import time
from typing import Any
import urllib.error
import urllib.request

from absl import logging

from jswarm.core.types import Reply, Request
from jswarm.systems.evaluate import Unheard
from jswarm.tasks import again

KEY = "JSWARM_JUDGE_KEY"  # of the environment; a key has no place in a configuration
TRIES = again.TRIES
_READ = 60.0  # seconds without a byte
_SIZE = 1 << 22  # bytes of an answer, at most
_AT_ONCE = 8  # posts
_WRONG = (401, 403, 404, 405)  # no request will


def is_address(name: str) -> bool:
  """Does a judge of this name answer behind a URL?"""
  return name.startswith(("http://", "https://"))


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where the judge is.

  Attributes:
    url: up to what /chat/completions is appended to, such as https://host/v1.
    model: its name there.
    seconds: most that one verdict may take, waits and repetitions included.
    key: sent as a bearer token, if there is one.
  """

  url: str
  model: str
  seconds: float = 120.0
  key: str = dataclasses.field(default="", repr=False)

  def __post_init__(self):
    if not self.model:
      raise ValueError(
        f"task.judge={self.url!r} is a server: name its model in task.judge_model."
      )
    if not self.seconds > 0:
      raise ValueError(
        f"task.judge_seconds={self.seconds!r}: allowed is more than 0 seconds."
      )


class _Failed(Exception):
  """One try; `after`: seconds that the server asked to wait, or None."""

  def __init__(self, why: str, after: float | None = None, again: bool = True):
    super().__init__(why)
    self.after, self.again = after, again


class HttpJudge:
  """Asks an endpoint; `store` is a file of verdicts, or None.

  Raises:
    ValueError: by `ask`: the server refuses whatever is asked (no access, no such
      model or path).
  """

  def __init__(
    self,
    endpoint: Endpoint,
    store: str | os.PathLike | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._endpoint, self._clock = endpoint, clock
    self._patience = again.Patience(endpoint.seconds, sleep, clock)
    self._store = pathlib.Path(store) if store else None
    self._kept: dict[str, Reply] | None = None  # read when something is asked

  def ask(self, requests: Sequence[Request]) -> list[Reply | Unheard]:
    """Verdicts in order; `Unheard` where none could be had within the time."""
    kept = self._verdicts()
    todo = {_key(self._endpoint, r): r for r in requests}
    todo = {key: r for key, r in todo.items() if key not in kept}
    lacking: dict[str, Unheard] = {}
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as threads:
      posts = {threads.submit(self._one, r): key for key, r in todo.items()}
      try:
        for post in concurrent.futures.as_completed(posts):
          said = post.result()
          if isinstance(said, Unheard):
            lacking[posts[post]] = said
          else:
            kept[posts[post]] = said
            self._write(posts[post], said)
      except BaseException:  # do not wait for what has not begun
        threads.shutdown(wait=False, cancel_futures=True)
        raise
    if lacking:
      logging.warning(
        "%d of %d verdicts could not be had and are missing, the first: %s",
        len(lacking),
        len(todo),
        next(iter(lacking.values())).why,
      )
    found = {**kept, **lacking}
    return [found[_key(self._endpoint, r)] for r in requests]

  def _one(self, request):
    """The verdict on one request, or why there is none."""
    deadline, why = self._patience.deadline(), ""
    for attempt in range(TRIES):
      try:
        return self._post(request, deadline)
      except _Failed as failed:
        why = f"{failed} (try {attempt + 1})"
        if not failed.again or not self._patience.waits(
          attempt, failed.after, deadline
        ):
          break
    return Unheard(f"{self._endpoint.url}: {why}")

  def _post(self, request, deadline):
    """One try."""
    headers = {"Content-Type": "application/json"}
    if self._endpoint.key:
      headers["Authorization"] = f"Bearer {self._endpoint.key}"
    body = {
      "model": self._endpoint.model,
      "messages": [{"role": "user", "content": request.prompt}],
      "max_tokens": request.limit,
      "temperature": 0,
    }
    post = urllib.request.Request(
      f"{self._endpoint.url.rstrip('/')}/chat/completions",
      # Escaped, so that also what UTF-8 cannot write, a lone surrogate, is sent.
      json.dumps(body).encode("ascii"),
      headers,
    )
    left = max(0.1, min(_READ, deadline - self._clock()))
    try:
      with urllib.request.urlopen(post, timeout=left) as answer:
        raw = self._read(answer, deadline)
    except urllib.error.HTTPError as error:
      raise self._refusal(error) from error
    except (OSError, http.client.HTTPException) as error:  # also a time-out
      raise _Failed(f"{type(error).__name__}: {error}") from error
    return _reply(raw)

  def _read(self, answer, deadline):
    """The body; who sends a byte now and then has no more time than others."""
    parts, size = [], 0
    while part := answer.read1(1 << 16):
      parts.append(part)
      size += len(part)
      if size > _SIZE or self._clock() > deadline:
        raise _Failed(f"an answer of more than {size} bytes, or that never ends")
    return b"".join(parts)

  def _refusal(self, error):
    with error:
      try:
        said = error.read(300).decode("utf-8", "replace")
      except (OSError, http.client.HTTPException):
        said = ""
    told = f"HTTP {error.code}: {' '.join(said.split())[:200]}"
    if error.code in _WRONG:
      return ValueError(
        f"task.judge={self._endpoint.url!r} refuses every question ({told}): check the"
        f" address, task.judge_model={self._endpoint.model!r} and the key in {KEY}."
      )
    after = again.retry_after(error.headers.get("Retry-After"))
    return _Failed(told, after, again.is_later(error.code))

  def _verdicts(self):
    if self._kept is None:
      self._kept = {}
      if self._store and self._store.is_file():
        for line in self._store.read_bytes().splitlines():
          try:
            key, reply = json.loads(line)
            self._kept[key] = Reply(*reply)
          except (ValueError, TypeError):
            continue  # a line that a kill cut off: it is asked again
    return self._kept

  def _write(self, key, reply):
    if self._store:
      self._store.parent.mkdir(parents=True, exist_ok=True)
      with open(self._store, "ab") as file:
        # A newline first, too: the line before may have been cut off.
        file.write(b"\n" + json.dumps([key, list(reply)]).encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _reply(raw: bytes) -> Reply:
  """What the body says; `_Failed` where it is not what the protocol promises."""
  try:
    answer: Any = json.loads(raw)
    text = answer["choices"][0]["message"]["content"]
  except (ValueError, LookupError, TypeError) as error:
    shown = raw[:100].decode("utf-8", "replace")
    raise _Failed(f"no chat completion but {shown!r}") from error
  if not isinstance(text, str) or not text:
    raise _Failed(f"a completion without a text: {text!r}")
  usage = answer.get("usage")
  return Reply(text, *(_count(usage, of) for of in ("prompt", "completion")))


def _count(usage: Any, of: str) -> int:
  """Tokens, which a server may say or not; 0 where it does not."""
  found = usage.get(f"{of}_tokens") if isinstance(usage, dict) else 0
  return found if isinstance(found, int) else 0


def _key(endpoint, request):
  text = f"{endpoint.url}|{endpoint.model}|{request.limit}|{request.prompt}"
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
