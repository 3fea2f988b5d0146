"""The judge's part of the page: Tables 1 and 4 as the paper prints them, tests, reliability, the ceiling."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from markupsafe import Markup

from onereward import charts
from onereward.charts import percent
from onereward.metrics.accuracy import MEAN, AccuracyRow
from onereward.metrics.calibration import BINS, Reliability
from onereward.metrics.ceiling import CeilingRow
from onereward.metrics.comparison import Comparison
from onereward.metrics.gsb import ALL
from onereward.metrics.judge_table import JudgeTable
from onereward.report.words import name
from onereward.terms import DIMENSIONS, Dimension, Task

_MAIN_VARIANT = "task_dimension"

Cell = tuple[str, str]
"""(task, dimension)."""

_TONED = ("untuned", "pair", "task", "task_dimension", "fixed_query")
_FURTHER_TONES = 5


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table: cells of the tasks in order, then perhaps what is over several of them."""

    cells: Sequence[Cell]
    over: Cell | None

    def __iter__(self) -> Iterator[Cell]:
        return iter((*self.cells, *filter(None, [self.over])))

    def starts(self, cell: Cell) -> bool:
        """Whether a task begins there, or what is over several cells."""
        return cell == self.over or cell in [next(group) for _, group in groupby(self.cells, key=itemgetter(0))]

    @property
    def tasks(self) -> list[tuple[str, int]]:
        """Each task with its number of columns."""
        return [(task, len(list(group))) for task, group in groupby(self.cells, key=itemgetter(0))]


@dataclass(frozen=True, kw_only=True)
class Voters:
    """What voters of one kind agree on, by cell; `asked` where at least two of them voted on the same triplet."""

    kind: str
    asked: bool
    rows: Mapping[Cell, CeilingRow]


@dataclass(frozen=True, kw_only=True)
class JudgeSection:
    """What the template lays out. `tones` maps a row of the tables to the CSS class of its colour.

    `main` is the row whose figures stand in the chart.
    """

    variants: Sequence[str]
    main: str
    tones: Mapping[str, str]
    columns: Columns
    accuracy: Mapping[str, Mapping[Cell, AccuracyRow]]
    chart: Markup
    against: str
    compared_columns: Columns
    compared: Mapping[str, Mapping[Cell, Comparison]]
    dimensions: Sequence[str]
    reliability: Mapping[str, Mapping[str, tuple[Reliability, Markup]]]
    voters: Sequence[Voters]
    bins: int = BINS


def judge_section(table: JudgeTable) -> JudgeSection:
    """The section of a table, empty where the table is."""
    variants = list(dict.fromkeys(row.variant for row in table.judge))
    main = main_row(variants)
    accuracy = {variant: {_cell(row): row for row in table.judge if row.variant == variant} for variant in variants}
    there = {_cell(row) for row in table.judge}
    cells = [(task, e) for task in Task for e in DIMENSIONS[task] if (task, e) in there]
    columns = Columns(cells=cells, over=(MEAN, MEAN) if (MEAN, MEAN) in there else None)
    tones = _tones(variants)
    return JudgeSection(
        variants=variants,
        main=main,
        tones=tones,
        columns=columns,
        accuracy=accuracy,
        chart=_chart(columns, accuracy, tones, main),
        against=table.comparisons[0].against if table.comparisons else "",
        compared_columns=Columns(cells=cells, over=(ALL, ALL)),
        compared={
            variant: {_cell(row): row for row in table.comparisons if row.variant == variant}
            for variant in dict.fromkeys(row.variant for row in table.comparisons)
        },
        dimensions=[e for e in Dimension if any(row.dimension == e for row in table.reliability)],
        reliability={
            variant: {row.dimension: (row, _panel(row, tones)) for row in table.reliability if row.variant == variant}
            for variant in variants
        },
        voters=_voters(table.ceiling),
    )


def main_row(variants: Sequence[str]) -> str:
    """The row that stands for the judge: `task_dimension`, or the last where no row is called so."""
    return _MAIN_VARIANT if _MAIN_VARIANT in variants or not variants else variants[-1]


def _cell(row: AccuracyRow | Comparison | CeilingRow) -> Cell:
    return row.task, row.dimension


def _tones(variants: Iterable[str]) -> dict[str, str]:
    """The agreed names have colours of their own; other rows take turns at some more."""
    others = [variant for variant in variants if variant not in _TONED]
    turns = {variant: f"row-{place % _FURTHER_TONES}" for place, variant in enumerate(others)}
    return {variant: turns.get(variant, variant) for variant in variants}


def _chart(
    columns: Columns,
    accuracy: Mapping[str, Mapping[Cell, AccuracyRow]],
    tones: Mapping[str, str],
    main: str,
) -> Markup:
    rows = []
    for task, dimension in columns:
        of = {variant: rows[task, dimension] for variant, rows in accuracy.items() if (task, dimension) in rows}
        marks = tuple(
            charts.Mark(series=tones[variant], value=row.accuracy, low=row.low, high=row.high)
            for variant, row in of.items()
        )
        shown = of.get(main) or next(iter(of.values()))
        label = "All rows" if task == MEAN else name(dimension)
        note = f"{percent(shown.accuracy)}  n = {shown.n}"
        rows.append(charts.Row(group=name(task), label=label, marks=marks, note=note))
    axis = charts.Axis(low=0, high=1, ticks=(0, 0.25, 0.5, 0.75, 1), text=percent, reference=0.5)
    return charts.interval_chart(rows, axis, title="Judge accuracy by task, dimension and way of asking")


def _panel(row: Reliability, tones: Mapping[str, str]) -> Markup:
    points = [charts.Point(x=each.predicted, y=each.observed, low=each.low, high=each.high) for each in row.bins]
    title = f"Reliability of {name(row.variant)}, {name(row.dimension).lower()}"
    return charts.reliability_panel(points, series=tones[row.variant], title=title)


def _voters(rows: Sequence[CeilingRow]) -> list[Voters]:
    kinds = dict.fromkeys(row.kind for row in rows)
    of = {kind: {_cell(row): row for row in rows if row.kind == kind} for kind in kinds}
    return [Voters(kind=kind, asked=any(row.n for row in cells.values()), rows=cells) for kind, cells in of.items()]
