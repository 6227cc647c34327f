"""A system as a picture: described system -> SVG, Graphviz, Mermaid. Pure functions.

A described system is what `artifact.describe` gives. The SVG has a column a wave: nodes
that are asked at the same time stand below each other, what is said flows to the right.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

_WIDE, _HIGH = 132, 46  # of a node
_GAP_X, _GAP_Y = 74, 26  # between columns, between rows
_MARGIN, _HEAD = 16, 26
_LANE = 8  # height of an edge's place among nodes
_SWEEPS = 4
_LETTERS = 15  # of a name that fit a node
# Drawn alone, a picture is dark where its reader's page is.
_STYLE = """
.dag text{font:13px system-ui,sans-serif;fill:var(--ink,#1b1f24)}
.dag .small{font-size:11px;fill:var(--quiet,#57606a)}
.dag .node rect{fill:var(--card,#fff);stroke:var(--line,#6e7781);stroke-width:1.5}
.dag .end rect{stroke:var(--accent,#0550ae);stroke-width:3}
.dag .edge{fill:none;stroke:var(--line,#6e7781)}
.dag .tip{fill:var(--line,#6e7781)}
@media (prefers-color-scheme:dark){
.dag text{fill:var(--ink,#e6edf3)}
.dag .small{fill:var(--quiet,#9da7b1)}
.dag .node rect{fill:var(--card,#161b22);stroke:var(--line,#8b949e)}
.dag .end rect{stroke:var(--accent,#79c0ff)}
.dag .edge{stroke:var(--line,#8b949e)}
.dag .tip{fill:var(--line,#8b949e)}}
""".strip()


class Flow(NamedTuple):
  """What goes over an edge: its thickness from 0 to 1, and the words of its tooltip."""

  weight: float
  told: str


def svg(
  described: Mapping[str, Any],
  notes: Mapping[int, str] | None = None,
  flows: Mapping[tuple[int, int], Flow] | None = None,
) -> str:
  """The DAG by waves, as one <svg> element that needs nothing else.

  Args:
    described: nodes, edges, end. notes: a second line of a node.
    flows: of edges (from, to).
  """
  notes, flows = notes or {}, flows or {}
  columns, chains = _layout(described)
  places = _places(columns)
  width = 2 * _MARGIN + len(columns) * (_WIDE + _GAP_X) - _GAP_X
  height = 2 * _MARGIN + _HEAD + max(map(_tall, columns))
  parts = [
    f'<svg class="dag" xmlns="http://www.w3.org/2000/svg" role="img" '
    f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
    f"<title>{escape(_title(described))}</title>",
    f"<desc>{escape(_told(described))}</desc>",
    f"<style>{_STYLE}</style>",
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
    'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
    '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
  ]
  for w in range(len(columns)):
    x = _MARGIN + w * (_WIDE + _GAP_X) + _WIDE / 2
    parts.append(
      f'<text class="small" x="{x:g}" y="{_MARGIN + 8}" text-anchor="middle">'
      f"wave {w + 1}</text>"
    )
  parts += [_edge(places, chain, flows.get(edge)) for edge, chain in chains.items()]
  for node in described["nodes"]:
    parts.append(_node(node, places, described["end"], notes.get(node["id"], "")))
  return "\n".join([*parts, "</svg>"])


def waves(described: Mapping[str, Any]) -> list[list[int]]:
  """Node ids by depth, in a wave from top to bottom."""
  return [[n for n in column if n >= 0] for column in _layout(described)[0]]


def mermaid(described: Mapping[str, Any]) -> str:
  """The DAG as a Mermaid flowchart, which GitHub and the hub render."""
  lines = ["graph LR"]
  for node in described["nodes"]:
    label = f"{node['id']}: {node['expert']}".replace('"', "#quot;")
    shape = f'(["{label}"])' if node["id"] == described["end"] else f'["{label}"]'
    lines.append(f"  n{node['id']}{shape}")
  return "\n".join(lines + [f"  n{i} --> n{j}" for i, j in described["edges"]]) + "\n"


def dot(described: Mapping[str, Any]) -> str:
  """The DAG in the language of Graphviz, nodes of a wave at one rank."""
  lines = ["digraph system {", "  rankdir=LR;", "  node [shape=box];"]
  for node in described["nodes"]:
    label = f"{node['id']}: {node['expert']}".replace("\\", "\\\\").replace('"', '\\"')
    bold = ", peripheries=2" if node["id"] == described["end"] else ""
    lines.append(f'  n{node["id"]} [label="{label}"{bold}];')
  for wave in waves(described):
    lines.append(f"  {{ rank=same; {' '.join(f'n{n};' for n in wave)} }}")
  lines += [f"  n{i} -> n{j};" for i, j in described["edges"]]
  return "\n".join([*lines, "}"]) + "\n"


def _layout(described):
  """(columns, chains): items of each wave from top to bottom, and what each edge runs
  through. An edge over waves in between has a place of its own there, an item < 0.
  """
  depth = {node["id"]: node["depth"] for node in described["nodes"]}
  columns: list[list[int]] = [[] for _ in range(1 + max(depth.values()))]
  for node in sorted(depth):
    columns[depth[node]].append(node)
  chains, places = {}, 0
  for i, j in described["edges"]:
    chain = [i]
    for between in range(depth[i] + 1, depth[j]):
      places += 1
      columns[between].append(-places)
      chain.append(-places)
    chains[i, j] = [*chain, j]
  _untangle(columns, list(chains.values()))
  return columns, chains


def _untangle(columns, chains):
  """Sorts each column by the mean place of its neighbours, there and back."""
  before: dict[int, list[int]] = {n: [] for column in columns for n in column}
  after: dict[int, list[int]] = {n: [] for n in before}
  for chain in chains:
    for a, b in zip(chain, chain[1:]):
      after[a].append(b)
      before[b].append(a)
  place: dict[int, float] = {}
  for column in columns:
    _number(column, place)
  for _ in range(_SWEEPS):
    for order, neighbours in ((columns, before), (columns[::-1], after)):
      for column in order:
        means = {
          n: sum(place[m] for m in neighbours[n]) / len(neighbours[n])
          if neighbours[n]
          else place[n]
          for n in column
        }
        column.sort(key=means.__getitem__)
        _number(column, place)


def _number(column, place):
  """Places of the items of a column, their middle at 0."""
  place |= {n: k - (len(column) - 1) / 2 for k, n in enumerate(column)}


def _size(item):
  return _HIGH if item >= 0 else _LANE


def _tall(column):
  return sum(map(_size, column)) + _GAP_Y * (len(column) - 1)


def _places(columns: Sequence[Sequence[int]]) -> dict[int, tuple[float, float]]:
  """Item -> (x, y) of its left upper corner; columns are centred on each other."""
  tallest = max(map(_tall, columns))
  places: dict[int, tuple[float, float]] = {}
  for w, column in enumerate(columns):
    x = _MARGIN + w * (_WIDE + _GAP_X)
    y = _MARGIN + _HEAD + (tallest - _tall(column)) / 2
    for item in column:
      places[item] = (x, y)
      y += _size(item) + _GAP_Y
  return places


def _edge(places, chain, flow):
  """The path of one edge: from node to node, level where it has a place of its own."""
  x, y = places[chain[0]]
  x, y = x + _WIDE, y + _HIGH / 2
  path = f"M{x:g} {y:g}"
  for item in chain[1:]:
    left, top = places[item]
    x1, y1 = left - 2 * (item >= 0), top + _size(item) / 2
    middle = (x + x1) / 2
    path += f"C{middle:g} {y:g} {middle:g} {y1:g} {x1:g} {y1:g}"
    x, y = x1, y1
    if item < 0:
      x += _WIDE
      path += f"H{x:g}"
  thick = 1.4 + 1.8 * (flow.weight if flow else 0)
  told = f"<title>{escape(flow.told)}</title>" if flow else ""
  return (
    f'<path class="edge" d="{path}" stroke-width="{thick:.2g}" marker-end="url(#tip)">'
    f"{told}</path>"
  )


def _node(node, places, end, note):
  x, y = places[node["id"]]
  name = node["expert"]
  shown = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
  line = f"node {node['id']}" + (f" · {note}" if note else "")
  kind = "node end" if node["id"] == end else "node"
  middle = x + _WIDE / 2
  return (
    f'<g class="{kind}"><title>{escape(name)}, {escape(line)}</title>'
    f'<rect x="{x:g}" y="{y:g}" width="{_WIDE}" height="{_HIGH}" rx="8"/>'
    f'<text x="{middle:g}" y="{y + 20:g}" text-anchor="middle">{escape(shown)}</text>'
    f'<text class="small" x="{middle:g}" y="{y + 36:g}" text-anchor="middle">'
    f"{escape(line)}</text></g>"
  )


def _title(described):
  return f"A system of {len(described['nodes'])} nodes in {_depth(described)} waves"


def _told(described):
  """The picture in words, for who does not see it."""
  name = {node["id"]: node["expert"] for node in described["nodes"]}
  parts = [f"{name[i]} speaks to {name[j]}" for i, j in described["edges"]]
  return "; ".join([*parts, f"{name[described['end']]} answers"]) + "."


def _depth(described):
  return 1 + max(node["depth"] for node in described["nodes"])
