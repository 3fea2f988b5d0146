"""How often voters agree with one another: what a judge of their preferences can at most be asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onereward.metrics.accuracy import MEAN, NINE_CELLS
from onereward.metrics.intervals import Interval, bootstrap_ratio, cluster_table
from onereward.metrics.records import Answer
from onereward.terms import DIMENSIONS, Dimension, Task


@dataclass(frozen=True, kw_only=True)
class CeilingRow:
    """Agreement of each voter's pair with the majority of the other voters of his `kind` in one cell, a fraction.

    Of a triplet with votes of several voters each is left out in turn; `n` counts pairs about which the others say
    something. The interval resamples groups of pairs. All three are None where n is 0: nobody voted on the same.
    """

    kind: str
    task: str
    dimension: str
    n: int
    accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class _Agreement:
    cell: tuple[Task, Dimension]
    group: str
    value: float


def ceiling_rows(answers: Iterable[Answer], *, seed: int = 0) -> list[CeilingRow]:
    """One row a (kind of voter, task, dimension) present, and the mean of the nine cells where all have votes.

    `answers` are one row's, each of which tells the vote it is about.
    """
    by_kind: dict[str, list[Answer]] = {}
    for answer in answers:
        if not answer.tie:
            by_kind.setdefault(answer.kind, []).append(answer)
    return [row for kind, group in by_kind.items() for row in _kind_rows(kind, group, seed)]


def _kind_rows(kind: str, answers: Sequence[Answer], seed: int) -> list[CeilingRow]:
    agreements = _agreements(answers)
    asked = {(answer.task, answer.dimension) for answer in answers}
    cells = [(task, dimension) for task in Task for dimension in DIMENSIONS[task] if (task, dimension) in asked]
    rows = [_row(kind, *cell, [a for a in agreements if a.cell == cell], seed) for cell in cells]
    if set(NINE_CELLS) <= {agreement.cell for agreement in agreements}:
        rows.append(_row(kind, MEAN, MEAN, [a for a in agreements if a.cell in NINE_CELLS], seed))
    return rows


def _agreements(answers: Sequence[Answer]) -> list[_Agreement]:
    """1 where the others agree with the pair left out, 0 where they do not, 1/2 where they are divided."""
    votes: dict[tuple[str, Dimension], list[Answer]] = {}
    for answer in answers:
        votes.setdefault((answer.triplet_id, answer.dimension), []).append(answer)
    agreements = []
    for of in votes.values():
        says = _says if len({vote.voter for vote in of}) == len(of) else _says_of_the_same
        for left_out in of:
            said = [says(other, left_out) for other in of if other.voter != left_out.voter]
            if any(said):
                agreements.append(
                    _Agreement(
                        cell=(left_out.task, left_out.dimension),
                        group=left_out.group,
                        value=(1 + (sum(said) > 0) - (sum(said) < 0)) / 2,
                    )
                )
    return agreements


def _says(vote: Answer, pair: Answer) -> int:
    """1 if a vote's best or worst says that the pair's winner is better, -1 if its loser, 0 if it says nothing.

    The best of N beats every other candidate and the worst loses to every other.
    """
    if vote.winner_index == pair.winner_index or vote.loser_index == pair.loser_index:
        return 1
    return -(vote.winner_index == pair.loser_index or vote.loser_index == pair.winner_index)


def _says_of_the_same(vote: Answer, pair: Answer) -> int:
    """The same where a voter has several pairs of a triplet: they are not best and worst, and say nothing of others."""
    same = {vote.winner_index, vote.loser_index} == {pair.winner_index, pair.loser_index}
    return _says(vote, pair) if same else 0


def _row(kind: str, task: str, dimension: str, agreements: Sequence[_Agreement], seed: int) -> CeilingRow:
    interval = _interval(agreements, seed) if agreements else None
    return CeilingRow(
        kind=kind,
        task=str(task),
        dimension=str(dimension),
        n=len(agreements),
        accuracy=interval.value if interval else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
    )


def _interval(agreements: Sequence[_Agreement], seed: int) -> Interval:
    """Cells weigh equally, as in the judge's own mean."""
    sums, counts = cluster_table(
        [a.value for a in agreements], [a.group for a in agreements], [a.cell for a in agreements]
    )
    return bootstrap_ratio(sums, counts, seed=seed)
