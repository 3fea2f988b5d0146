"""The report's main figures as terminal tables."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from onereward.charts import percent, signed
from onereward.metrics.accuracy import AccuracyRow
from onereward.metrics.gsb import ALL, GoodSameBad
from onereward.report.content import Report
from onereward.report.words import cell_name, name


def print_summary(report: Report, page: Path, console: Console) -> None:
    """Print judge accuracy, Good-Same-Bad and where the page lies."""
    if report.judge:
        console.print(_judge_table(report.judge))
    if report.gsb:
        console.print(_gsb_table(report.gsb))
    console.print(f"Report: {page}", soft_wrap=True, highlight=False)


def _judge_table(rows: Sequence[AccuracyRow]) -> Table:
    variants = list(dict.fromkeys(row.variant for row in rows))
    table = Table("cell", "n", *map(name, variants), title="Judge accuracy on held-out pairs, 95 % interval")
    for cell in dict.fromkeys((row.task, row.dimension) for row in rows):
        by_variant = {row.variant: row for row in rows if (row.task, row.dimension) == cell}
        n = max(row.n for row in by_variant.values())
        table.add_row(cell_name(*cell), str(n), *[_accuracy(by_variant.get(variant)) for variant in variants])
    return table


def _accuracy(row: AccuracyRow | None) -> str:
    return f"{percent(row.accuracy)} ({100 * row.low:.0f}–{100 * row.high:.0f})" if row else "–"


def _gsb_table(rows: Sequence[GoodSameBad]) -> Table:
    table = Table(
        "editor", "task", "good / same / bad", "net, 95 % interval", "n", title="Good-Same-Bad against the base"
    )
    for row in rows:
        if row.dimension == ALL:
            net = f"{signed(row.net, 2)} ({signed(row.low, 2)} to {signed(row.high, 2)})"
            table.add_row(name(row.editor), name(row.task), f"{row.good} / {row.same} / {row.bad}", net, str(row.n))
    return table
