"""One figure of an analysis: drawn by it, captioned and saved here."""

from collections.abc import Callable, Mapping
import os
import textwrap
from typing import Any

from absl import logging

WIDTH, HEIGHT = 9.0, 5.0  # inches, without the caption
_COLUMNS = 118  # characters of a line of the caption
_LINE = 0.19  # inches that one takes


def save(
  draw: Callable[[Any, Mapping[str, Any]], None],
  numbers: Mapping[str, Any],
  caption: str,
  path: str | os.PathLike,
) -> bool:
  """Draws and writes a figure; was it? Without matplotlib it says so and writes none.

  Args:
    draw: `draw(figure, numbers)`, onto a figure of matplotlib or a part of one.
    caption: what is plotted, of how many seeds and questions.
    path: where; its ending chooses the format.
  """
  try:
    from matplotlib.figure import Figure
  except ImportError:
    logging.warning("no figure: pip install jswarm[figures] for one (matplotlib).")
    return False
  lines = textwrap.wrap(caption, _COLUMNS)
  foot = _LINE * (len(lines) + 1)
  whole = Figure(figsize=(WIDTH, HEIGHT + foot), layout="constrained")
  parts: Any = whole.subfigures(2, 1, height_ratios=[HEIGHT, foot])
  body, below = parts
  draw(body, numbers)
  below.text(0.01, 0.5, "\n".join(lines), fontsize="small", va="center")
  whole.savefig(os.fspath(path))
  return True
