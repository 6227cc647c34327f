"""Steps, or scorings, left out at random: what is saved, and what it costs.

Dropout-R and Dropout-W leave out the whole role-step, or weight-step, of an iteration;
Dropout-K scores nothing in an iteration, Dropout-N not every particle.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jswarm.analysis import series

RATES = (0.0, 0.2, 0.5, 0.8)
KINDS = {"RW": ("d_R", "d_W"), "KN": ("d_K", "d_N")}


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Test scores and saved calls over the grids of `KINDS`.

  Args:
    gathered: "rows", each with "kind" of `KINDS`, "a" and "b" (its two rates), "seed",
      "test", "calls" and "iterations".

  Returns:
    for each kind "rates", "test" [a][b] and "saved" [a][b], the share of node
    executions an iteration that are saved against no dropout; None where unknown.
  """
  found = {}
  for (kind,), rows in series.by(series.scored(gathered["rows"]), "kind").items():
    rates = sorted({r["a"] for r in rows} | {r["b"] for r in rows})
    cells = series.by(rows, "a", "b")
    test, cost = _grid(cells, rates, _test), _grid(cells, rates, _cost)
    plain = cost[0][0] if rates and rates[0] == 0 else None
    saved = [
      [None if c is None or not plain else 1 - c / plain for c in r] for r in cost
    ]
    found[kind] = {"rates": rates, "test": test, "saved": saved}
  return found


def expected_saving(a: float, b: float) -> float:
  """Of scorings under Dropout-K and -N: 1 - (1 - d_K)(1 - d_N)."""
  return 1 - (1 - a) * (1 - b)


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Heat maps of test score and of calls saved, one row a kind."""
  if not numbers:
    return
  axes = figure.subplots(len(numbers), 2, squeeze=False)
  for row, (kind, found) in zip(axes, numbers.items()):
    for place, what in zip(row, ("test", "saved")):
      values = np.array(found[what], float)
      image = place.imshow(values, origin="lower", cmap="YlGn")
      for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
          place.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize="small")
      ticks = range(len(found["rates"]))
      place.set_xticks(ticks, found["rates"])
      place.set_yticks(ticks, found["rates"])
      place.set_ylabel(KINDS[kind][0])
      place.set_xlabel(KINDS[kind][1])
      place.set_title("test score" if what == "test" else "calls saved, share")
      figure.colorbar(image, ax=place)


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  parts = []
  for kind, found in numbers.items():
    first, second = KINDS[kind]
    test, saved = (np.array(found[w], float) for w in ("test", "saved"))
    if not len(test) or not np.isfinite(test).any():
      continue
    rate = found["rates"][-1]
    parts.append(
      f"Dropout-{kind[0]} and -{kind[1]}: test {_told(test[0, 0])} without,"
      f" {_told(test[-1, 0])} at {first} = {rate:g} ({_saved(saved[-1, 0])} of the"
      f" calls of an iteration saved), {_told(test[0, -1])} at {second} = {rate:g}"
      f" ({_saved(saved[0, -1])}), {_told(test[-1, -1])} at both"
      f" ({_saved(saved[-1, -1])}); the least of the grid is {np.nanmin(test):.3f}."
    )
  return " ".join(parts) or "No search has a test score, so nothing is said of dropout."


def _test(rows):
  return series.spread([r["test"] for r in rows])["mean"]


def _cost(rows):
  """Node executions of an iteration."""
  per = [r["calls"] / (r["iterations"] + 1) for r in rows if r.get("calls") is not None]
  return series.spread(per)["mean"]


def _grid(cells, rates, value):
  return [
    [value(cells[a, b]) if (a, b) in cells else None for b in rates] for a in rates
  ]


def _told(value):
  return "unknown" if np.isnan(value) else f"{value:.3f}"


def _saved(value):
  return "unknown" if np.isnan(value) else f"{100 * value:.0f} %"
