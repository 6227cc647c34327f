"""Line charts and bars as inline SVG: numbers -> <svg>. Pure functions, no library.

What is missing (None) is a gap. Colours are classes of the page's style sheet; each
series has a dash of its own too, for who cannot tell the colours apart.
"""

from collections.abc import Sequence
from html import escape
import math
from typing import NamedTuple

_WIDE, _HIGH = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_TICKS = 5
_SERIES = 6  # styles of lines in the style sheet

Number = float | int | None


class Series(NamedTuple):
  """A line: its name and a value at each x; None is a gap."""

  name: str
  values: Sequence[Number]


class Bar(NamedTuple):
  """A bar: its value and half the length of its whisker, if any."""

  name: str
  value: Number
  error: Number = None


def lines(
  title: str,
  x: Sequence[float],
  series: Sequence[Series],
  x_label: str,
  band: tuple[Sequence[Number], Sequence[Number]] | None = None,
) -> str:
  """A line chart with a legend; "" where there is no number at all.

  Args:
    title: also what a screen reader says. x: [K]. series: values [K] each.
    band: least and greatest at each x, shaded.
  """
  every = [v for s in series for v in s.values] + [v for b in band or () for v in b]
  known = [v for v in every if v is not None]
  if not known or not len(x):
    return ""
  low, high, ticks = _scale(min(known), max(known))
  right = max(x[-1], x[0] + 1)
  across = lambda v: _LEFT + (v - x[0]) / (right - x[0]) * (_WIDE - _LEFT - _RIGHT)
  down = lambda v: _HIGH - _BOTTOM - (v - low) / (high - low) * (_HIGH - _TOP - _BOTTOM)
  parts = [_open(title, _summary(series)), *_grid(ticks, down)]
  parts += _below(x, across, x_label)
  if band:
    parts.append(_shade(x, band, across, down))
  for k, s in enumerate(series):
    points = [(across(at), down(v)) for at, v in zip(x, s.values) if v is not None]
    parts.append(_line(k, s, points))
  parts.append("</svg>")
  legend = "".join(
    f'<li><svg class="key" viewBox="0 0 28 10" width="28" height="10" '
    f'aria-hidden="true"><path class="series s{k % _SERIES}" d="M0 5H28"/></svg>'
    f"{escape(s.name)}</li>"
    for k, s in enumerate(series)
  )
  return "\n".join(parts) + f'<ul class="legend">{legend}</ul>'


def bars(title: str, rows: Sequence[Bar]) -> str:
  """Horizontal bars with whiskers, the greatest first; "" without any number."""
  rows = [row for row in rows if row.value is not None]
  if not rows:
    return ""
  rows = sorted(rows, key=lambda row: -(row.value or 0))
  reach = [(row.value or 0) + (row.error or 0) for row in rows]
  least = [(row.value or 0) - (row.error or 0) for row in rows]
  low, high, ticks = _scale(min(0, *least), max(0, *reach))
  left, step = 132, 26
  height = _TOP + len(rows) * step + _BOTTOM
  across = lambda v: left + (v - low) / (high - low) * (_WIDE - left - 66)
  told = ", ".join(f"{row.name} {row.value:.3g}" for row in rows)
  parts = [_open(title, told, height)]
  for tick in ticks:
    at = across(tick)
    parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{height - _BOTTOM}"/>')
    parts.append(
      f'<text class="small" x="{at:.1f}" y="{height - _BOTTOM + 18}" '
      f'text-anchor="middle">{tick:g}</text>'
    )
  for k, row in enumerate(rows):
    parts.append(_bar(row, _TOP + k * step, left, across))
  return "\n".join([*parts, "</svg>"])


def _bar(row, y, left, across):
  value, zero = across(row.value), across(0)
  start, size = min(value, zero), abs(value - zero)
  name = row.name if len(row.name) <= 17 else f"{row.name[:16]}…"
  whisker = ""
  end = max(value, zero)
  if row.error:
    a, b, middle = across(row.value - row.error), across(row.value + row.error), y + 11
    whisker = (
      f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}M{a:.1f} {middle - 4}v8'
      f'M{b:.1f} {middle - 4}v8"/>'
    )
    end = max(end, b)
  return (
    f'<g><title>{escape(row.name)}: {row.value:.4g}</title><text x="{left - 8}" '
    f'y="{y + 15}" text-anchor="end">{escape(name)}</text>'
    f'<rect class="bar" x="{start:.1f}" y="{y + 2}" width="{size:.1f}" height="18"/>'
    f'{whisker}<text class="small" x="{end + 6:.1f}" y="{y + 15}">{row.value:.3f}'
    "</text></g>"
  )


def _open(title, told, height=_HIGH):
  return (
    f'<svg class="chart" role="img" viewBox="0 0 {_WIDE} {height}">'
    f"<title>{escape(title)}</title><desc>{escape(told)}</desc>"
  )


def _grid(ticks, down):
  for tick in ticks:
    at = down(tick)
    yield f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDE - _RIGHT}"/>'
    yield (
      f'<text class="small" x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
      f"{tick:g}</text>"
    )


def _below(x, across, label):
  """Some numbers below the chart, and what they count."""
  every = max(1, math.ceil(len(x) / 10))
  for at in x[::every]:
    yield (
      f'<text class="small" x="{across(at):.1f}" y="{_HIGH - 16}" '
      f'text-anchor="middle">{at:g}</text>'
    )
  yield (
    f'<text class="small" x="{(_LEFT + _WIDE) / 2:g}" y="{_HIGH - 2}" '
    f'text-anchor="middle">{escape(label)}</text>'
  )


def _shade(x, band, across, down):
  pairs = [(at, a, b) for at, a, b in zip(x, *band) if a is not None and b is not None]
  upper = [f"{across(at):.1f} {down(b):.1f}" for at, _, b in pairs]
  lower = [f"{across(at):.1f} {down(a):.1f}" for at, a, _ in reversed(pairs)]
  return f'<path class="band" d="M{"L".join(upper + lower)}Z"/>' if pairs else ""


def _line(k, series, points):
  path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
  name = escape(series.name)
  if len(points) == 1:
    ((a, b),) = points
    dot = f'cx="{a:.1f}" cy="{b:.1f}" r="4"'
    return f'<circle class="dot s{k % _SERIES}" {dot}><title>{name}</title></circle>'
  if not points:
    return ""
  return f'<path class="series s{k % _SERIES}" d="M{path}"><title>{name}</title></path>'


def _summary(series):
  """First and last number of each line, for who does not see it."""
  told = []
  for s in series:
    known = [v for v in s.values if v is not None]
    if known:
      told.append(f"{s.name} from {known[0]:.3g} to {known[-1]:.3g}")
  return "; ".join(told)


def _scale(low, high):
  """(low, high, ticks): round numbers around what is to be shown."""
  if high - low < 1e-9:
    low, high = low - 0.5, high + 0.5
  rough = (high - low) / _TICKS
  power = 10 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  ticks = [round(k * step, 10) for k in range(first, last + 1)]
  return ticks[0], ticks[-1], ticks
