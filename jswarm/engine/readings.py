"""What is read off a pool without replies: likelihoods of texts, and hidden states.

Text and weights are here; the arrays are `model.scoring`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jswarm.core.types import Candidates, Request
from jswarm.engine import rectangles
from jswarm.engine.packing import size_of
from jswarm.engine.rectangles import Batch, Row, Source
from jswarm.model import scoring

_LEAST = 8  # tokens of a completion that a program is made for


def score(
  sources: Sequence[Source], candidates: Sequence[Candidates]
) -> list[list[np.ndarray]]:
  """Log-likelihoods of completions, token by token: `Experts.score`.

  Where prompt and completion meet, tokens are those of lm-evaluation-harness: spaces at
  the end of a plain prompt go to the completion (" A" is a token, "A" often another);
  then prompt + completion is encoded as one text, and its tokens after as many as the
  prompt alone has are the completion's, fed after those of the prompt alone. In a chat
  template the prompt ends with the template's own spaces, which stay.

  Args:
    sources: the pool. candidates: any number, of any experts; all completions go
      through few batches, those of one prompt side by side.

  Returns:
    For each request and completion float32 [tokens of the completion]; [0] for a
    completion without tokens.

  Raises:
    ValueError: prompt and completion exceed the context; nothing is cut.
  """
  found = [[np.zeros(0, np.float32)] * len(c.completions) for c in candidates]
  for source, mine in rectangles.by_source(sources, candidates):
    places, rows = _rows(source, candidates, mine)
    for (i, c), row, out in zip(places, rows, rectangles.run(source, rows, _log_probs)):
      found[i][c] = out[: len(row.tokens) - row.begin]
  return found


def _rows(source, candidates, mine):
  """[(request, completion)] and their `Row`s, the longest prompts first."""
  places, asked, replies = [], [], []
  for i in mine:
    request, spaces = _without_spaces(candidates[i])
    for c, completion in enumerate(request.completions):
      places.append((i, c))
      asked.append(request)
      replies.append(spaces + completion)
  prompts = rectangles.encode(source, asked)
  wholes = rectangles.encode(source, asked, replies)
  kept = []
  for place, request, reply, prompt, whole in zip(
    places, asked, replies, prompts, wholes
  ):
    before = rectangles.begun(source, request.expert, prompt)
    tokens = [*before, *whole[len(prompt) :]]
    rectangles.check(source, request.expert, tokens, 0, request.prompt + reply)
    if len(tokens) > len(before):
      kept.append((place, Row(source.row(request.expert), tokens, len(before))))
  longest = {}
  for (i, _), row in kept:
    longest[i] = max(longest.get(i, 0), len(row.tokens))
  kept.sort(key=lambda entry: (-longest[entry[0][0]], entry[0]))
  return [place for place, _ in kept], [row for _, row in kept]


def _without_spaces(request):
  """The request without the spaces that end a plain prompt, and these."""
  prompt = request.prompt if request.chat else request.prompt.rstrip()
  return request._replace(prompt=prompt), request.prompt[len(prompt) :]


def _log_probs(batch: Batch, rows: list[Row]) -> jax.Array:
  begins = np.ones(len(batch.lengths), np.int32)
  begins[: len(rows)] = [row.begin for row in rows]
  most = size_of(max(len(row.tokens) - row.begin for row in rows), _LEAST)
  return batch.call(scoring.log_probs, jnp.asarray(begins), most=most)


def hidden(sources: Sequence[Source], requests: Sequence[Request]) -> np.ndarray:
  """Mean last hidden state of each prompt, float32 [R, D]: `Experts.hidden`.

  Raises:
    ValueError: a prompt exceeds the context, or experts have states of unlike sizes.
  """
  widths = {
    source.group.specs[0].name: source.group.config.width
    for source, _ in rectangles.by_source(sources, requests)
  }
  if len(set(widths.values())) > 1:
    raise ValueError(
      f"hidden states of these experts have unlike sizes, {widths} (the first of each"
      " base): ask for each base apart."
    )
  found = np.zeros((len(requests), max(widths.values(), default=0)), np.float32)
  for source, mine in rectangles.by_source(sources, requests):
    encoded = rectangles.encode(source, [requests[i] for i in mine])
    prompts = [
      rectangles.begun(source, requests[i].expert, t) for i, t in zip(mine, encoded)
    ]
    for i, tokens in zip(mine, prompts):
      rectangles.check(source, requests[i].expert, tokens, 0, requests[i].prompt)
    pairs = sorted(zip(mine, prompts), key=lambda pair: (-len(pair[1]), pair[0]))
    rows = [Row(source.row(requests[i].expert), tokens) for i, tokens in pairs]
    found[[i for i, _ in pairs]] = rectangles.run(source, rows, _mean_states)
  return found


def _mean_states(batch: Batch, rows: list[Row]) -> jax.Array:
  return batch.call(scoring.mean_states)
