"""How far people who answered the same questions agree: Krippendorff's alpha and agreement of pairs, with intervals.

Shape legend: I items, V distinct values, R resamples of items. Krippendorff, Content Analysis (2018), chapter 12.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from onereward.metrics.intervals import CONFIDENCE, RESAMPLES, Interval
from onereward.seeds import numpy_generator

Array = NDArray[np.float64]


class Level(StrEnum):
    """How far apart two answers are: equal or not, by ranks, or by their difference (all but nominal need numbers)."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One person's answer about one item; what was not answered is left out."""

    item: Hashable
    person: Hashable
    value: Hashable


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement over the `items` that two or more of the `people` answered, with intervals over items.

    `alpha` is 1 for perfect agreement and 0 for what chance gives; None where all answers are the same, or none are
    paired. `pairwise` is the share of equal answers among pairs of people, each item weighed by its number of answers
    as in alpha; None where none are paired.
    """

    level: Level
    items: int
    people: int
    answers: int
    alpha: Interval | None
    pairwise: Interval | None


def agreement(
    answers: Iterable[Answered],
    *,
    level: Level,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Agreement:
    """Alpha and agreement of pairs; items with one answer say nothing and are left out.

    Raises ValueError when a person answered an item twice, and for words where `level` needs numbers.
    """
    by_item: dict[Hashable, dict[Hashable, Hashable]] = {}
    for answer in answers:
        of_item = by_item.setdefault(answer.item, {})
        if answer.person in of_item:
            raise ValueError(f"got two answers of {answer.person} about {answer.item}, expected one: keep the last")
        of_item[answer.person] = answer.value
    paired = [of_item for of_item in by_item.values() if len(of_item) > 1]
    people = {person for of_item in paired for person in of_item}
    counted = sum(len(of_item) for of_item in paired)
    if not paired:
        return Agreement(level=level, items=0, people=0, answers=0, alpha=None, pairwise=None)
    pairs_IVV, values_V = _coincidences(paired, level)
    generator = numpy_generator(seed, "agreement", len(paired))
    uniform = np.full(len(paired), 1 / len(paired))
    weights_RI = generator.multinomial(len(paired), uniform, size=resamples).astype(np.float64)
    tables_RVV = np.tensordot(np.vstack([np.ones(len(paired)), weights_RI]), pairs_IVV, axes=1)
    equal_R = np.einsum("rvv->r", tables_RVV) / tables_RVV.sum(axis=(1, 2))
    return Agreement(
        level=level,
        items=len(paired),
        people=len(people),
        answers=counted,
        alpha=_interval(_alphas(tables_RVV, values_V, level), confidence),
        pairwise=_interval(equal_R, confidence),
    )


def _coincidences(paired: list[dict[Hashable, Hashable]], level: Level) -> tuple[Array, Array]:
    """Each item's coincidences, (items, values, values): ordered pairs of answers over (answers - 1); and the values.

    For `nominal` the values are only counted, 0, 1, 2, ...
    """
    values = list(dict.fromkeys(value for of_item in paired for value in of_item.values()))
    if level is not Level.NOMINAL:
        wrong = [value for value in values if not isinstance(value, int | float)]
        if wrong:
            raise ValueError(f"got the answer {wrong[0]!r}, expected numbers: answers without an order are nominal")
        values.sort(key=lambda value: float(value))  # type: ignore[arg-type]
    place = {value: index for index, value in enumerate(values)}
    counts_IV = np.zeros((len(paired), len(values)))
    for row, of_item in zip(counts_IV, paired, strict=True):
        np.add.at(row, [place[value] for value in of_item.values()], 1)
    pairs_IVV = counts_IV[:, :, None] * counts_IV[:, None, :]
    np.einsum("ivv->iv", pairs_IVV)[...] -= counts_IV  # nobody is paired with himself
    numbers = range(len(values)) if level is Level.NOMINAL else values
    return pairs_IVV / (counts_IV.sum(axis=1) - 1)[:, None, None], np.array(numbers, dtype=np.float64)


def _alphas(tables_RVV: Array, values_V: Array, level: Level) -> Array:
    """1 - observed / expected disagreement of each table of coincidences; nan where all answers are the same."""
    totals_RV = tables_RVV.sum(axis=2)
    answers_R = totals_RV.sum(axis=1)
    distances = _distances(totals_RV, values_V, level)
    observed_R = (tables_RVV * distances).sum(axis=(1, 2))
    expected_R = (totals_RV[:, :, None] * totals_RV[:, None, :] * distances).sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        alphas: Array = 1 - (answers_R - 1) * observed_R / expected_R
    return alphas


def _distances(totals_RV: Array, values_V: Array, level: Level) -> Array:
    """Squared distances (1 or R, V, V); by rank, they depend on how often each value was given."""
    if level is Level.NOMINAL:
        return 1 - np.eye(len(values_V))[None]
    if level is Level.INTERVAL:
        return ((values_V[:, None] - values_V[None]) ** 2)[None]
    ranks_RV = totals_RV.cumsum(axis=1) - totals_RV / 2  # the middle of those who gave the value
    return (ranks_RV[:, :, None] - ranks_RV[:, None, :]) ** 2


def _interval(estimates: Array, confidence: float) -> Interval | None:
    """The first is the estimate, the others are its resamples; None where the estimate is not defined."""
    if np.isnan(estimates[0]):
        return None
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(estimates[1:], [tail, 1 - tail])
    return Interval(value=float(estimates[0]), low=float(low), high=float(high))
