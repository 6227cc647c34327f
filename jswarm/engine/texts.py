"""The text side of an expert: what a prompt takes of its context, without any weights.

What a pool answers to `count`, `clip` and `room` before it is loaded and after is the
same, so that prompts can be written, counted and refused in seconds.
"""

from collections.abc import Callable, Sequence

from jswarm.core.types import Experts, Reply, Request
from jswarm.engine.settings import Settings
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.pool import load
from jswarm.pool.specs import Spec


class Text:
  """Prompts of an expert.

  Attributes:
    tokenizer, max_positions: of the expert.
    overhead: tokens of special ones and of the chat template around a prompt, at most.
  """

  def __init__(self, words: load.Text, settings: Settings):
    self.tokenizer, self.max_positions = words.tokenizer, words.max_positions
    self._settings = settings
    # Without a template a prompt in chat is the prompt, and nobody asked for chat here.
    ways = (False, True) if tokenizer_lib.has_template(self.tokenizer) else (False,)
    self.overhead = 1 + max(len(self.encode("", chat)) for chat in ways)

  def encode(self, text: str, chat: bool) -> list[int]:
    return tokenizer_lib.encode(self.tokenizer, [text], chat)[0]

  def count(self, text: str) -> int:
    """Tokens of a text alone."""
    return len(self.encode(text, False))

  def clip(self, text: str, tokens: int) -> str:
    return tokenizer_lib.clip(self.tokenizer, text, tokens)

  def room(self, limit: int) -> int:
    """Tokens that a prompt may have, beside its overhead and `limit` new ones."""
    context = self.max_positions - limit
    wanted = self._settings.max_prompt_tokens or context
    return min(wanted, context) - self.overhead


def of_group(group: load.Group, settings: Settings) -> list[Text]:
  """A `Text` to each expert of a group; those that read alike share one."""
  made: dict[tuple[int, int], Text] = {}
  each = []
  for row in range(len(group.members)):
    words = group.text(row)
    key = id(words.tokenizer), words.max_positions
    if key not in made:
      made[key] = Text(words, settings)
    each.append(made[key])
  return each


def unloaded(
  specs: Sequence[Spec],
  checked: load.Checked,
  settings: Settings,
  ask: Callable[[Sequence[Request], list[Text]], list[Reply]] | None = None,
) -> Experts:
  """A checked pool that counts, clips and has room like the loaded one.

  Args:
    specs, checked: of the pool, all of whose bases were found right.
    settings: how it would be served.
    ask: answers (requests, the `Text` of each expert); None: nobody does.
  """
  words = lambda base: load.Text(base.tokenizer, base.stops, base.config.max_positions)
  by_base = {id(base): Text(words(base), settings) for base in checked.bases.values()}
  texts = [by_base[id(checked.bases[spec.source])] for spec in specs]

  def answer(requests: Sequence[Request]) -> list[Reply]:
    if ask is None:
      raise RuntimeError("this pool is not loaded: it counts words, it has none.")
    return ask(requests, texts)

  return Experts(
    names=tuple(spec.name for spec in specs),
    groups=(),
    weights=(),
    install=lambda weights: None,
    ask=answer,
    count=lambda e, text: texts[e].count(text),
    clip=lambda e, text, n: texts[e].clip(text, n),
    room=lambda e, limit: texts[e].room(limit),
    save=lambda folder, weights, members: {},
  )
