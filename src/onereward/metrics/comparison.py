"""Is one row of the judge's table better than another on the same pairs? McNemar's exact test, Holm-corrected."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onereward.metrics.gsb import ALL
from onereward.metrics.intervals import bootstrap_mean
from onereward.metrics.records import Answer
from onereward.query import Variant
from onereward.terms import DIMENSIONS, Task


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row of the table against another in one cell, or over all cells together (`all`), on the same `n` pairs.

    `gained` pairs only `variant` answers right, `lost` ones only `against`. difference = (gained - lost) / n is a
    fraction whose interval resamples groups of pairs. `p` is of no difference; `p_holm` is corrected for the cells of
    this comparison (over all cells it is `p`).
    """

    variant: str
    against: str
    task: str
    dimension: str
    n: int
    gained: int
    lost: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def comparison_rows(answers: Iterable[Answer], *, seed: int = 0) -> list[Comparison]:
    """Every row against `task_dimension`, or against the last where no row is called so.

    Ties are left out, and so is a row that answers other preferences than the one it is compared with.
    """
    by_variant: dict[str, list[Answer]] = {}
    for answer in answers:
        by_variant.setdefault(answer.variant, []).append(answer)
    if not by_variant:
        return []
    against = Variant.TASK_DIMENSION if Variant.TASK_DIMENSION in by_variant else list(by_variant)[-1]
    theirs = by_variant.pop(against)
    return [
        row
        for mine in by_variant.values()
        if [_preference(answer) for answer in mine] == [_preference(answer) for answer in theirs]
        for row in _compare([pair for pair in zip(mine, theirs, strict=True) if not pair[0].tie], seed)
    ]


def sign_flip_p(differences: Iterable[int]) -> float:
    """Two-sided p of the sum of differences when each may as well have had the other sign, exactly.

    With differences of 1, 0 and -1 it is McNemar's exact test; larger ones are groups of pairs that belong together,
    of which McNemar's test would count each pair as a witness of its own.
    """
    values = list(differences)
    share = np.ones(1)  # of each sum from -reach to reach, in steps of 1
    for size in (abs(value) for value in values if value):
        grown = np.zeros(len(share) + 2 * size)
        grown[: len(share)] += share / 2
        grown[2 * size :] += share / 2
        share = grown
    sums = np.arange(len(share)) - len(share) // 2
    return min(1.0, float(share[np.abs(sums) >= abs(sum(values))].sum()))


def _preference(answer: Answer) -> tuple[object, ...]:
    """Which preference was answered."""
    return answer.triplet_id, answer.task, answer.dimension, answer.voter, answer.winner_index, answer.loser_index


def _compare(pairs: Sequence[tuple[Answer, Answer]], seed: int) -> list[Comparison]:
    from statsmodels.stats.multitest import multipletests

    if not pairs:
        return []
    cells = [(task, dimension) for task in Task for dimension in DIMENSIONS[task]]
    of_cell = {cell: [pair for pair in pairs if (pair[0].task, pair[0].dimension) == cell] for cell in cells}
    rows = [_comparison(*cell, of, seed) for cell, of in of_cell.items() if of]
    corrected = multipletests([row.p for row in rows], method="holm")[1]
    rows = [replace(row, p_holm=float(p)) for row, p in zip(rows, corrected, strict=True)]
    return [*rows, _comparison(ALL, ALL, pairs, seed)]


def _comparison(task: str, dimension: str, pairs: Sequence[tuple[Answer, Answer]], seed: int) -> Comparison:
    differences = [mine.is_right - theirs.is_right for mine, theirs in pairs]
    groups = [mine.group for mine, _ in pairs]
    of_group: dict[str, int] = dict.fromkeys(groups, 0)
    for group, difference in zip(groups, differences, strict=True):
        of_group[group] += difference
    interval = bootstrap_mean(differences, seed=seed, clusters=groups)
    p = sign_flip_p(of_group.values())
    return Comparison(
        variant=pairs[0][0].variant,
        against=pairs[0][1].variant,
        task=str(task),
        dimension=str(dimension),
        n=len(pairs),
        gained=differences.count(1),
        lost=differences.count(-1),
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p=p,
        p_holm=p,
    )
