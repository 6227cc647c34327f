"""Charts: numbers are where they belong, gaps are gaps, words are escaped."""

import re
from xml.etree import ElementTree

from jswarm.report import figures
from jswarm.report.figures import Bar, Series


def _points(svg, style):
  (path,) = re.findall(rf'class="series {style}" d="M([^"H]+)"', svg)
  return [tuple(map(float, pair.split())) for pair in path.split("L")]


def _chart(*series, **fields):
  text = figures.lines("scores", range(3), series, "iteration", **fields)
  return text.split("<ul")[0]


def test_a_line_rises_where_its_numbers_do():
  points = _points(_chart(Series("best", [0.1, 0.5, 0.9])), "s0")
  assert [x for x, _ in points] == sorted(x for x, _ in points)
  assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_what_is_missing_is_a_gap_and_no_zero():
  points = _points(_chart(Series("mean", [0.1, None, 0.9])), "s0")
  assert len(points) == 2


def test_a_chart_of_nothing_is_no_chart():
  assert figures.lines("x", [], [Series("a", [])], "iteration") == ""
  assert figures.lines("x", [0], [Series("a", [None])], "iteration") == ""
  assert figures.bars("x", [Bar("a", None)]) == ""


def test_one_iteration_is_a_dot_and_equal_numbers_have_a_scale():
  svg = figures.lines("x", [0], [Series("a", [0.5])], "iteration")
  assert "<circle" in svg
  ElementTree.fromstring(_chart(Series("a", [0.5, 0.5, 0.5])))


def test_a_chart_says_what_it_shows_and_escapes_every_name():
  text = figures.lines(
    "a < b", [0, 1], [Series("<script>", [0, 1])], "i", ([0, 0], [1, 1])
  )
  assert "<script>" not in text and "&lt;script&gt; from 0 to 1" in text
  ElementTree.fromstring(text.split("<ul")[0])


def test_bars_come_in_order_with_their_whiskers():
  svg = figures.bars("credit", [Bar("low", -0.2, 0.1), Bar("<high>", 0.7, 0.1)])
  ElementTree.fromstring(svg)
  assert svg.index("&lt;high&gt;:") < svg.index("low:") and svg.count("whisker") == 2


def test_a_scale_is_of_round_numbers_around_all_that_is_shown():
  low, high, ticks = figures._scale(0.13, 0.88)
  assert low <= 0.13 and high >= 0.88 and ticks == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
