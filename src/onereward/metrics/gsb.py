"""Good-Same-Bad (Fig. 7) and paired score differences of an editor against the base on the same triplets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onereward.metrics.intervals import bootstrap_mean
from onereward.metrics.records import CEILING, HOLE, Score
from onereward.terms import Dimension, Task

ALL = "all"
"""In `dimension`: over the task's dimensions together."""


@dataclass(frozen=True, kw_only=True)
class GoodSameBad:
    """How often an editor is better than, equal to and worse than the base.

    good, same and bad count verdicts, one an image and dimension; net = (good - bad) / n averaged over the task's
    dimensions per triplet, in [-1, 1]; the interval resamples the n triplets.
    """

    editor: str
    task: str
    dimension: str
    good: int
    same: int
    bad: int
    net: float
    low: float
    high: float
    n: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """Mean score of an editor in one cell and its paired difference from the base with the bootstrap interval.

    `normalised` is (score - hole) / (ceiling - hole) where both ends were evaluated, else None.
    """

    editor: str
    task: str
    dimension: str
    scorer: str
    n: int
    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    normalised: float | None


Table = Mapping[tuple[Task, Dimension], Mapping[str, Mapping[str, Score]]]
"""cell -> editor -> triplet id -> score."""


def score_table(scores: Iterable[Score]) -> Table:
    """Scores arranged by cell, editor and triplet; raises ValueError when one of them is there twice."""
    table: dict[tuple[Task, Dimension], dict[str, dict[str, Score]]] = {}
    for score in scores:
        of_editor = table.setdefault((score.task, score.dimension), {}).setdefault(score.editor, {})
        if score.triplet_id in of_editor:
            raise ValueError(
                f"got two scores of {score.editor} for {score.triplet_id} in {score.dimension}, expected one"
            )
        of_editor[score.triplet_id] = score
    return table


def good_same_bad(table: Table, editor: str, base: str = "base", *, seed: int = 0) -> list[GoodSameBad]:
    """One row a task and dimension, and one a task over `all` its dimensions, of `editor` against `base`."""
    rows = []
    for task in Task:
        verdicts = {e: _verdicts(table[task, e], editor, base) for e in Dimension if (task, e) in table}
        if not verdicts:
            continue
        rows += [_gsb_row(editor, task, e, list(of.values()), list(of.values()), seed) for e, of in verdicts.items()]
        per_triplet: dict[str, list[int]] = {}
        for of in verdicts.values():
            for triplet, verdict in of.items():
                per_triplet.setdefault(triplet, []).append(verdict)
        everything = [verdict for group in per_triplet.values() for verdict in group]
        means = [sum(group) / len(group) for group in per_triplet.values()]
        rows.append(_gsb_row(editor, task, ALL, everything, means, seed))
    return rows


def score_rows(table: Table, editor: str, base: str = "base", *, seed: int = 0) -> list[ScoreRow]:
    """One row a task and dimension: the editor's mean and its paired difference from `base`, with intervals."""
    rows = []
    for (task, dimension), editors in sorted(table.items(), key=lambda item: _cell_order(*item[0])):
        pairs = _paired(editors, editor, base)
        mean = bootstrap_mean([mine.value for mine, _ in pairs], seed=seed)
        difference = bootstrap_mean([mine.value - theirs.value for mine, theirs in pairs], seed=seed)
        rows.append(
            ScoreRow(
                editor=editor,
                task=task,
                dimension=dimension,
                scorer=pairs[0][0].scorer,
                n=len(pairs),
                mean=mean.value,
                low=mean.low,
                high=mean.high,
                difference=difference.value,
                difference_low=difference.low,
                difference_high=difference.high,
                normalised=_normalised_in(editors, mean.value),
            )
        )
    return rows


def normalised(score: float, hole: float, ceiling: float) -> float:
    """(score - hole) / (ceiling - hole): 0 is the unedited hole, 1 the best that the VAE lets through."""
    if not ceiling > hole:
        raise ValueError(
            f"got a ceiling of {ceiling:.3f} and a hole of {hole:.3f}, expected the ceiling above the hole"
        )
    return (score - hole) / (ceiling - hole)


def _cell_order(task: Task, dimension: Dimension) -> tuple[int, int]:
    return list(Task).index(task), list(Dimension).index(dimension)


def _paired(editors: Mapping[str, Mapping[str, Score]], editor: str, base: str) -> list[tuple[Score, Score]]:
    """(editor's, base's) scores by triplet; both must cover the same triplets, or the comparison is not paired."""
    unknown = {editor, base} - set(editors)
    if unknown:
        raise ValueError(f"no scores of {', '.join(sorted(unknown))}; known editors: {', '.join(sorted(editors))}")
    if editors[editor].keys() != editors[base].keys():
        raise ValueError(f"{editor} and {base} were scored on different triplets: evaluate them in one command")
    return [(editors[editor][triplet], editors[base][triplet]) for triplet in sorted(editors[editor])]


def _verdicts(editors: Mapping[str, Mapping[str, Score]], editor: str, base: str) -> dict[str, int]:
    """Triplet -> 1 good, 0 same, -1 bad."""
    return {
        mine.triplet_id: int(np.sign(gain)) if abs(gain := mine.value - theirs.value) > mine.dead_band else 0
        for mine, theirs in _paired(editors, editor, base)
    }


def _gsb_row(
    editor: str, task: str, dimension: str, verdicts: Sequence[int], per_triplet: Sequence[float], seed: int
) -> GoodSameBad:
    net = bootstrap_mean(per_triplet, seed=seed)
    return GoodSameBad(
        editor=editor,
        task=str(task),
        dimension=str(dimension),
        good=sum(verdict > 0 for verdict in verdicts),
        same=sum(verdict == 0 for verdict in verdicts),
        bad=sum(verdict < 0 for verdict in verdicts),
        net=net.value,
        low=net.low,
        high=net.high,
        n=len(per_triplet),
        seed=seed,
    )


def _normalised_in(editors: Mapping[str, Mapping[str, Score]], score: float) -> float | None:
    if HOLE not in editors or CEILING not in editors:
        return None
    hole, ceiling = (float(np.mean([s.value for s in editors[name].values()])) for name in (HOLE, CEILING))
    return normalised(score, hole, ceiling) if ceiling > hole else None
