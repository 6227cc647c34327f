"""Seconds an iteration against the number of devices."""

from collections.abc import Mapping
from typing import Any

from jswarm.analysis import series
from jswarm.analysis.diversity import line

COUNTS = (1, 2, 5, 10)


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Seconds by devices, and how many times faster that is than one.

  Args:
    gathered: "rows", each with "devices", "seed", "test", "iterations", "seconds" (of
      the run) and "seconds_asking"; "there", how many devices there are; "simulated".
  """
  rows = [
    {
      **row,
      "an_iteration": row["seconds"] / (row["iterations"] + 1),
      "asking": row["seconds_asking"] / (row["iterations"] + 1),
    }
    for row in series.scored(gathered["rows"])
  ]
  levels = series.levels(rows, "devices", ("an_iteration", "asking", "test"))
  one = next((v for v in levels if v["devices"] == 1), None)
  for level in levels:
    level["speedup"] = None
    if one:
      level["speedup"] = one["an_iteration"]["mean"] / level["an_iteration"]["mean"]
  return {
    "levels": levels,
    "there": gathered["there"],
    "simulated": gathered["simulated"],
    # Devices change when what is computed, not what.
    "same_scores": len({(r["seed"], r["test"]) for r in rows})
    == len({r["seed"] for r in rows}),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Seconds an iteration by devices."""
  axes = figure.subplots()
  line(axes, numbers["levels"], "devices", "an_iteration", "whole iteration")
  line(axes, numbers["levels"], "devices", "asking", "experts asked")
  axes.set_xlabel("devices" + (" (simulated on one CPU)" * numbers["simulated"]))
  axes.set_ylabel("seconds an iteration, mean and deviation over seeds")
  axes.set_ylim(bottom=0)
  axes.legend(fontsize="small")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["levels"]:
    return "No search was timed, so nothing is said of devices."
  told = "; ".join(
    f"{v['devices']}: {series.told(v['an_iteration'], 2)} s"
    f" ({series.figure(v['speedup'], 2)} times as fast as one)"
    for v in numbers["levels"]
  )
  text = f"Seconds an iteration by devices: {told}."
  if numbers["simulated"]:
    text += (
      " The devices are simulated on the cores of one CPU: this shows that work is"
      " divided and scores stay, not that it gets faster."
    )
  if not numbers["same_scores"]:
    text += " Test scores of one seed differ between numbers of devices."
  return text
