"""From scores to pairs: which of some images are compared, who wins, and what is left out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product

from onereward.terms import Dimension


class Pairing(StrEnum):
    """Which images of one comparison are paired: all whose scores differ, or the best with the worst alone."""

    ALL = "all"
    EXTREMES = "extremes"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The places of a winner and a loser among the images compared; with `tie` neither is the better."""

    dimension: Dimension
    winner: int
    loser: int
    tie: bool = False


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The pairs that become preferences, and how many were left out as ties and as one image twice."""

    kept: tuple[Pair, ...]
    ties: int
    identical: int


def pairs_of(
    scores: Mapping[Dimension, Sequence[float]], names: Sequence[str], *, pairing: Pairing, ties: bool
) -> Pairs:
    """What the scores of N images (the higher the better) say in each dimension; `names` name the images by content.

    Pairs of equal scores are kept as ties only with `ties`; pairs of an image with itself never are.
    """
    kept: list[Pair] = []
    tied = identical = 0
    for dimension, given in scores.items():
        for winner, loser in _places(given, pairing):
            if names[winner] == names[loser]:
                identical += 1
            elif given[winner] != given[loser]:
                kept.append(Pair(dimension=dimension, winner=winner, loser=loser))
            elif ties:
                kept.append(Pair(dimension=dimension, winner=winner, loser=loser, tie=True))
            else:
                tied += 1
    return Pairs(kept=tuple(kept), ties=tied, identical=identical)


def _places(scores: Sequence[float], pairing: Pairing) -> Iterator[tuple[int, int]]:
    """The better (or, of equals, the earlier) image of each pair, and the other one."""
    best, worst = max(scores, default=0.0), min(scores, default=0.0)
    if pairing is Pairing.EXTREMES and best != worst:
        yield from product(
            (place for place, score in enumerate(scores) if score == best),
            [place for place, score in enumerate(scores) if score == worst],
        )
        return
    for first, second in combinations(range(len(scores)), 2):
        yield (second, first) if scores[second] > scores[first] else (first, second)
