from math import exp

import pytest

from onereward.metrics.accuracy import MEAN, NINE_CELLS, IntervalMethod, accuracy_rows
from onereward.metrics.intervals import wilson
from onereward.terms import Dimension, Task
from tests.metrics.answers import answer


def test_right_by_the_mean_of_both_orders() -> None:
    assert answer("a", 3, 1).is_right  # (3 - 1) / 2 > 0 though one order is wrong
    assert not answer("a", 1, 3).is_right
    assert not answer("a", 1, 1).is_right  # a judge that ignores the images is not right by luck
    assert answer("a", 1, -1).flips
    assert not answer("a", 3, 1).flips


def test_accuracy_counts_by_hand() -> None:
    (row,) = accuracy_rows([answer("a", 1, -1), answer("b", -1, 1), answer("c", 2, 1), answer("d", 0, 0)])
    assert (row.task, row.dimension, row.variant, row.n) == ("fill", "structure", "task_dimension", 4)
    assert (row.accuracy, row.flips) == (0.5, 0.5)
    assert 0 <= row.low <= 0.5 <= row.high <= 1


def test_wilson_where_every_pair_has_a_triplet_of_its_own() -> None:
    (row,) = accuracy_rows([answer(f"{i}", 1, -1) if i < 8 else answer(f"{i}", -1, 1) for i in range(10)])
    assert (row.interval, row.low, row.high) == (IntervalMethod.WILSON, wilson(8, 10).low, wilson(8, 10).high)


@pytest.mark.parametrize("shared", ["triplet", "source"])
def test_bootstrap_where_pairs_share_a_triplet_or_source_and_it_is_wider(shared: str) -> None:
    """Each of 30 triplets is answered four times alike: four times as many pairs are no more witnesses."""
    answers = [
        answer(
            f"{i}" if shared == "triplet" else f"{i}-{voter}",
            *((1, -1) if i % 3 else (-1, 1)),
            voter=voter,
            source=source,
        )
        for i in range(30)
        for voter in "abcd"
        for source in (f"{i}" if shared == "source" else "",)
    ]
    (row,) = accuracy_rows(answers)
    assert (row.interval, row.n, row.accuracy) == (IntervalMethod.BOOTSTRAP, 120, pytest.approx(2 / 3))
    assert row.high - row.low > 1.7 * (wilson(80, 120).high - wilson(80, 120).low)


def test_ties_are_counted_and_count_nowhere_else() -> None:
    answers = [
        answer("a", 1, -1),
        answer("b", -1, 1, tie=True),
        answer("c", 1, 1, dimension=Dimension.AESTHETICS, tie=True),
    ]
    (row,) = accuracy_rows(answers)
    assert (row.n, row.accuracy, row.flips, row.ties) == (1, 1, 1, 1)


def test_mean_weighs_the_nine_cells_equally_and_leaves_text_out() -> None:
    answers = [answer(f"{task}-{e}", 1, -1, task, e, outside=0.1) for task, e in NINE_CELLS]
    answers += [answer(f"wrong-{i}", -1, -1.5, Task.REMOVE, Dimension.REMOVAL_QUALITY, outside=0.5) for i in range(3)]
    answers += [answer("t", -1, 1, Task.TEXT, Dimension.STRUCTURE)]
    rows = {(row.task, row.dimension): row for row in accuracy_rows(answers)}
    assert len(rows) == 11
    mean = rows[MEAN, MEAN]
    assert mean.accuracy == pytest.approx((8 + 4 / 4) / 9)  # (-1 - -1.5) / 2 > 0: right, without flipping
    assert mean.flips == pytest.approx((8 + 1 / 4) / 9)
    assert mean.outside == pytest.approx((8 * 0.1 + 0.4) / 9)
    assert mean.brier == pytest.approx(sum(rows[cell].brier for cell in NINE_CELLS) / 9)
    assert mean.ece == pytest.approx(sum(rows[cell].ece for cell in NINE_CELLS) / 9)
    assert (mean.n, mean.interval) == (12, IntervalMethod.BOOTSTRAP)
    assert rows["text", "structure"].accuracy == 0


def test_no_mean_where_a_cell_of_the_nine_holds_only_ties() -> None:
    answers = [answer(f"{task}-{e}", 1, -1, task, e, tie=task is Task.REMOVE) for task, e in NINE_CELLS]
    assert {row.task for row in accuracy_rows(answers)} == {"fill", "extend"}


def test_brier_is_of_calibrated_probabilities() -> None:
    (row,) = accuracy_rows([answer("a", 4, -2, temperature=2)])
    yes, no = 1 / (1 + exp(-2)), 1 / (1 + exp(1))
    assert row.brier == pytest.approx(((1 - yes) ** 2 + no**2) / 2)


def test_outside_is_not_told_where_an_answer_does_not_tell_it() -> None:
    (row,) = accuracy_rows([answer("a", 1, -1, outside=0.25), answer("b", 1, -1, outside=None)])
    assert row.outside is None


def test_variants_keep_their_order_and_stay_apart() -> None:
    rows = accuracy_rows([answer("a", 1, -1, variant="untuned"), answer("a", -1, 1, variant="pair")])
    assert [(row.variant, row.accuracy) for row in rows] == [("untuned", 1), ("pair", 0)]
