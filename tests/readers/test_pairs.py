from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onereward.readers.pairs import Pair, Pairing, pairs_of
from onereward.terms import Dimension

STRUCTURE = Dimension.STRUCTURE


def places(scores: list[float], pairing: Pairing = Pairing.ALL, names: str = "abcdefgh") -> list[tuple[int, int]]:
    found = pairs_of({STRUCTURE: scores}, names, pairing=pairing, ties=False)
    return [(pair.winner, pair.loser) for pair in found.kept]


def test_all_pairs_and_extremes_by_hand() -> None:
    assert places([2, 5, 5, 1]) == [(1, 0), (2, 0), (0, 3), (1, 3), (2, 3)]
    assert places([2, 5, 5, 1], Pairing.EXTREMES) == [(1, 3), (2, 3)]
    assert places([3, 3]) == places([3, 3], Pairing.EXTREMES) == places([3]) == places([]) == []


def test_ties_and_one_image_twice_are_left_out_and_counted() -> None:
    scores = {STRUCTURE: [1, 1, 2], Dimension.AESTHETICS: [4, 4, 4]}
    found = pairs_of(scores, "xyx", pairing=Pairing.ALL, ties=False)
    assert found.kept == (Pair(dimension=STRUCTURE, winner=2, loser=1),)
    assert (found.ties, found.identical) == (1 + 2, 1 + 1)
    kept = pairs_of(scores, "xyx", pairing=Pairing.ALL, ties=True)
    assert [pair.tie for pair in kept.kept] == [True, False, True, True] and kept.ties == 0 and kept.identical == 2


@given(st.lists(st.integers(0, 4), max_size=7))
def test_every_two_images_are_met_once_and_the_better_wins(scores: list[int]) -> None:
    found = pairs_of({STRUCTURE: scores}, "abcdefg", pairing=Pairing.ALL, ties=True)
    met = [tuple(sorted((pair.winner, pair.loser))) for pair in found.kept]
    assert met == list(combinations(range(len(scores)), 2))
    for pair in found.kept:
        assert scores[pair.winner] >= scores[pair.loser]
        assert pair.tie == (scores[pair.winner] == scores[pair.loser])


@given(st.lists(st.integers(0, 4), min_size=2, max_size=7))
def test_extremes_are_those_of_all_pairs_with_the_largest_difference(scores: list[int]) -> None:
    most = max(scores) - min(scores)
    pairs = [(a, b) for a, b in places(list(scores)) if scores[a] - scores[b] == most]
    assert sorted(places(list(scores), Pairing.EXTREMES)) == sorted(pairs)


@pytest.mark.parametrize("pairing", Pairing)
def test_what_is_kept_and_left_out_is_all(pairing: Pairing) -> None:
    found = pairs_of({STRUCTURE: [1, 1, 1, 1]}, "aabb", pairing=pairing, ties=False)
    assert found.kept == () and (found.ties, found.identical) == (4, 2)
