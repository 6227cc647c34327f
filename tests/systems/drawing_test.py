"""Pictures of systems: every node and edge is there, and no name breaks out of one."""

import re
from xml.etree import ElementTree

import pytest

from jswarm.systems import drawing

CHAIN = {
  "nodes": [
    {"id": 4, "expert": "ada", "depth": 0},
    {"id": 0, "expert": "bea", "depth": 0},
    {"id": 2, "expert": "cyd", "depth": 1},
    {"id": 7, "expert": "dov", "depth": 2},
  ],
  "edges": [[4, 2], [2, 7], [0, 7]],
  "end": 7,
}


def _named(name):
  nodes = [{**node, "expert": name} for node in CHAIN["nodes"]]
  return {**CHAIN, "nodes": nodes}


def test_nodes_of_a_wave_stand_in_one_column_and_waves_from_left_to_right():
  svg = ElementTree.fromstring(drawing.svg(CHAIN))
  at = {}
  for group in svg.findall(".//{*}g"):
    rect, *_ = group.findall("{*}rect")
    (line,) = [t.text for t in group.findall("{*}text") if t.text.startswith("node")]
    at[int(line.split()[1])] = float(rect.get("x")), float(rect.get("y"))
  assert at[4][0] == at[0][0] < at[2][0] < at[7][0]
  assert abs(at[4][1] - at[0][1]) > 40


def test_every_edge_is_drawn_once_and_the_end_node_stands_out():
  svg = drawing.svg(CHAIN)
  assert svg.count('class="edge"') == 3 and svg.count('class="node end"') == 1


def test_an_edge_over_a_wave_makes_way_for_the_nodes_of_it():
  columns, chains = drawing._layout(CHAIN)
  assert chains[0, 7] == [0, -1, 7] and sorted(columns[1]) == [-1, 2]
  places = drawing._places(columns)
  above, below = sorted(places[item][1] for item in columns[1])
  assert below - above >= drawing._LANE + drawing._GAP_Y


def test_waves_hold_all_nodes_of_a_depth_and_nothing_else():
  assert [sorted(wave) for wave in drawing.waves(CHAIN)] == [[0, 4], [2], [7]]


def test_what_flows_over_an_edge_is_its_tooltip_and_its_thickness():
  thin = drawing.svg(CHAIN)
  thick = drawing.svg(CHAIN, flows={(4, 2): drawing.Flow(1.0, "12 tokens <a reply>")})
  assert "12 tokens &lt;a reply&gt;" in thick and "12 tokens" not in thin
  assert 'stroke-width="3.2"' in thick and 'stroke-width="3.2"' not in thin


def test_who_does_not_see_the_picture_is_told_what_it_shows():
  svg = ElementTree.fromstring(drawing.svg(CHAIN))
  assert svg.get("role") == "img"
  assert svg.find("{*}desc").text == (
    "ada speaks to cyd; cyd speaks to dov; bea speaks to dov; dov answers."
  )


@pytest.mark.parametrize("draw", [drawing.svg, drawing.mermaid, drawing.dot])
def test_a_name_cannot_break_out_of_the_picture(draw):
  text = draw(_named('x"]<script>\\'))
  if draw is drawing.svg:
    ElementTree.fromstring(text)
    assert "<script>" not in text
  for label in re.findall(r'label="((?:\\.|[^"\\])*)"', text):
    assert label.endswith("\\\\")
  assert 'x"]' not in text.replace('\\"', "")


def test_graphviz_and_mermaid_name_each_node_and_edge():
  assert "n4 -> n2;" in drawing.dot(CHAIN) and "{ rank=same;" in drawing.dot(CHAIN)
  assert "n0 --> n7" in drawing.mermaid(CHAIN) and 'n7(["7: dov"])' in drawing.mermaid(
    CHAIN
  )
