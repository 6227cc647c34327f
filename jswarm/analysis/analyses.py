"""All analyses by name, and how one is written: JSON, a figure, a paragraph.

  what was gathered -> numbers -> NAME.json, NAME.svg (with its caption), NAME.md

What an analysis runs, and so what it is given, stands in `wiring.gather` under the same
name; here is what it makes of that.
"""

from collections.abc import Callable, Mapping
import os
import pathlib
from typing import Any, NamedTuple

from jswarm.analysis import (
  ablation,
  devices,
  diversity,
  dropout,
  emergence,
  experts,
  figures,
  gain,
  histories,
  mixed,
  roles,
  sparsity,
  transfer,
  weak,
)
from jswarm.core import files


class Analysis(NamedTuple):
  """One analysis.

  Attributes:
    question: what it asks. runs: what is run for it. plots: what its figure shows.
    numbers: what was gathered -> numbers, JSON-able by `files.clean`.
    draw: `draw(figure, numbers)`.
    findings: numbers -> a paragraph.
  """

  question: str
  runs: str
  plots: str
  numbers: Callable[[Mapping[str, Any]], dict[str, Any]]
  draw: Callable[[Any, Mapping[str, Any]], None]
  findings: Callable[[Mapping[str, Any]], str]


ANALYSES: dict[str, Analysis] = {
  "gain": Analysis(
    "Does the system answer what few of its experts answer alone?",
    "a search, prediction merge and uniform soup; each expert alone on test",
    "Left: accuracy of the found system by how many experts answer a question alone,"
    " all seeds together, beside that of a random one of them. Right: C-Gain.",
    gain.numbers,
    gain.draw,
    gain.findings,
  ),
  "roles": Analysis(
    "What do nodes do, by their place in the graph and as the search goes on?",
    "searches of fewer and more iterations; outputs of all nodes on test questions",
    "Share of outputs with each label by the node's place (left, found systems) and by"
    " the length of the search (right).",
    roles.numbers,
    roles.draw,
    roles.findings,
  ),
  "ablation": Analysis(
    "Which of the two steps matters, and do other methods say the same?",
    "the search, without role-step, without weight-step; all baselines of either kind",
    "Test score of the search with both steps, without one of them, and the mean of the"
    " methods that move roles or weights alone.",
    ablation.numbers,
    ablation.draw,
    ablation.findings,
  ),
  "diversity": Analysis(
    "Is a pool of different experts better than one of copies?",
    "searches of pools of one size with 1 ... all distinct experts, drawn by the seed",
    "Test score of the found system by the number of distinct experts.",
    diversity.numbers,
    diversity.draw,
    diversity.findings,
  ),
  "experts": Analysis(
    "What is each further expert worth, and what would the same calls buy otherwise?",
    "searches of nested pools of 2 ... all experts; self-consistency at equal calls",
    "Test score of the found system, and of the best single expert asked as often a"
    " question; dotted: node executions of the search.",
    experts.numbers,
    experts.draw,
    experts.findings,
  ),
  "sparsity": Analysis(
    "How many connections, nodes and calls can go, for how much of the score?",
    "searches by particle swarm under thresholds tau and prices lambda_1",
    "Test score against the calls a question that the found system saves.",
    sparsity.numbers,
    sparsity.draw,
    sparsity.findings,
  ),
  "dropout": Analysis(
    "How much of the search can be left out at random?",
    "searches on grids of Dropout-R x -W (whole steps) and -K x -N (scorings)",
    "Mean test score, and the share of node executions an iteration that is saved.",
    dropout.numbers,
    dropout.draw,
    dropout.findings,
  ),
  "weak": Analysis(
    "Do weaker experts together beat the best one?",
    "the search, and searches without its best expert and of its lower half",
    "Test score of systems found in each pool; dashed: the best expert alone.",
    weak.numbers,
    weak.draw,
    weak.findings,
  ),
  "mixed": Analysis(
    "What does a pool lose if half of it is replaced by smaller models?",
    "role-only searches of the pool, of the other one, and of half of each",
    "Test score of the found system and of the best single expert, by pool.",
    mixed.numbers,
    mixed.draw,
    mixed.findings,
  ),
  "transfer": Analysis(
    "Is a system that was searched on one task good at another?",
    "searches on both tasks; the first one's system and experts on the other's test",
    "Scores on the target's test questions, mean and deviation over seeds.",
    transfer.numbers,
    transfer.draw,
    transfer.findings,
  ),
  "emergence": Analysis(
    "Do moved experts know what none of them knew, more than chance would have it?",
    "a search; experts before and after it on test, and moved at random as far",
    "Left: dev questions that the best system of an iteration has right. Right: surge,"
    " emergence and its null models.",
    emergence.numbers,
    emergence.draw,
    emergence.findings,
  ),
  "jfk_noise": Analysis(
    "Do JFK-scores tell experts apart, or is it the draw of assignments?",
    "a search",
    "Deviation of the JFK-scores over experts, and their typical standard error.",
    histories.noise,
    histories.draw_noise,
    histories.tell_noise,
  ),
  "moves": Analysis(
    "Do graphs and weights get better as they move?",
    "a search",
    "Dev utility of graphs, of weights and of the best system so far, by iteration.",
    histories.moves,
    histories.draw_moves,
    histories.tell_moves,
  ),
  "devices": Analysis(
    "How long does an iteration take on more devices?",
    "searches on 1, 2, 5, 10 devices, as far as there are so many",
    "Seconds of an iteration, and of asking the experts in it.",
    devices.numbers,
    devices.draw,
    devices.findings,
  ),
}


def write(
  name: str, gathered: Mapping[str, Any], folder: str | os.PathLike
) -> dict[str, Any]:
  """Analyses what was gathered and writes NAME.json, .svg and .md; the JSON's content.

  Args:
    name: of `ANALYSES`.
    gathered: what the analysis needs; besides "seeds_run", the seeds, "questions", n on
      test, "config", of the search, and "failed", what could not be run, a line each.
    folder: where; it exists.
  """
  analysis, folder = ANALYSES[name], pathlib.Path(folder)
  numbers = files.clean(analysis.numbers(gathered))
  text = analysis.findings(numbers)
  caption = (
    f"{analysis.plots} Seeds: {', '.join(map(str, gathered['seeds_run'])) or 'none'};"
    f" n = {gathered['questions']} test questions."
  )
  told = {
    "analysis": name,
    "question": analysis.question,
    "runs": analysis.runs,
    "seeds": list(gathered["seeds_run"]),
    "questions": gathered["questions"],
    "numbers": numbers,
    "findings": text,
    "caption": caption,
    "failed": list(gathered["failed"]),
    "config": files.clean(gathered["config"]),
  }
  files.write_json(folder / f"{name}.json", told)
  drawn = figures.save(analysis.draw, numbers, caption, folder / f"{name}.svg")
  (folder / f"{name}.md").write_text(_markdown(told, drawn), encoding="utf-8")
  return told


def _markdown(told, drawn):
  parts = [f"# {told['analysis']}", told["question"], told["findings"]]
  if told["failed"]:
    parts.append("Not run:\n\n" + "\n".join(f"- {line}" for line in told["failed"]))
  if drawn:
    parts.append(f"![{told['caption']}]({told['analysis']}.svg)")
    parts.append(told["caption"])
  return "\n\n".join(parts) + "\n"
