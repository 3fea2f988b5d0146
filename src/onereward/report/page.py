"""The report as one HTML file that works offline, and as `report.json`."""

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from onereward import charts
from onereward.charts import between, percent, signed
from onereward.metrics.accuracy import MEAN
from onereward.metrics.gsb import ALL, GoodSameBad, ScoreRow
from onereward.report.content import BASE, TABLE_JSON, Example, Report, TimeRow
from onereward.report.curves import Curve
from onereward.report.judge_section import judge_section, main_row
from onereward.report.words import cell_name, chance, duration, name, narrow, points
from onereward.store.files import write_atomically
from onereward.terms import DIMENSIONS, Dimension, Task

HTML, JSON = "report.html", "report.json"
TABLE_HTML = "table.html"


def write_report(report: Report, output: Path) -> Path:
    """Write `report.html` and `report.json` into `output`, each whole or not at all; returns the page's path."""
    write_atomically(output / JSON, report.to_json().encode())
    write_atomically(output / HTML, render(report).encode())
    return output / HTML


def write_table(report: Report, output: Path) -> Path:
    """Write `table.html` and `table.json`, the judge's part of a report, into `output`; returns the page's path."""
    write_atomically(output / TABLE_HTML, render(report).encode())
    write_atomically(output / TABLE_JSON, report.table.to_json().encode())
    return output / TABLE_HTML


def render(report: Report) -> str:
    """The page: a string of HTML that refers to nothing outside itself."""
    environment = Environment(
        loader=PackageLoader("onereward.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": name,
        "narrow": narrow,
        "percent": percent,
        "signed": signed,
        "between": between,
        "duration": duration,
        "points": points,
        "chance": chance,
        "picture": picture,
    }
    rivals = [row for row in report.scores if row.editor != BASE]
    return environment.get_template("page.html").render(
        style=charts.style(),
        report=report,
        headline=headline(report),
        cell_name=cell_name,
        judge=judge_section(report.table),
        curve_rows=_curve_rows(report.curves),
        measures={curve.editor: curve.measure for curve in report.curves},
        example_tasks=_by_task(report.examples),
        rivals=_distinct(row.editor for row in rivals),
        score_cells=_by_cell(report.scores),
        score_chart=_score_chart(rivals),
        gsb_charts={editor: _gsb_chart(report.gsb, editor) for editor in _distinct(row.editor for row in report.gsb)},
        timing_chart=_timing_chart(report.timing),
        settings=_by_stage(report),
    )


def picture(data: bytes) -> Markup:
    """An image file as a data URI."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def headline(report: Report) -> list[tuple[str, str, str]]:
    """The few figures that answer the question first: (what, figure, its interval and n)."""
    judges = _distinct(row.variant for row in report.judge)
    shown = [main_row(judges)] if report.gsb else judges
    tiles = [
        (
            f"{'Judge' if report.gsb else name(row.variant) + ':'} right on held-out pairs, mean of nine cells",
            percent(row.accuracy, 1),
            f"{percent(row.low)} to {percent(row.high)}, n = {row.n}",
        )
        for row in report.judge
        if row.task == MEAN and row.variant in shown
    ]
    return tiles + [
        (
            f"{name(row.editor)}, {name(row.task).lower()}: better minus worse than the base",
            signed(row.net, 2),
            f"{between(row.low, row.high)}, n = {row.n}",
        )
        for row in report.gsb
        if row.dimension == ALL and row.task != Task.TEXT
    ]


def _score_chart(rows: Sequence[ScoreRow]) -> Markup:
    chart_rows = []
    for (task, dimension), of in _by_cell(rows).items():
        marks = tuple(
            charts.Mark(series=editor, value=row.difference, low=row.difference_low, high=row.difference_high)
            for editor, row in of.items()
        )
        note = " / ".join(signed(row.difference) for row in of.values())
        chart_rows.append(charts.Row(group=name(task), label=name(dimension), marks=marks, note=note))
    reach = max((abs(end) for row in rows for end in (row.difference_low, row.difference_high)), default=0.1)
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if reach <= 4 * step or step == 1.0)
    count = int(reach / step) + 1
    ticks = tuple(round(step * place, 2) for place in range(-count, count + 1))
    axis = charts.Axis(low=ticks[0], high=ticks[-1], ticks=ticks, text=lambda tick: signed(tick, 2), reference=0)
    return charts.interval_chart(chart_rows, axis, title="Score difference from the base by task and dimension")


def _gsb_chart(rows: Sequence[GoodSameBad], editor: str) -> Markup:
    bars = []
    for task in Task:
        of_task = [row for row in rows if row.editor == editor and row.task == task]
        for row in sorted(of_task, key=lambda row: row.dimension != ALL):  # the task's own bar first
            total = row.good + row.same + row.bad
            bars.append(
                charts.Bar(
                    label=name(task) if row.dimension == ALL else name(row.dimension),
                    good=row.good / total,
                    same=row.same / total,
                    bad=row.bad / total,
                    note=f"{signed(row.net, 2)} ({between(row.low, row.high)})",
                    strong=row.dimension == ALL,
                )
            )
    return charts.bars_chart(bars, title=f"Good, same and bad of {name(editor)} against the base")


def _curve_rows(curves: Sequence[Curve]) -> list[tuple[Task, list[tuple[Dimension, Markup]]]]:
    """(task, [(dimension, panel)]) in the order of the tables."""
    last_step = max((curve.steps[-1] for curve in curves), default=1.0)
    rows = []
    for task in Task:
        panels = []
        for dimension in DIMENSIONS[task]:
            lines = tuple(
                charts.Line(series=curve.editor, steps=curve.steps, raw=curve.values, smooth=curve.smooth)
                for curve in curves
                if (curve.task, curve.dimension) == (task, dimension)
            )
            if lines:
                panel = charts.Panel(title=f"P(better), {cell_name(task, dimension)}", lines=lines)
                panels.append((dimension, charts.curve_panel(panel, last_step=last_step)))
        if panels:
            rows.append((task, panels))
    return rows


def _timing_chart(rows: Sequence[TimeRow]) -> Markup:
    chart_rows = [
        (row.stage, row.seconds, duration(row.seconds) + (f" of {duration(row.budget)}" if row.budget else ""))
        for row in rows
    ]
    return charts.time_chart(chart_rows, title="Wall time of each stage")


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _by_cell(rows: Sequence[ScoreRow]) -> dict[tuple[str, str], dict[str, ScoreRow]]:
    """(task, dimension) -> editor -> row."""
    cells: dict[tuple[str, str], dict[str, ScoreRow]] = {}
    for row in rows:
        cells.setdefault((row.task, row.dimension), {})[row.editor] = row
    return cells


def _by_task(examples: Sequence[Example]) -> dict[Task, list[Example]]:
    return {task: found for task in Task if (found := [example for example in examples if example.task is task])}


def _by_stage(report: Report) -> dict[str, list[tuple[str, str]]]:
    stages: dict[str, list[tuple[str, str]]] = {}
    for setting in report.settings:
        stages.setdefault(setting.stage, []).append((setting.name, setting.value))
    return stages
