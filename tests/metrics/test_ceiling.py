import pytest

from onereward.metrics.accuracy import MEAN, NINE_CELLS
from onereward.metrics.ceiling import ceiling_rows
from onereward.metrics.records import Answer
from onereward.terms import Dimension, Task
from tests.metrics.answers import answer


def vote(triplet: str, voter: str, best: int, worst: int, *, kind: str = "person", tie: bool = False) -> Answer:
    return answer(triplet, 1, -1, voter=voter, pair=(best, worst), kind=kind, tie=tie)


def test_best_beats_all_and_worst_loses_to_all_by_hand() -> None:
    votes = [
        vote("t", "ann", 0, 1),  # bob agrees (0 is his best), cem does not (1 is his best): divided, 1/2
        vote("t", "bob", 0, 2),  # ann agrees (0 is her best), cem says that 0 is the worst: divided, 1/2
        vote("t", "cem", 1, 0),  # ann and bob say the opposite: 0
    ]
    (row,) = ceiling_rows(votes)
    assert (row.kind, row.task, row.dimension, row.n) == ("person", "fill", "structure", 3)
    assert row.accuracy == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_the_majority_of_those_who_say_something_decides() -> None:
    votes = [
        vote("t", "ann", 0, 1),  # bob agrees, cem agrees (1 is his worst), dan says the opposite, eve nothing: 1
        vote("t", "bob", 0, 2),
        vote("t", "cem", 3, 1),
        vote("t", "dan", 1, 2),
        vote("t", "eve", 2, 3),
    ]
    alone = [each for each in votes if each.voter != "ann"]
    with_ann, without = ceiling_rows(votes)[0], ceiling_rows(alone)[0]
    # without ann:
    #   bob (0 > 2): dan agrees (2 is his worst), eve does not (2 is her best): 1/2
    #   cem (3 > 1): dan (1 is his best) and eve (3 is her worst) do not: 0
    #   dan (1 > 2): bob agrees, cem (1 is his worst) and eve (2 is her best) do not: 0
    #   eve (2 > 3): bob, cem and dan do not: 0
    assert (without.n, without.accuracy) == (4, pytest.approx(0.5 / 4))
    # with ann:
    #   her own: 1, and bob has her beside dan: 1
    #   cem has her (1 is her worst) and two against him: 0; the others gain nobody: 0
    assert (with_ann.n, with_ann.accuracy) == (5, pytest.approx(2 / 5))


def test_who_is_silent_about_a_pair_does_not_count() -> None:
    assert [(row.n, row.accuracy) for row in ceiling_rows([vote("t", "ann", 0, 1), vote("t", "bob", 2, 3)])] == [
        (0, None)
    ]


def test_a_cell_without_a_second_voter_says_so() -> None:
    (row,) = ceiling_rows([vote("a", "ann", 0, 1), vote("b", "bob", 0, 1), vote("a", "ann", 0, 1)])
    assert (row.n, row.accuracy, row.low, row.high) == (0, None, None, None)


def test_ties_and_voters_of_another_kind_stay_out() -> None:
    votes = [
        vote("t", "ann", 0, 1),
        vote("t", "bob", 0, 1, tie=True),
        vote("t", "program", 1, 0, kind="oracle"),
        vote("t", "another program", 1, 0, kind="oracle"),
    ]
    assert [(row.kind, row.n, row.accuracy) for row in ceiling_rows(votes)] == [("person", 0, None), ("oracle", 2, 1.0)]


def test_several_pairs_of_one_voter_are_no_best_and_worst() -> None:
    """Ann compared 0 with 1 and 2 with 3: her 0 says nothing about 0 and 2, which bob compared."""
    votes = [vote("t", "ann", 0, 1), vote("t", "ann", 2, 3), vote("t", "bob", 2, 0)]
    assert [row.n for row in ceiling_rows(votes)] == [0]
    assert [(row.n, row.accuracy) for row in ceiling_rows([*votes, vote("t", "cem", 1, 0)])] == [(2, 0.0)]


def test_the_interval_knows_that_votes_on_a_triplet_go_together() -> None:
    """Five voters agree on half of the triplets and split on the others."""
    votes = [vote(f"{i}", v, *((0, 1) if i % 2 or v < "c" else (1, 0))) for i in range(40) for v in "abcd"]
    (row,) = ceiling_rows(votes)
    # agreeing triplets: 1 each; 2 against 2: each has 1 for and 2 against: 0
    assert (row.n, row.accuracy) == (160, pytest.approx(0.5))
    assert row.low is not None and row.high is not None
    assert row.high - row.low > 0.25  # 40 triplets, not 160 votes, for which it were .15


def test_the_mean_of_nine_is_there_when_all_nine_have_votes() -> None:
    votes = [answer(f"{task}-{e}", 1, -1, task, e, voter=voter) for task, e in NINE_CELLS for voter in ("ann", "bob")]
    assert [(row.n, row.accuracy) for row in ceiling_rows(votes) if row.task == MEAN] == [(18, 1.0)]
    assert [row for row in ceiling_rows(votes[:-1]) if row.task == MEAN] == []
    empty = {(row.task, row.dimension): row.n for row in ceiling_rows(votes[:-1])}
    assert empty[Task.REMOVE, Dimension.REMOVAL_QUALITY] == 0
