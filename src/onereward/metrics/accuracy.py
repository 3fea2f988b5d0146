"""Judge accuracy: the share of held-out preferences that the judge answers right, with its interval (Table 1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onereward.metrics.intervals import bootstrap_ratio, cluster_table
from onereward.metrics.records import Answer
from onereward.terms import DIMENSIONS, Dimension, Task

MEAN = "mean"
"""In `task` and `dimension` of an accuracy row: the mean over the nine cells."""

NINE_CELLS = tuple(
    (task, dimension) for task in (Task.FILL, Task.EXTEND, Task.REMOVE) for dimension in DIMENSIONS[task]
)
"""The cells of Table 1, which carry the bars; text's four rows are reported beside them."""


@dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """Accuracy of one variant of asking in one cell, as fractions.

    `n` counts distinct pairs, each asked in both orders; `flips` is the share of pairs whose answer flips with the
    order; the interval [low, high] resamples triplets.
    """

    task: str
    dimension: str
    variant: str
    n: int
    accuracy: float
    low: float
    high: float
    flips: float


def accuracy_rows(answers: Iterable[Answer], *, seed: int = 0) -> list[AccuracyRow]:
    """One row a (variant, task, dimension) present, and per variant the mean over the nine cells when all are present.

    The mean weighs cells equally, whatever their n. Variants keep their order of first appearance.
    """
    by_variant: dict[str, list[Answer]] = {}
    for answer in answers:
        by_variant.setdefault(answer.variant, []).append(answer)
    return [row for variant, group in by_variant.items() for row in _variant_rows(variant, group, seed)]


def _variant_rows(variant: str, answers: Sequence[Answer], seed: int) -> list[AccuracyRow]:
    cells: dict[tuple[Task, Dimension], list[Answer]] = {(task, e): [] for task in Task for e in DIMENSIONS[task]}
    for answer in answers:
        cells[answer.task, answer.dimension].append(answer)
    rows = [_row(*cell, variant, group, seed) for cell, group in cells.items() if group]
    if all(cells[cell] for cell in NINE_CELLS):
        rows.append(_row(MEAN, MEAN, variant, [answer for cell in NINE_CELLS for answer in cells[cell]], seed))
    return rows


def _row(task: str, dimension: str, variant: str, answers: Sequence[Answer], seed: int) -> AccuracyRow:
    right = [float(answer.is_right) for answer in answers]
    triplets = [answer.triplet_id for answer in answers]
    sums, counts = cluster_table(right, triplets, [(answer.task, answer.dimension) for answer in answers])
    interval = bootstrap_ratio(sums, counts, seed=seed)
    return AccuracyRow(
        task=str(task),
        dimension=str(dimension),
        variant=variant,
        n=len(answers),
        accuracy=interval.value,
        low=interval.low,
        high=interval.high,
        flips=sum(answer.flips for answer in answers) / len(answers),
    )
