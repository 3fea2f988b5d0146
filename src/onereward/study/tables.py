"""A study's figures as people read them: Table 3 as Markdown and CSV, and one page with Table 3, Fig. 6 and Fig. 7."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from onereward import charts
from onereward.charts import between, percent, signed
from onereward.metrics.intervals import Interval
from onereward.store.files import write_atomically
from onereward.study.analysis import ALL, BETTER, Analysis, PreferenceRow, Results, ScoreRow, StrengthRow
from onereward.study.criteria import Criterion, Group, Kind, cells_of

HTML, JSON, MARKDOWN, CSV = "study.html", "study.json", "table3.md", "table3.csv"
_TONES = 8
_NET = (-1, 1)  # where better minus worse lies
_ANY = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A line of Table 3: a system in a group, with one cell a criterion; None where nothing was asked or answered."""

    group: Group
    system: str
    cells: tuple[ScoreRow | None, ...]


def write_study(analysis: Analysis, output: Path, systems: Sequence[str]) -> Path:
    """Write the page, every figure as JSON, and Table 3 as Markdown and CSV into `output`; returns the page's path.

    `systems` are those of the study, in the order in which they are shown everywhere. Raises ValueError for a folder
    that holds anything but an earlier analysis.
    """
    others = sorted({path.name for path in output.iterdir()} - {HTML, JSON, MARKDOWN, CSV}) if output.exists() else []
    if others:
        raise ValueError(f"{output} holds other things ({', '.join(others[:3])}): name a new folder as --output")
    drawn = page(analysis, systems)
    write_atomically(output / JSON, analysis.to_json().encode())
    write_atomically(output / MARKDOWN, markdown(analysis.results, systems).encode())
    write_atomically(output / CSV, table_csv(analysis.results, systems).encode())
    write_atomically(output / HTML, drawn.encode())
    return output / HTML


def table_rows(results: Results, systems: Sequence[str]) -> list[TableRow]:
    """Table 3: groups in the paper's order, and in each the systems that were rated in it, in the order given."""
    cells = {(row.group, row.system, row.criterion): row for row in results.scores}
    rated = {(row.group, row.system) for row in results.scores}
    return [
        TableRow(
            group=group,
            system=system,
            cells=tuple(cells.get((group, system, criterion)) for criterion in Criterion),
        )
        for group in Group
        for system in systems
        if (group, system) in rated
    ]


def heads() -> list[str]:
    """The names of Table 3's columns of figures."""
    return [
        f"{criterion.question.title} (%)" if _is_rate(criterion) else criterion.question.title
        for criterion in Criterion
    ]


def figure(row: ScoreRow | None) -> str:
    """A cell as the paper prints it: a rate in percent, a score from 1 to 5, a dash for what is not asked."""
    return "–" if row is None else _number(row, row.score.value)


def says(estimate: Interval, scale: tuple[float, float]) -> bool:
    """Whether an interval says anything, which the whole scale does not: that of one participant, or of one item."""
    return scale[0] < estimate.low or estimate.high < scale[1]


def interval(row: ScoreRow) -> str:
    """A cell's interval in the cell's unit; nothing where it is the whole scale."""
    told = says(row.score, row.criterion.bounds)
    return f"{_number(row, row.score.low)} to {_number(row, row.score.high)}" if told else ""


def lead(row: ScoreRow) -> str:
    """How far the main system lies above this one, with its interval: in percentage points, or in the scale's."""
    if row.lead is None:
        return ""
    unit, digits = (100, 1) if _is_rate(row.criterion) else (1, 2)
    low, high = row.criterion.bounds
    return _difference(row.lead, (low - high, high - low), unit, digits)


def counted(participants: int) -> str:
    """So many participants, in words."""
    return f"{participants} participant{'' if participants == 1 else 's'}"


def markdown(results: Results, systems: Sequence[str]) -> str:
    """Table 3 as a Markdown table; each figure with its interval, if there is one."""
    lines = [["Task", "System", *heads()], ["---", "---", *["---:"] * len(Criterion)]]
    for row in table_rows(results, systems):
        cells = [
            f"{figure(cell)} ({interval(cell)})" if cell and interval(cell) else figure(cell) for cell in row.cells
        ]
        lines.append([row.group, row.system.replace("|", "\\|"), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table_csv(results: Results, systems: Sequence[str]) -> str:
    """Table 3 as CSV, one line a cell: fractions and scores as they are, not rounded; no ends of no interval."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["group", "system", "criterion", "value", "low", "high", "ratings", "participants", "items"])
    for row in table_rows(results, systems):
        for cell in filter(None, row.cells):
            score, counts = cell.score, cell.counts
            ends = [score.low, score.high] if says(score, cell.criterion.bounds) else ["", ""]
            numbers = [score.value, *ends, counts.answers, counts.participants, counts.items]
            table.writerow([row.group, row.system, cell.criterion, *numbers])
    return out.getvalue()


def page(analysis: Analysis, systems: Sequence[str]) -> str:
    """The page, with `systems` in that order: a string of HTML that refers to nothing outside itself."""
    results = analysis.results
    tones = _tones(results, systems)
    environment = Environment(
        loader=PackageLoader("onereward.study", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "interval": interval,
        "lead": lead,
        "percent": percent,
        "agreed": _agreed,
        "asked": _asked,
        "counted": counted,
    }
    return environment.get_template("tables.html").render(
        style=charts.style(),
        analysis=analysis,
        results=results,
        systems=len(_tones(analysis.everybody, systems)),
        caution=_caution(analysis),
        heads=heads(),
        rows=table_rows(results, systems),
        best=_best(results.scores),
        has_text=any(row.criterion is Criterion.TEXT_RENDERING for row in analysis.everybody.scores),
        tones=tones,
        figure_6=[(group, _figure_6(results, group, tones)) for group in Group if _has(results.scores, group)],
        figure_7=_figure_7(results.preferences),
        strengths=_strength_chart(results.strengths, tones),
        left_bias=None if results.left_bias is None else _difference(results.left_bias, _NET, 1, 3),
        agreements=[row for row in results.agreements if row.agreement.items],
        everybody=table_rows(analysis.everybody, systems),
    )


def _caution(analysis: Analysis) -> str:
    """What to know before any figure is believed, where there are too few people."""
    results = analysis.results
    if results.participants == 0:
        return "Everybody was left out, so that there are no figures: the end of this page says who, and why."
    if results.participants == 1:
        return "One participant tells nothing of what others would say: no figure has an interval."
    silent = [not says(row.score, row.criterion.bounds) for row in results.scores]
    silent += [not says(row.net, _NET) for row in results.preferences]
    few = (
        "A figure without an interval is of too few people or items to tell what others would say, or its interval "
        "would be the whole scale."
    )
    return few * any(silent)


def _figure_6(results: Results, group: Group, tones: dict[str, str]) -> list[Markup]:
    """A group's rates and its scores, each with a mark a system."""
    drawn = []
    for kind, axis in ((Kind.BINARY, _RATES), (Kind.GRADED, _SCORES)):
        rows = []
        for criterion in cells_of(group):
            of = [row for row in results.scores if (row.group, row.criterion) == (group, criterion)]
            if of and criterion.question.kind is kind:
                rows.append(charts.Row(group="", label=criterion.question.title, marks=_marks(of, tones)))
        if rows:
            what = "rates" if kind is Kind.BINARY else "mean opinion scores"
            drawn.append(charts.interval_chart(rows, axis, title=f"{group}: {what} by system"))
    return drawn


def _figure_7(rows: Sequence[PreferenceRow]) -> list[tuple[str, Markup]]:
    """(the two systems, their bars) by pair."""
    pairs = list(dict.fromkeys((row.system, row.other) for row in rows))
    return [
        (f"{system} against {other}", _bars([r for r in rows if (r.system, r.other) == (system, other)]))
        for system, other in pairs
    ]


def _bars(rows: Sequence[PreferenceRow]) -> Markup:
    bars = []
    for row in rows:
        total = row.counts.answers
        bars.append(
            charts.Bar(
                label=_group_name(row.group),
                good=row.good / total,
                same=row.same / total,
                bad=row.bad / total,
                note=_difference(row.net, _NET, 1, 2),
                strong=True,
            )
        )
    return charts.bars_chart(bars, title=f"Good, same and bad of {rows[0].system} against {rows[0].other}")


def _strength_chart(rows: Sequence[StrengthRow], tones: dict[str, str]) -> Markup | None:
    """Strengths where more than two systems were compared; of two, good, same and bad say it all."""
    if len({row.system for row in rows}) < 3:
        return None
    reach = max(abs(end) for row in rows for end in (row.strength.low, row.strength.high))
    step = 0.25
    while reach > 4 * step:
        step *= 2
    ticks = tuple(step * place for place in range(-4, 5) if abs(step * place) < reach + step)
    axis = charts.Axis(low=ticks[0], high=ticks[-1], ticks=ticks, text=lambda tick: signed(tick, 2), reference=0)
    return charts.interval_chart(
        [
            charts.Row(
                group=_group_name(row.group),
                label=row.system,
                marks=(_mark(row.strength, tones[row.system], _ANY),),
                note=f"{signed(row.strength.value, 2)}",
            )
            for row in _ordered(rows, list(tones))
        ],
        axis,
        title="Bradley-Terry strengths by system",
    )


def _ordered(rows: Sequence[StrengthRow], systems: Sequence[str]) -> list[StrengthRow]:
    """Rows with groups as they come and, in each, systems in that order."""
    groups = list(dict.fromkeys(row.group for row in rows))
    return sorted(rows, key=lambda row: (groups.index(row.group), systems.index(row.system)))


def _marks(rows: Sequence[ScoreRow], tones: dict[str, str]) -> tuple[charts.Mark, ...]:
    order = list(tones)
    ordered = sorted(rows, key=lambda row: order.index(row.system))
    return tuple(_mark(row.score, tones[row.system], row.criterion.bounds) for row in ordered)


def _mark(estimate: Interval, tone: str, scale: tuple[float, float]) -> charts.Mark:
    """A dot, with a bar if its interval says anything."""
    low, high = (estimate.low, estimate.high) if says(estimate, scale) else (estimate.value, estimate.value)
    return charts.Mark(series=tone, value=estimate.value, low=low, high=high)


_RATES = charts.Axis(low=0, high=1, ticks=(0, 0.25, 0.5, 0.75, 1), text=percent, reference=-1)
_SCORES = charts.Axis(low=1, high=5, ticks=(1, 2, 3, 4, 5), text=lambda tick: f"{tick:g}", reference=-1)


def _tones(results: Results, systems: Sequence[str]) -> dict[str, str]:
    """The class of colour of each system that something was said of, by its place among all."""
    told = {row.system for row in results.scores}
    told |= {system for row in results.preferences for system in (row.system, row.other)}
    return {system: f"row-{place % _TONES}" for place, system in enumerate(systems) if system in told}


def _best(rows: Sequence[ScoreRow]) -> set[tuple[Group, Criterion, str]]:
    """The highest of each column within a group, all that are printed alike; none where all are."""
    columns: dict[tuple[Group, Criterion], list[ScoreRow]] = {}
    for row in rows:
        columns.setdefault((row.group, row.criterion), []).append(row)
    best = set()
    for of in columns.values():
        top = figure(max(of, key=lambda row: row.score.value))
        tops = [row for row in of if figure(row) == top]
        if len(tops) < len(of):
            best |= {(row.group, row.criterion, row.system) for row in tops}
    return best


def _has(rows: Sequence[ScoreRow], group: Group) -> bool:
    return any(row.group is group for row in rows)


def _is_rate(criterion: Criterion) -> bool:
    return criterion.question.kind is Kind.BINARY


def _number(row: ScoreRow, value: float) -> str:
    return f"{100 * value:.2f}" if _is_rate(row.criterion) else f"{value:.2f}"


def _difference(estimate: Interval, scale: tuple[float, float], unit: float, digits: int) -> str:
    """An estimate with its sign, and its interval if that says anything."""
    value = signed(unit * estimate.value, digits)
    ends = between(unit * estimate.low, unit * estimate.high, digits)
    return f"{value} ({ends})" if says(estimate, scale) else value


def _agreed(estimate: Interval | None, items: int) -> str:
    """An estimate of agreement on so many items, with its interval if it has a width; a dash where not defined."""
    if estimate is None:
        return "–"
    value, low, high = (f"{end:.2f}".replace("-", "−") for end in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})" if items > 1 and low != high else value


def _asked(criterion: str) -> str:
    return "Which is better" if criterion == BETTER else Criterion(criterion).question.title


def _group_name(group: str) -> str:
    """A group's name beside a bar."""
    return "All tasks" if group == ALL else str(group)
