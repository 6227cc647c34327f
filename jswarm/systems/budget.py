"""What a search has spent, and where it has to stop."""


class Budget(Exception):
  """A limit of calls, tokens or seconds is reached; `.reason` says which."""

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


class Meter:
  """What a search has spent, and its limits (0: none).

  Attributes:
    calls: node executions asked for; made: those that reached a model;
    prompt_tokens, new_tokens: of the calls that were made; seconds: asking.
  """

  FIELDS = ("calls", "made", "prompt_tokens", "new_tokens")

  def __init__(self, calls: int = 0, tokens: int = 0, seconds: float = 0.0):
    self.limits = {"calls": calls, "tokens": tokens, "seconds": seconds}
    self.spent = dict.fromkeys(self.FIELDS, 0)
    self.seconds = 0.0
    self.armed = True  # the final test is never cut short

  def check(self) -> None:
    """Raises `Budget` when a limit is reached."""
    spent = {
      "calls": self.spent["made"],
      "tokens": self.spent["prompt_tokens"] + self.spent["new_tokens"],
      "seconds": self.seconds,
    }
    for name, limit in self.limits.items():
      if self.armed and limit and spent[name] >= limit:
        raise Budget(f"budget:{name}")
