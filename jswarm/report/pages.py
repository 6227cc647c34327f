"""The report of a run: run directory -> report.html, as one file that travels.

records.read -> sections -> html.page
"""

import os
import pathlib
from typing import Any

from absl import logging
from markupsafe import Markup

from jswarm.report import html, records, sections, spending

FILE = "report.html"
MOST_BYTES = 2_000_000  # of traced questions in a page


def render(folder: str | os.PathLike, live: bool = False) -> str:
  """The page of a run, finished or under way.

  `live`: it is served, and looks for newer ones.

  Raises:
    ValueError: the folder holds no run.
  """
  found = records.read(pathlib.Path(folder))
  shown, traced = sections.questions(found, MOST_BYTES)
  return html.page(_values(found, len(shown), traced), {"questions": shown}, live)


def write(folder: str | os.PathLike) -> pathlib.Path:
  """Writes report.html into the folder of a run, as a whole; its path.

  Raises:
    ValueError: the folder holds no run. OSError: it cannot be written.
  """
  path = pathlib.Path(folder) / FILE
  partial = path.with_name(f"{FILE}.part")
  partial.write_bytes(render(folder).encode("utf-8", "replace"))
  os.replace(partial, path)
  return path


def try_write(folder: str | os.PathLike) -> pathlib.Path | None:
  """`write`, of which no failure is worth a search: a warning, and None."""
  try:
    return write(folder)
  except Exception as error:  # a page is no reason to fail
    logging.warning(
      "%s could not be written, the results stand: %s: %s. `python -m"
      " experiments.report --workdir=%s` tries again.",
      pathlib.Path(folder) / FILE,
      type(error).__name__,
      error,
      folder,
    )
    return None


def _values(found: records.Records, shown: int, traced: int) -> dict[str, Any]:
  """What the template is given."""
  results, saved = found.results, found.saved
  task = results.get("task", {}).get("name") or found.progress.get("task", "")
  drawn, who = sections.graph(found), sections.experts(found)
  moves = {k: Markup(v) for k, v in sections.moves(found).items()}
  bases = {
    e.get("base") or e.get("path", "") for e in saved.get("experts", {}).values()
  }
  return {
    "title": task or found.folder.resolve().name,
    "folder": found.folder.resolve().name,
    "results": results,
    "done": bool(results),
    "progress": found.progress,
    "timing": results.get("timing", {}),
    "paired": results.get("system_vs_best_single"),
    "dev": results.get("dev", {}),
    "scores": sections.scores(found),
    "graph": {**drawn, "svg": Markup(drawn["svg"])} if drawn else {},
    "moves": moves,
    "experts": {
      **who,
      "alone": Markup(who["alone"]),
      "credit": Markup(who["credit"]),
    },
    "ablations": sections.ablations(found),
    "shown": shown,
    "traced": traced,
    "cost": spending.cost(found),
    "troubles": sections.troubles(found),
    "budget": spending.budget(found),
    "settings": sections.settings(found),
    "manifest": found.manifest,
    "saved": saved,
    "bases": sorted(filter(None, bases)),
  }
