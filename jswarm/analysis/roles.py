"""What nodes do: divide, refine, feedback or nothing; by place and over iterations.

  problem, output -> label (a judge's, or a proxy) -> label x position -> chi-square

A judge reads the problem and the output alone, as in the paper. A proxy is no judge: it
also looks at what the node heard, and is reported as a proxy.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

import numpy as np
from scipy import stats

from jswarm.analysis import series

LABELS = ("divide", "refine", "feedback", "irrelevant")
POSITIONS = ("source", "branch", "link", "hub", "end")
PROMPT = (
  "A problem was given to several models that work together, and one of them wrote the"
  " output below. What does the output do? Answer with one word.\n"
  "divide: it splits the problem, or solves a part of it.\n"
  "refine: it works out, rewrites or improves an answer.\n"
  "feedback: it comments on an answer or checks one.\n"
  "irrelevant: it is empty, off the topic, or repeats the problem.\n\n"
  "Problem: {problem}\n\nOutput: {output}\n\nOne word:"
)
NEAR = 0.5  # overlap of words from which an output is taken for another one's, revised
_COMMENT = re.compile(
  r"\b(in)?correct|\bwrong|\bmistake|\berror|\bagree|\bright\b|\bcheck", re.I
)


def prompt(problem: str, output: str) -> str:
  """What a judge is asked."""
  return PROMPT.format(problem=problem, output=output)


def parse(verdict: str) -> str | None:
  """The label that a verdict names first; None: none."""
  found = re.search("|".join(LABELS), verdict.lower())
  return found.group() if found else None


def proxy(problem: str, output: str, heard: Sequence[str], answers: bool) -> str:
  """A label without a judge.

  irrelevant: empty, or the problem over again; feedback: no answer can be read, and
  words of right and wrong are there; irrelevant: no answer otherwise; refine: much of
  it stands in a reply that the node heard; divide: an answer of its own.

  Args:
    heard: the replies that the node was given.
    answers: can an answer be read from the output?
  """
  if not output.strip() or overlap(problem, output) > 0.9:
    return "irrelevant"
  if not answers:
    return "feedback" if heard and _COMMENT.search(output) else "irrelevant"
  if any(overlap(reply, output) >= NEAR for reply in heard):
    return "refine"
  return "divide"


def overlap(a: str, b: str) -> float:
  """Words of both among the words of either (Jaccard), 0 where there are none."""
  mine, others = set(a.lower().split()), set(b.lower().split())
  return len(mine & others) / max(1, len(mine | others))


def positions(edges: np.ndarray, depth: np.ndarray, end: int) -> list[str]:
  """For each node its place in the graph, "" where it is never run.

  Args:
    edges: bool [N, N], [i, j]: j hears i.
    depth: int [N], -1: not run. end: who answers.

  Returns:
    of `POSITIONS`: the end; a hub hears two or more; a source hears nobody; a branch
    speaks to two or more, or runs beside others; a link does none of these.
  """
  runs = depth >= 0
  live = edges & runs[:, None] & runs[None, :]
  hears, speaks = live.sum(axis=0), live.sum(axis=1)
  places = []
  for node in range(len(edges)):
    beside = int((depth == depth[node]).sum()) > 1
    if not runs[node]:
      places.append("")
    elif node == end:
      places.append("end")
    elif hears[node] >= 2:
      places.append("hub")
    elif hears[node] == 0:
      places.append("source")
    else:
      places.append("branch" if speaks[node] >= 2 or beside else "link")
  return places


def table(labels: Sequence[str], places: Sequence[str]) -> np.ndarray:
  """int [labels, positions]: how often; in the order of `LABELS` and `POSITIONS`."""
  counts = np.zeros((len(LABELS), len(POSITIONS)), int)
  for label, place in zip(labels, places, strict=True):
    counts[LABELS.index(label), POSITIONS.index(place)] += 1
  return counts


def chi_square(counts: np.ndarray) -> dict[str, Any] | None:
  """{chi2, p, dof} of "the label does not depend on the place"; None where fewer than
  two labels or two places occur."""
  counts = np.asarray(counts)
  counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
  if min(counts.shape) < 2:
    return None
  found: Any = stats.chi2_contingency(counts)
  return {
    "chi2": float(found.statistic),
    "p": float(found.pvalue),
    "dof": int(found.dof),
  }


def numbers(gathered: Mapping[str, Any]) -> dict[str, Any]:
  """Labels by position of the last graphs, by task-wide share, and over iterations.

  Args:
    gathered: "judge", who labelled ("proxy": nobody), and "stages", each with
      "iteration", "seed", "unread" verdicts and "outputs", each with "label" (None:
      unread), "place" and "depth" (0 for the first wave, 1 for the last).
  """
  by_iteration = series.by(gathered["stages"], "iteration")
  last = max(by_iteration, default=None)
  known = _labelled(by_iteration[last]) if last else []
  counts = table([o["label"] for o in known], [o["place"] for o in known])
  thirds = [min(2, int(3 * o["depth"])) for o in known]
  shares = [
    {
      "iteration": iteration,
      "shares": _shares([o["label"] for o in _labelled(stages)]),
    }
    for (iteration,), stages in sorted(by_iteration.items())
  ]
  irrelevant = [s["shares"]["irrelevant"] for s in shares]
  return {
    "judge": gathered["judge"],
    "outputs": len(known),
    "unread": sum(stage["unread"] for stage in gathered["stages"]),
    "counts": {p: counts[:, i].tolist() for i, p in enumerate(POSITIONS)},
    "labels": list(LABELS),
    "chi_square": chi_square(counts),
    "by_depth": [
      _shares([o["label"] for o, t in zip(known, thirds) if t == third])
      for third in range(3)
    ],
    "over_iterations": shares,
    "irrelevant_with_iteration": series.spearman(
      [s["iteration"] for s in shares], irrelevant
    ),
  }


def draw(figure: Any, numbers: Mapping[str, Any]) -> None:
  """Stacked shares of labels by position, and over iterations."""
  left, right = figure.subplots(1, 2, sharey=True)
  used = [p for p in POSITIONS if sum(numbers["counts"][p])]
  counts = np.array([numbers["counts"][p] for p in used], float).reshape(-1, 4)
  _stack(left, used, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
  left.set_xlabel("place of the node in the graph")
  left.set_ylabel("share of outputs")
  stages = numbers["over_iterations"]
  names = [str(s["iteration"]) for s in stages]
  shares = [[s["shares"][label] or 0 for label in LABELS] for s in stages]
  _stack(right, names, np.array(shares, float).reshape(-1, 4))
  right.set_xlabel("iterations of the search")
  right.legend(fontsize="small")


def findings(numbers: Mapping[str, Any]) -> str:
  """The numbers as a paragraph."""
  if not numbers["outputs"]:
    return "No output of a node was labelled, so there is nothing to say of roles."
  total = np.sum([numbers["counts"][p] for p in POSITIONS], axis=0)
  shares = ", ".join(
    f"{label} {series.percent(n / total.sum())}" for label, n in zip(LABELS, total)
  )
  who = f"the judge {numbers['judge']}"
  if numbers["judge"] == "proxy":
    who = "a proxy, which is no judge,"
  text = f"Of {numbers['outputs']} outputs of the found systems, {who} says: {shares}."
  test = numbers["chi_square"]
  if test:
    text += (
      f" Label and place depend on each other with chi-square {test['chi2']:.1f},"
      f" {test['dof']} degrees of freedom, p = {test['p']:.3g} (outputs of one system"
      " are not independent, so p is too small)."
    )
  else:
    text += " Fewer than two labels or places occur, so there is no chi-square."
  stages = numbers["over_iterations"]
  if len(stages) > 1:
    first, last = stages[0], stages[-1]
    text += (
      f" Irrelevant are {series.percent(first['shares']['irrelevant'])} after iteration"
      f" {first['iteration']} and {series.percent(last['shares']['irrelevant'])} after"
      f" iteration {last['iteration']}."
    )
  if numbers["unread"]:
    text += f" {numbers['unread']} verdicts named no label and are left out."
  return text


def _labelled(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  outputs = [output for stage in stages for output in stage["outputs"]]
  return [output for output in outputs if output["label"]]


def _shares(labels: Sequence[str]) -> dict[str, float | None]:
  n = len(labels)
  return {label: labels.count(label) / n if n else None for label in LABELS}


def _stack(axes, names, shares):
  below = np.zeros(len(names))
  for label, share in zip(LABELS, shares.T):
    axes.bar(names, share, bottom=below, label=label)
    below = below + share
