"""How many ratings an interval of a wanted width needs, from what makes ratings differ."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from onereward.metrics.intervals import CONFIDENCE, IntArray, codes_of, crossed_variances, t_reach
from onereward.study.criteria import Criterion

_MOST = 10_000
_SPAN = max(criterion.bounds[1] - criterion.bounds[0] for criterion in Criterion)
"""Of the longest scale, from 1 to 5."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances of a rating: between participants, between items, and of what neither explains; in squared units."""

    participants: float
    items: float
    ratings: float

    def __post_init__(self) -> None:
        for name, variance in vars(self).items():
            if not 0 <= variance < math.inf:
                raise ValueError(f"got a variance of {variance:g} for {name}, expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class StudySize:
    """A study's numbers for one system in one cell, and the half-width of the interval to expect."""

    participants: int
    items: int
    answers: int
    """Of each output."""
    half_width: float

    @property
    def ratings(self) -> int:
        """All ratings of one system."""
        return self.items * self.answers


def components_of(values: ArrayLike, participants: Sequence[Hashable], items: Sequence[Hashable]) -> Components:
    """Components of a pilot's ratings, or of differences or comparisons; the design may be incomplete.

    Moments: the three variances of the mean in `metrics/intervals.py`, solved for the components, none below 0.
    Raises ValueError for fewer than two participants or items.
    """
    ratings = np.asarray(values, dtype=np.float64)
    people, things = codes_of(participants), codes_of(items)
    if len(ratings) < 3 or people.max() == 0 or things.max() == 0:
        raise ValueError(
            f"got {len(ratings)} ratings of {len(set(participants))} participants and {len(set(items))} items, "
            "expected a pilot of at least two of each"
        )
    count = len(ratings)
    found = crossed_variances((ratings - ratings.mean()) / count, people, things)
    of_people = _component(found.participants - found.ratings, people)
    of_items = _component(found.items - found.ratings, things)
    rest = max(0.0, count * found.ratings - of_people - of_items)
    return Components(participants=of_people, items=of_items, ratings=rest)


def half_width(
    components: Components, *, participants: int, items: int, answers: int, confidence: float = CONFIDENCE
) -> float:
    """Half the width of the interval to expect where each item has `answers` ratings, spread evenly over participants.

    t * sqrt(participants' variance / participants + items' / items + rest / (items * answers)), t as in
    `crossed_bootstrap`. Raises ValueError for more answers an item than participants, or fewer than two of either.
    """
    if min(participants, items) < 2 or not 1 <= answers <= participants:
        raise ValueError(
            f"got {participants} participants, {items} items and {answers} answers an output, expected two or more "
            "participants and items, and 1 answer or more but no more than participants"
        )
    variance = components.participants / participants + components.items / items
    variance += components.ratings / (items * answers)
    return t_reach(min(participants, items), confidence) * math.sqrt(variance)


def items_needed(
    components: Components, wanted: float, *, answers: int, items_a_participant: int, confidence: float = CONFIDENCE
) -> StudySize:
    """The smallest study whose interval reaches no further than `wanted` to either side.

    Each participant rates `items_a_participant` items of each system, each output gets `answers` ratings, so that
    participants grow with items. Raises ValueError if no study of up to 10,000 items reaches it, and for numbers that
    make no sense.
    """
    _check(wanted, items_a_participant, answers=answers)
    for items in range(max(2, items_a_participant), _MOST + 1):
        size = _size(components, items, answers, items_a_participant, confidence)
        if size and size.half_width <= wanted:
            return size
    raise ValueError(f"no study of up to {_MOST:,} items gives ± {wanted:g}: ask for a wider interval")


def answers_needed(
    components: Components, wanted: float, *, items: int, items_a_participant: int, confidence: float = CONFIDENCE
) -> StudySize:
    """The smallest study about these items: as `items_needed`, but answers an output (and participants) grow.

    Raises ValueError where the items are too few for `wanted`, however many people rate them, with the half-width that
    could be reached, and for numbers that make no sense.
    """
    _check(wanted, items_a_participant, items=items)
    if items_a_participant > items:
        raise ValueError(
            f"got {items_a_participant} items a participant, expected 1 to {items}, each rated at most once"
        )
    sizes = []
    for answers in range(1, 201):
        size = _size(components, items, answers, items_a_participant, confidence)
        if size and size.half_width <= wanted:
            return size
        sizes.append(size.half_width if size else math.inf)
    raise ValueError(
        f"{items} items cannot give ± {wanted:g}: even 200 ratings an output give ± {sizes[-1]:.3g}; add items"
    )


def _component(excess: float, codes_N: IntArray) -> float:
    """The variance between groups that makes the mean's variance larger by `excess`; 0 where groups have one rating."""
    count = len(codes_N)
    share = float((np.bincount(codes_N) ** 2).sum()) / count**2 - 1 / count
    return max(0.0, excess / share) if share > 1e-12 else 0.0


def _check(wanted: float, items_a_participant: int, **count: int) -> None:
    """Raise ValueError for numbers that are those of no study; `count` is that of items or of answers, by its name."""
    if not 0 < wanted < _SPAN / 2:  # nor no number
        raise ValueError(
            f"got a half width of {wanted:g}, expected more than 0 and less than {_SPAN / 2:g}, which is half of the "
            "whole scale from 1 to 5: 0.2 for a score or 0.05 for a rate, say"
        )
    for name, number in {"items a participant": items_a_participant, **count}.items():
        least = 2 if name == "items" else 1
        if not least <= number <= _MOST:
            raise ValueError(f"got {number} {name}, expected {least} to {_MOST:,}")


def _size(
    components: Components, items: int, answers: int, items_a_participant: int, confidence: float
) -> StudySize | None:
    """None where that would be a single participant."""
    participants = math.ceil(items * answers / items_a_participant)
    if participants < 2:
        return None
    width = half_width(components, participants=participants, items=items, answers=answers, confidence=confidence)
    return StudySize(participants=participants, items=items, answers=answers, half_width=width)
