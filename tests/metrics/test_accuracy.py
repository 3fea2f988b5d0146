import pytest

from onereward.metrics.accuracy import MEAN, NINE_CELLS, accuracy_rows
from onereward.metrics.records import Answer
from onereward.terms import Dimension, Task


def answer(
    triplet: str,
    winner_first: float,
    loser_first: float,
    task: Task = Task.FILL,
    dimension: Dimension = Dimension.STRUCTURE,
    variant: str = "task_dimension",
) -> Answer:
    return Answer(
        triplet_id=triplet,
        task=task,
        dimension=dimension,
        variant=variant,
        winner_first=winner_first,
        loser_first=loser_first,
    )


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


def test_mean_weighs_the_nine_cells_equally_and_leaves_text_out() -> None:
    answers = [answer(f"{task}-{e}", 1, -1, task, e) for task, e in NINE_CELLS]
    answers += [answer(f"wrong-{i}", -1, 1, Task.REMOVE, Dimension.REMOVAL_QUALITY) for i in range(3)]
    answers += [answer("t", -1, 1, Task.TEXT, Dimension.STRUCTURE)]
    rows = {(row.task, row.dimension): row for row in accuracy_rows(answers)}
    assert len(rows) == 11
    assert rows[MEAN, MEAN].accuracy == pytest.approx((8 + 1 / 4) / 9)
    assert rows[MEAN, MEAN].n == 12
    assert rows["text", "structure"].accuracy == 0


def test_variants_keep_their_order_and_stay_apart() -> None:
    rows = accuracy_rows([answer("a", 1, -1, variant="untuned"), answer("a", -1, 1, variant="pair")])
    assert [(row.variant, row.accuracy) for row in rows] == [("untuned", 1), ("pair", 0)]
