"""What a page says of a run, as plain values: Records -> tables, figures, questions.

Nothing here writes HTML but the figures, which escape what they show themselves.
"""

import collections
from collections.abc import Mapping, Sequence
import itertools
import json
from typing import Any

from jswarm.analysis import roles
from jswarm.report import figures
from jswarm.report.figures import Bar, Series
from jswarm.report.records import Records
from jswarm.report.tables import LABELS
from jswarm.systems import drawing

_Z = 1.96  # of a 95 % interval
_RIGHT = 0.5  # an answer with at least this score is shown as right
_ALIKE = 0.2  # of the longest: replies of lengths that differ by less are shown alike
_LONG = 400  # characters of a field's value that are shown


def scores(records: Records) -> list[dict[str, Any]]:
  """A row a contender of the final test: label, score, low, high, n, error."""
  rows = []
  for name, row in records.results.get("test", {}).items():
    reach = _Z * row["stderr"] if row.get("stderr") is not None else None
    known = row.get("score") is not None and reach is not None
    rows.append(
      {
        "name": name,
        "label": LABELS.get(name, name),
        "score": row.get("score"),
        "low": row["score"] - reach if known else None,
        "high": row["score"] + reach if known else None,
        "n": row.get("n"),
        "missing": row.get("missing", 0),
        "error": row.get("error", ""),
      }
    )
  return sorted(rows, key=lambda row: -(row["score"] or 0))


def graph(records: Records) -> dict[str, Any]:
  """The found system: {"svg", "nodes": [...], "edges": [...]}; {} before there is one.

  What flows over an edge is the reply of the node that it comes from: its mean length
  in tokens over the traced questions, and the first reply as a sample.
  """
  system = records.system
  if not system:
    return {}
  said, does = _said(records.traces), labels(records.traces)
  name = {node["id"]: node["expert"] for node in system["nodes"]}
  heard = {n: [i for i, j in system["edges"] if j == n] for n in name}
  role = {n: _role(n, heard[n], system["end"]) for n in name}
  lengths = [s["tokens"] for s in said.values()]
  least, most = min(lengths, default=0), max(lengths, default=0)
  spread = most - least
  flows, edges = {}, []
  for i, j in system["edges"]:
    s = said.get(i)
    told = f"{name[i]} to {name[j]}"
    if s:
      told += f": {s['tokens']:.1f} tokens a reply"
      alike = spread <= _ALIKE * most  # then no arrow is thicker than another
      weight = 0.0 if alike else (s["tokens"] - least) / spread
      flows[i, j] = drawing.Flow(weight, told)
    edges.append({"from": name[i], "to": name[j], "ids": (i, j), **(s or {})})
  notes = {n: role[n] for n in name}
  nodes = [
    {
      "id": node["id"],
      "expert": node["expert"],
      "wave": node["depth"] + 1,
      "hears": [name[i] for i in heard[node["id"]]],
      "role": role[node["id"]],
      "does": does.get(node["id"], []),
      **said.get(node["id"], {}),
    }
    for node in system["nodes"]
  ]
  return {"svg": drawing.svg(system, notes, flows), "nodes": nodes, "edges": edges}


def labels(traces: Sequence[Mapping[str, Any]]) -> dict[int, list[tuple[str, float]]]:
  """What each node does, by the proxy of `analysis.roles`, which is no judge: the share
  of its replies under each label, the commonest first; {} without traces."""
  counts: dict[int, collections.Counter[str]] = {}
  for trace in traces:
    said = {node["node"]: node["reply"] for node in trace["nodes"]}
    for node in trace["nodes"]:
      heard = [said[other] for other in node["heard"]]
      reads = node.get("answers", True)  # an older version did not tell
      label = roles.proxy(trace["question"], node["reply"], heard, reads)
      counts.setdefault(node["node"], collections.Counter())[label] += 1
  return {
    node: [(label, n / count.total()) for label, n in count.most_common()]
    for node, count in counts.items()
  }


def moves(records: Records) -> dict[str, str]:
  """Charts over the iterations: dev utilities beside luck, and variety of graphs."""
  history = records.history
  if not history:
    return {}
  x = [row["iteration"] for row in history]
  column = lambda name: [row.get(name) for row in history]
  lines = [
    Series("best system", column("best")),
    Series("mean of the graphs", column("role/mean")),
  ]
  systems = itertools.accumulate(row.get("systems", 0) for row in history)
  if records.random:
    lines.append(
      Series(
        "best of as many random graphs", [_luck(records.random, s) for s in systems]
      )
    )
  lines.append(Series("mean of the weight-step", column("weight/mean")))
  shown = [s for s in lines if any(v is not None for v in s.values)]
  band = column("role/min"), column("role/max")
  variety = [
    Series("different graphs", column("role/distinct")),
    Series("iterations without a better system", column("stalled")),
  ]
  return {
    "utilities": figures.lines("Utility on dev", x, shown, "iteration", band),
    "variety": figures.lines("How graphs differ", x, variety, "iteration"),
  }


def experts(records: Records) -> dict[str, Any]:
  """Each expert alone, and its credit with noise: charts and rows."""
  singles = records.results.get("singles_dev") or records.progress.get("singles_dev")
  singles = singles or {}
  names = list(singles)
  credited = [row for row in records.history if row.get("weight/jfk")]
  credit, noise, when = [None] * len(names), None, None
  if credited and names:
    last = credited[-1]
    credit, noise = last["weight/jfk"], last.get("weight/jfk_noise")
    when = last["iteration"]
  over_time = [
    {"iteration": row["iteration"], "credit": row["weight/jfk"]} for row in credited
  ]
  return {
    "names": names,
    "alone": figures.bars(
      "Dev utility of each expert alone", [Bar(n, v) for n, v in singles.items()]
    ),
    "credit": figures.bars(
      "Credit of each expert", [Bar(n, v, noise) for n, v in zip(names, credit)]
    ),
    "noise": noise,
    "iteration": when,
    "over_time": over_time,
  }


def troubles(records: Records) -> list[str]:
  """What went wrong, in sentences."""
  results, found = records.results, []
  if count := results.get("failures"):
    found.append(f"{count} evaluations failed.")
  if count := results.get("rolled_back"):
    found.append(f"{count} times an expert's weights broke and were put back.")
  for name, why in results.get("skipped_experts", {}).items():
    found.append(f"The expert {name} was left out: {why}")
  for change in results.get("accepted_changes", []):
    found.append(f"Accepted change: {json.dumps(change)[:_LONG]}")
  for row in scores(records):
    if row["error"]:
      found.append(f"The test of {row['label']} failed: {row['error']}")
    if row["missing"]:
      found.append(f"{row['label']}: {row['missing']} questions have no score.")
  return found


def settings(records: Records) -> list[tuple[str, str]]:
  """Every field of the configuration with its value, long ones cut."""
  cut = lambda text: text if len(text) <= _LONG else f"{text[:_LONG]} …"
  return [(name, cut(json.dumps(v))) for name, v in sorted(records.config.items())]


def ablations(records: Records) -> dict[str, Any]:
  """Nodes and edges left out, the greatest loss first."""
  found = records.ablations
  if not found:
    return {}
  name = {node["id"]: node["expert"] for node in records.system.get("nodes", [])}
  told = lambda row: (
    f"without {name.get(row['node'], row['node'])} (node {row['node']})"
    if "node" in row
    else f"without {name.get(row['from'], row['from'])} → "
    f"{name.get(row['to'], row['to'])}"
  )
  rows = [
    {**row, "label": told(row)}
    for row in [*found.get("nodes", []), *found.get("edges", [])]
  ]
  rows.sort(key=lambda row: row["change"] if row["change"] is not None else 0)
  return {"full": found.get("full"), "n": found.get("n"), "rows": rows}


def questions(records: Records, most: int) -> tuple[list[dict[str, Any]], int]:
  """(traced questions with scores, how many there are) for `most` bytes of JSON.

  Where not all fit, each kind (gained, lost, right, wrong) has its share.
  """
  system = {row["index"]: row for row in records.test.get("system", [])}
  single = {row["index"]: row for row in records.test.get("best_single", [])}
  rows = [
    _question(trace, system.get(trace["index"]), single.get(trace["index"]))
    for trace in records.traces
  ]
  kinds: dict[tuple[bool, str], list[dict[str, Any]]] = {}
  for row in rows:
    kinds.setdefault((row["right"], row["change"]), []).append(row)
  dealt = itertools.chain.from_iterable(itertools.zip_longest(*kinds.values()))
  chosen = []
  for row in filter(None, dealt):
    most -= len(json.dumps(row))
    if most < 0:
      break
    chosen.append(row)
  return sorted(chosen, key=lambda row: row["index"]), len(rows)


def _question(trace, system, single):
  own, other = _score(system), _score(single)
  change = ""
  if own is not None and other is not None and own != other:
    change = "gained" if own > other else "lost"
  return {
    **trace,
    "reply": system["reply"] if system else trace["nodes"][-1]["reply"],
    "score": own,
    "single": other,
    "single_reply": single["reply"] if single else None,
    "right": own is not None and own >= _RIGHT,
    "change": change,
  }


def _score(row):
  return row.get("score") if row else None


def _said(traces):
  """{node: {"tokens": mean of a reply, "asked": mean of a prompt, "sample"}}."""
  found: dict[int, dict[str, Any]] = {}
  for trace in traces:
    for node in trace["nodes"]:
      mine = found.setdefault(
        node["node"], {"tokens": 0, "asked": 0, "sample": node["reply"]}
      )
      mine["asked"] += node["tokens"][0] / len(traces)
      mine["tokens"] += node["tokens"][1] / len(traces)
  return found


def _role(node, heard, end):
  if node == end:
    return "answers"
  return f"reads {len(heard)}" if heard else "begins"


def _luck(utilities, count):
  known = [u for u in utilities[: int(count)] if u is not None]
  return max(known) if known else None
