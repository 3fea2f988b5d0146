"""Charts as inline SVG strings: plain functions of numbers, coloured by the classes of charts.css; words for numbers.

Every chart has a title for screen readers and draws its intervals; lengths are SVG user units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup, escape

WIDTH = 720
_LABEL = 150  # room for the names of rows on the left
_NOTE = 118  # room for the figures on the right
_FOOT = 22


def style() -> Markup:
    """The style sheet of pages with charts, to stand inside their `<style>`."""
    return Markup((files("onereward") / "charts.css").read_text())


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, a true minus, and no sign on a rounded zero."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if float(f"{value:.{digits}f}") else text[1:]


def between(low: float, high: float, digits: int = 2) -> str:
    """An interval of differences."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One estimate with its interval, drawn in the colour of its series."""

    series: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """A labelled row of marks; rows of one `group` stand together under its name; `note` stands at the right."""

    group: str
    label: str
    marks: tuple[Mark, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal scale: its ends, its ticks with their texts, and the value that a line marks (chance, no change)."""

    low: float
    high: float
    ticks: tuple[float, ...]
    text: Callable[[float], str]
    reference: float

    def x(self, value: float) -> float:
        """Horizontal place of a value, held inside the plot."""
        inside = min(max(value, self.low), self.high)
        return _LABEL + (inside - self.low) / (self.high - self.low) * (WIDTH - _LABEL - _NOTE)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Shares of good, same and bad in one row of a Good-Same-Bad chart; `note` is printed at the right."""

    label: str
    good: float
    same: float
    bad: float
    note: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series of a panel: raw points and the smoothed line through them."""

    series: str
    steps: tuple[float, ...]
    raw: tuple[float, ...]
    smooth: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small chart of probabilities over steps."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point with the vertical interval around it, all from 0 to 1."""

    x: float
    y: float
    low: float
    high: float


def interval_chart(rows: Sequence[Row], axis: Axis, *, title: str) -> Markup:
    """Dots with interval bars, one row a cell, series below one another inside the row."""
    pitch = 9
    y, body = 8.0, []
    group = ""
    for row in rows:
        if row.group != group:
            y += 16
            body.append(_text(0, y, row.group, "group"))
            y += 8
            group = row.group
        height = max(20.0, pitch * len(row.marks) + 8)
        middle = y + height / 2
        body.append(_text(_LABEL - 10, middle + 4, row.label, "label end"))
        body.append(_text(WIDTH, middle + 4, row.note, "note end"))
        top = middle - pitch * (len(row.marks) - 1) / 2
        body += [_mark(mark, axis, top + pitch * place) for place, mark in enumerate(row.marks)]
        y += height
    return _svg(WIDTH, y + _FOOT, title, [*_grid(axis, 8, y), *body])


def bars_chart(bars: Sequence[Bar], *, title: str) -> Markup:
    """Stacked shares of good, same and bad, one bar a row, from 0 to 100 %."""
    span = WIDTH - _LABEL - _NOTE - 36
    y, body = 4.0, []
    for bar in bars:
        height = 20 if bar.strong else 13
        weight = " strong" if bar.strong else ""
        body.append(_text(_LABEL - 10, y + height / 2 + 4, bar.label, f"label end{weight}"))
        x = float(_LABEL)
        for name, share in (("good", bar.good), ("same", bar.same), ("bad", bar.bad)):
            width = share * span
            body.append(f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}"/>')
            if bar.strong and width > 34:
                body.append(_text(x + width / 2, y + height / 2 + 4, f"{100 * share:.0f} %", f"on-{name} middle"))
            x += width
        body.append(_text(WIDTH, y + height / 2 + 4, bar.note, f"note end{weight}"))
        y += height + 5
    return _svg(WIDTH, y, title, body)


def curve_panel(panel: Panel, *, last_step: float) -> Markup:
    """One small chart: raw points faint, the smoothed line over them, a line at one half; y runs from 0 to 1."""
    width, left, top, bottom, foot = 176.0, 24.0, 6.0, 90.0, 106.0
    right = width - 6

    def at(step: float, value: float) -> tuple[float, float]:
        return left + step / max(last_step, 1) * (right - left), bottom - min(max(value, 0), 1) * (bottom - top)

    body = []
    for value in (0.0, 0.5, 1.0):
        y = at(0, value)[1]
        kind = "reference" if value == 0.5 else "grid"
        body.append(f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(_text(left - 4, y + 4, f"{value:g}", "tick end"))
    body += [_text(left, foot, "0", "tick"), _text(right, foot, f"{last_step:g}", "tick end")]
    for line in panel.lines:
        for step, value in zip(line.steps, line.raw, strict=True):
            x, y = at(step, value)
            body.append(f'<circle class="raw {line.series}" cx="{x:.1f}" cy="{y:.1f}" r="1.3"/>')
    for line in panel.lines:
        points = [at(step, value) for step, value in zip(line.steps, line.smooth, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        body.append(f'<polyline class="line {line.series}" points="{path}"/>')
    return _svg(width, foot + 4, panel.title, body)


def reliability_panel(points: Sequence[Point], *, series: str, title: str) -> Markup:
    """A square chart of how often yes was true over P(yes), from 0 to 1; true probabilities lie on the diagonal."""
    left, top, side = 28.0, 6.0, 140.0
    bottom, right = top + side, left + side

    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * side, bottom - y * side

    body = [f'<line class="reference" x1="{left}" y1="{bottom}" x2="{right}" y2="{top}"/>']
    for value in (0.0, 0.5, 1.0):
        x, y = at(value, value)
        body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        body += [_text(left - 4, y + 4, f"{value:g}", "tick end"), _text(x, bottom + 13, f"{value:g}", "tick middle")]
    for point in points:
        (x, y), (_, low), (_, high) = (at(point.x, share) for share in (point.y, point.low, point.high))
        body.append(f'<line class="bar {series}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        body.append(f'<circle class="dot {series}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>')
    return _svg(right + 8, bottom + 17, title, body)


def time_chart(rows: Sequence[tuple[str, float, str]], *, title: str) -> Markup:
    """Plain bars of (label, seconds, note)."""
    longest = max((seconds for _, seconds, _ in rows), default=1.0) or 1.0
    y, body = 4.0, []
    for label, seconds, note in rows:
        width = seconds / longest * (WIDTH - _LABEL - _NOTE)
        body.append(_text(_LABEL - 10, y + 11, label, "label end"))
        body.append(f'<rect class="same" x="{_LABEL}" y="{y:.1f}" width="{max(width, 1):.1f}" height="14"/>')
        body.append(_text(_LABEL + width + 6, y + 11, note, "note"))
        y += 20
    return _svg(WIDTH, y, title, body)


def _grid(axis: Axis, top: float, bottom: float) -> list[str]:
    lines = []
    for tick in axis.ticks:
        kind = "reference" if tick == axis.reference else "grid"
        x = axis.x(tick)
        lines.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        lines.append(_text(x, bottom + 15, axis.text(tick), "tick middle"))
    return lines


def _mark(mark: Mark, axis: Axis, y: float) -> str:
    low, value, high = (axis.x(number) for number in (mark.low, mark.value, mark.high))
    return (
        f'<line class="bar {mark.series}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="dot {mark.series}" cx="{value:.1f}" cy="{y:.1f}" r="3.6"/>'
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>' if text else ""


def _svg(width: float, height: float, title: str, body: Sequence[str]) -> Markup:
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
    return Markup(f"{head}<title>{escape(title)}</title>{''.join(body)}</svg>")
