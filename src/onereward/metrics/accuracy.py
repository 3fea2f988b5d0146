"""Judge accuracy: the share of held-out preferences that it answers right, with its interval (Tables 1 and 4)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from onereward.metrics.calibration import calibration
from onereward.metrics.intervals import Interval, bootstrap_ratio, cluster_table, wilson
from onereward.metrics.records import Answer
from onereward.terms import DIMENSIONS, Dimension, Task

MEAN = "mean"
"""In `task` and `dimension` of an accuracy row: the mean over the nine cells."""

NINE_CELLS = tuple(
    (task, dimension) for task in (Task.FILL, Task.EXTEND, Task.REMOVE) for dimension in DIMENSIONS[task]
)
"""The cells of Table 1, which carry the bars; text's four rows are reported beside them."""


class IntervalMethod(StrEnum):
    """Wilson's where every pair has a group of its own; else the bootstrap over groups, as Wilson's would be narrow."""

    WILSON = "wilson"
    BOOTSTRAP = "bootstrap"


@dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """Accuracy of one variant of asking in one cell, as fractions.

    `n` counts pairs, each asked in both orders; the `ties` beside them count nowhere. [low, high] is the 95 % interval
    by `interval`. `flips` is the share of pairs whose answer flips with the order, as it should; `ece`, `ece_floor` and
    `brier` are those of `Calibration`; `outside` is the mean probability of every word but the two answers (None where
    an older version did not write it). In the mean over the nine cells every cell weighs the same, whatever its n.
    """

    task: str
    dimension: str
    variant: str
    n: int
    accuracy: float
    low: float
    high: float
    interval: IntervalMethod
    flips: float
    ece: float
    ece_floor: float
    brier: float
    outside: float | None
    ties: int


def accuracy_rows(answers: Iterable[Answer], *, seed: int = 0) -> list[AccuracyRow]:
    """One row a (variant, task, dimension) present, and per variant the mean over the nine cells when all are present.

    A cell that holds nothing but ties has no row. Variants keep their order of first appearance.
    """
    by_variant: dict[str, list[Answer]] = {}
    for answer in answers:
        by_variant.setdefault(answer.variant, []).append(answer)
    return [row for variant, group in by_variant.items() for row in _variant_rows(variant, group, seed)]


def _variant_rows(variant: str, answers: Sequence[Answer], seed: int) -> list[AccuracyRow]:
    cells: dict[tuple[Task, Dimension], list[Answer]] = {(task, e): [] for task in Task for e in DIMENSIONS[task]}
    ties = dict.fromkeys(cells, 0)
    for answer in answers:
        if answer.tie:
            ties[answer.task, answer.dimension] += 1
        else:
            cells[answer.task, answer.dimension].append(answer)
    rows = {cell: _row(*cell, variant, group, ties[cell], seed) for cell, group in cells.items() if group}
    if set(NINE_CELLS) <= rows.keys():
        nine = [answer for cell in NINE_CELLS for answer in cells[cell]]
        return [*rows.values(), _mean_row(variant, [rows[cell] for cell in NINE_CELLS], _bootstrap(nine, seed))]
    return list(rows.values())


def _row(task: str, dimension: str, variant: str, answers: Sequence[Answer], ties: int, seed: int) -> AccuracyRow:
    alone = len({answer.group for answer in answers}) == len(answers)
    interval = wilson(sum(a.is_right for a in answers), len(answers)) if alone else _bootstrap(answers, seed)
    method = IntervalMethod.WILSON if alone else IntervalMethod.BOOTSTRAP
    outside = [answer.outside for answer in answers if answer.outside is not None]
    return AccuracyRow(
        task=str(task),
        dimension=str(dimension),
        variant=variant,
        n=len(answers),
        accuracy=interval.value,
        low=interval.low,
        high=interval.high,
        interval=method,
        flips=fmean(answer.flips for answer in answers),
        outside=fmean(outside) if len(outside) == len(answers) else None,
        ties=ties,
        **vars(calibration(answers, seed=seed)),
    )


def _mean_row(variant: str, cells: Sequence[AccuracyRow], interval: Interval) -> AccuracyRow:
    outside = [row.outside for row in cells if row.outside is not None]
    return AccuracyRow(
        task=MEAN,
        dimension=MEAN,
        variant=variant,
        n=sum(row.n for row in cells),
        accuracy=interval.value,
        low=interval.low,
        high=interval.high,
        interval=IntervalMethod.BOOTSTRAP,
        flips=fmean(row.flips for row in cells),
        ece=fmean(row.ece for row in cells),
        ece_floor=fmean(row.ece_floor for row in cells),
        brier=fmean(row.brier for row in cells),
        outside=fmean(outside) if len(outside) == len(cells) else None,
        ties=sum(row.ties for row in cells),
    )


def _bootstrap(answers: Sequence[Answer], seed: int) -> Interval:
    """Mean over the cells of the share of right answers, whole groups resampled."""
    right = [float(answer.is_right) for answer in answers]
    groups = [answer.group for answer in answers]
    sums, counts = cluster_table(right, groups, [(answer.task, answer.dimension) for answer in answers])
    return bootstrap_ratio(sums, counts, seed=seed)
