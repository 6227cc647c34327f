"""Says what a user is waiting for, also where nobody sees a progress bar."""

from collections.abc import Generator
import contextlib
import pathlib
import threading
import time

from absl import logging

_PATIENCE = 1.0  # seconds in which nobody wonders what is going on
_AGAIN = 30.0  # seconds between two signs of life


@contextlib.contextmanager
def told(what: str, wanted: bool = True) -> Generator[None]:
  """Logs `what` while the body runs, and how long it took.

  Nothing is logged of a body that ends within a second, or where `wanted` is false.
  Lines: "what ...", "what ... 31 s so far", and, unless it raises, "what: 42.0 s".
  """
  began, over, patience = time.monotonic(), threading.Event(), _PATIENCE

  def watch():
    if over.wait(patience):
      return
    logging.info("%s ...", what)
    while not over.wait(_AGAIN):
      logging.info("%s ... %.0f s so far", what, time.monotonic() - began)

  if not wanted:
    yield
    return
  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield
    if time.monotonic() - began > patience:
      logging.info("%s: %.1f s", what, time.monotonic() - began)
  finally:
    over.set()
    thread.join()


def size_on_disk(path: str) -> str:
  """Of the weights in a folder, or of one file: such as "0.5 GiB"."""
  place = pathlib.Path(path)
  kinds = (".safetensors", ".gguf", ".bin")
  files = (
    [f for f in place.iterdir() if f.suffix in kinds] if place.is_dir() else [place]
  )
  size = sum(f.stat().st_size for f in files)
  return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 20 else f"{size / 2**20:.1f} MiB"
