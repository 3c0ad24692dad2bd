"""Plots as inline SVG: intervals on a common axis, and quantile bars. Colors are the page's own (CSS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 150, 24, 14, 34  # px
LINE = 15  # px between the marks of one row
LABEL, LABEL_LINE = 12, 23  # characters and px of a label's line, which fit the margin at a phone's larger font too
ARM = ((-5, -1.5), (-1.5, -1.5), (-1.5, -5), (1.5, -5), (1.5, -1.5), (5, -1.5))
CROSS = (*ARM, *((-x, -y) for x, y in ARM))
MARKS = ("circle", "diamond", "square", "triangle", "cross")


@dataclass(frozen=True)
class Mark:
    """One value of a row with its interval; `series` picks color and shape."""

    series: int
    value: float
    low: float
    high: float
    says: str


@dataclass(frozen=True)
class Bar:
    """Quantiles at 5, 25, 50, 75 and 95 % of one distribution."""

    series: int
    quantiles: Sequence[float]
    says: str


def interval_plot(rows: Sequence[tuple[str, Sequence[Mark]]], title: str, high: float = 1.0, low: float = 0.0) -> str:
    """A row of marks with whiskers for each label, from `low` to `high`."""
    return _plot([(label, [_marked(mark, low, high) for mark in marks]) for label, marks in rows], low, high, title)


def quantile_plot(rows: Sequence[tuple[str, Sequence[Bar]]], low: float, title: str) -> str:
    """A row of quantile bars for each label, from `low` to 1."""
    return _plot([(label, [_barred(bar, low) for bar in bars]) for label, bars in rows], low, 1.0, title)


def legend(names: Sequence[str] | Mapping[int, str]) -> str:
    """The marks of the series, each with its name; numbered in order, or as given."""
    numbered = names.items() if isinstance(names, Mapping) else enumerate(names)
    items = [
        f'<span class="key"><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">'
        f"{_shape(series, 8, 8)}</svg>{escape(name)}</span>"
        for series, name in numbered
    ]
    return f'<p class="legend">{"".join(items)}</p>'


class _At:
    """A mark as a function of its height on the page."""

    def __init__(self, template: str) -> None:
        self.template = template

    def drawn(self, y: float) -> str:
        return f'<g transform="translate(0 {y:.1f})">{self.template}</g>'


def _plot(rows: Sequence[tuple[str, Sequence[_At]]], low: float, high: float, title: str) -> str:
    height = TOP + BOTTOM + sum(_row_height(label, len(marks)) for label, marks in rows)
    parts = [_axis(low, high, height)]
    y = float(TOP)
    for place, (label, marks) in enumerate(rows):
        row = _row_height(label, len(marks))
        if place % 2:
            parts.append(f'<rect class="band" x="0" y="{y:.1f}" width="{WIDTH}" height="{row}"/>')
        middle = y + row / 2
        parts.append(_label(label, middle + 4))
        first = middle - LINE * (len(marks) - 1) / 2
        parts += [mark.drawn(first + LINE * line) for line, mark in enumerate(marks)]
        y += row
    return (
        f'<div class="wide"><svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg></div>"
    )


def _row_height(label: str, marks: int) -> int:
    return max(LINE * marks, LABEL_LINE * len(_lines(label))) + 12


def _label(label: str, middle: float) -> str:
    """A row's name beside the axis, on as many lines as it needs: cut off on the left it could say the opposite."""
    lines = _lines(label)
    x = LEFT - 12
    spans = [
        f'<tspan x="{x}" dy="{1.15 if line else -0.575 * (len(lines) - 1):g}em">{escape(text)}</tspan>'
        for line, text in enumerate(lines)
    ]
    return f'<text class="label" x="{x}" y="{middle:.1f}">{"".join(spans)}</text>'


def _lines(label: str) -> list[str]:
    return wrap(label, LABEL, break_on_hyphens=False) or [""]


def _axis(low: float, high: float, height: float) -> str:
    bottom = height - BOTTOM
    parts = []
    for step in range(6):
        value = low + step * (high - low) / 5
        x = _x(value, low, high)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 18}">{value:.3g}</text>')
    return "".join(parts)


def _x(value: float, low: float = 0.0, high: float = 1.0) -> float:
    inside = min(max(value, low), high)
    return LEFT + (inside - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _marked(mark: Mark, low: float, high: float) -> _At:
    left, at, right = (_x(value, low, high) for value in (mark.low, mark.value, mark.high))
    whisker = f'<line class="s{mark.series} whisker" x1="{left:.1f}" y1="0" x2="{right:.1f}" y2="0"/>'
    return _At(f"<g><title>{escape(mark.says)}</title>{whisker}{_shape(mark.series, at, 0)}</g>")


def _barred(bar: Bar, low: float) -> _At:
    ends = [_x(value, low) for value in bar.quantiles]
    name = f"s{bar.series}"
    return _At(
        f"<g><title>{escape(bar.says)}</title>"
        f'<line class="{name} whisker" x1="{ends[0]:.1f}" y1="0" x2="{ends[4]:.1f}" y2="0"/>'
        f'<line class="{name} box" x1="{ends[1]:.1f}" y1="0" x2="{max(ends[3], ends[1] + 1):.1f}" y2="0"/>'
        f"{_shape(bar.series, ends[2], 0)}</g>"
    )


def _shape(series: int, x: float, y: float) -> str:
    kind, name = MARKS[series % len(MARKS)], f"s{series} mark"
    if kind == "circle":
        return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    points = {
        "diamond": ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        "square": ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        "triangle": ((0, -5), (5, 4), (-5, 4)),
        "cross": CROSS,
    }[kind]
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)
    return f'<polygon class="{name}" points="{corners}"/>'
