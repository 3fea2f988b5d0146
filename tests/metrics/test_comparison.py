from itertools import product

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from onereward.metrics.comparison import comparison_rows, sign_flip_p
from onereward.metrics.records import Answer
from onereward.terms import Dimension, Task
from tests.metrics.answers import answer


def row_of(variant: str, right: list[bool], dimension: Dimension = Dimension.STRUCTURE) -> list[Answer]:
    return [
        answer(f"{place}", *((1, -1) if is_right else (-1, 1)), Task.FILL, dimension, variant)
        for place, is_right in enumerate(right)
    ]


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 9), (40, 17), (200, 130)])
def test_p_is_mcnemars_exact_where_every_pair_is_alone(gained: int, lost: int) -> None:
    stock = mcnemar([[0, gained], [lost, 0]], exact=True).pvalue
    assert sign_flip_p([1] * gained + [-1] * lost + [0] * 7) == pytest.approx(stock)


def test_p_of_groups_is_the_share_of_all_signs() -> None:
    differences = [3, -1, 2, 0, 2, -1]
    signs = list(product((1, -1), repeat=len(differences)))
    sums = [abs(sum(s * d for s, d in zip(sign, differences, strict=True))) for sign in signs]
    assert sign_flip_p(differences) == pytest.approx(sum(each >= 5 for each in sums) / len(signs))


def test_p_holds_its_level_when_pairs_of_a_triplet_go_together() -> None:
    """Of 400 worlds without a difference about 5 % are called different; McNemar's test over pairs calls 20 %."""
    generator = np.random.default_rng(3)
    ours = naive = 0
    for _ in range(400):
        differences = 4 * generator.choice([-1, 0, 1], 40, p=[0.2, 0.6, 0.2])  # four pairs of each triplet alike
        ours += sign_flip_p(differences.tolist()) < 0.05
        gained, lost = int(differences.clip(0).sum()), int((-differences).clip(0).sum())
        naive += mcnemar([[0, gained], [lost, 0]], exact=True).pvalue < 0.05
    assert ours / 400 <= 0.06
    assert naive / 400 > 0.2


def test_counts_by_hand() -> None:
    answers = row_of("untuned", [True, False, False, False]) + row_of("task_dimension", [False, True, True, False])
    cell, everything = comparison_rows(answers)
    assert (cell.variant, cell.against, cell.task, cell.dimension) == ("untuned", "task_dimension", "fill", "structure")
    assert (cell.n, cell.gained, cell.lost, cell.difference) == (4, 1, 2, -0.25)
    assert cell.low <= -0.25 <= cell.high
    assert (everything.task, everything.dimension, everything.n, everything.p) == ("all", "all", 4, cell.p)


def test_holm_multiplies_the_smallest_p_by_the_number_of_cells() -> None:
    mine = row_of("tuned", [True] * 8) + row_of("tuned", [True] * 4 + [False] * 4, Dimension.AESTHETICS)
    theirs = row_of("last", [False] * 8) + row_of("last", [False] * 8, Dimension.AESTHETICS)
    structure, aesthetics, everything = comparison_rows(mine + theirs)
    assert (structure.p, structure.p_holm) == (pytest.approx(2 / 2**8), pytest.approx(4 / 2**8))
    assert (aesthetics.p, aesthetics.p_holm) == (pytest.approx(2 / 2**4), pytest.approx(2 / 2**4))
    assert (everything.n, everything.gained) == (16, 12)
    assert everything.p == everything.p_holm == pytest.approx(2 / 2**8)  # eight triplets, not twelve pairs


def test_rows_are_held_against_task_dimension_else_against_the_last() -> None:
    rows = [row_of(name, [True, False]) for name in ("untuned", "task_dimension", "fixed_query")]
    found = {(row.variant, row.against) for row in comparison_rows([*rows[0], *rows[1], *rows[2]])}
    assert found == {("untuned", "task_dimension"), ("fixed_query", "task_dimension")}
    found = {(row.variant, row.against) for row in comparison_rows(rows[0] + rows[2])}
    assert found == {("untuned", "fixed_query")}
    assert comparison_rows(rows[0]) == comparison_rows([]) == []


def test_other_preferences_are_not_compared_and_ties_are_left_out() -> None:
    assert comparison_rows(row_of("a", [True, True]) + row_of("b", [True])) == []
    tie = [answer("tie", 1, -1, variant=name, tie=True) for name in ("a", "b")]
    cell, _ = comparison_rows([*row_of("a", [True]), tie[0], *row_of("b", [False]), tie[1]])
    assert (cell.n, cell.gained) == (1, 1)
    assert comparison_rows(tie) == []
