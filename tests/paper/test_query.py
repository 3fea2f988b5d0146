"""Eq. 1 and Fig. 3: the query word for word, its variants of Table 1 and the fixed query of Table 4."""

import pytest

from onereward.query import Variant, build_query
from onereward.terms import DIMENSIONS, Dimension, Task

FILL_TEXT_ALIGNMENT = (
    "Both of these two images are generated results of image fill. Please evaluate the difference of the two images. "
    'Is the **first** image better than the **second** one? Please answer "yes" or "no". '
    "The evaluation criteria is Text Alignment. The prompt of the two image is a red star."
)
REMOVAL = (
    "Both of these two images are generated results of object removal. Please evaluate the difference of the two "
    'images. Is the **first** image better than the **second** one? Please answer "yes" or "no". '
    "The evaluation criteria is Removal Quality."
)
NEITHER = (
    "Both of these two images are generated results. Please evaluate the difference of the two images. "
    'Is the **first** image better than the **second** one? Please answer "yes" or "no".'
)


def test_figure_3_word_for_word() -> None:
    assert build_query(Task.FILL, Dimension.TEXT_ALIGNMENT, "a red star") == FILL_TEXT_ALIGNMENT
    assert build_query(Task.REMOVE, Dimension.REMOVAL_QUALITY, "remove") == REMOVAL


def test_the_prompt_is_told_for_text_alignment_only() -> None:
    for dimension in DIMENSIONS[Task.EXTEND]:
        told = "a red star" in build_query(Task.EXTEND, dimension, "a red star")
        assert told == (dimension is Dimension.TEXT_ALIGNMENT)


def test_text_rendering_shares_fills_query() -> None:
    for dimension in DIMENSIONS[Task.FILL]:
        assert build_query(Task.TEXT, dimension, "AB") == build_query(Task.FILL, dimension, "AB")


def test_variants_of_table_1() -> None:
    ask = (Task.FILL, Dimension.TEXT_ALIGNMENT, "a red star")
    assert build_query(*ask, Variant.PAIR) == NEITHER
    assert build_query(*ask, Variant.TASK) == NEITHER.replace("results.", "results of image fill.")


@pytest.mark.parametrize("task", Task)
def test_the_fixed_query_of_table_4_is_one_for_all(task: Task) -> None:
    for dimension in DIMENSIONS[task]:
        assert build_query(task, dimension, "a red star", Variant.FIXED_QUERY) == REMOVAL


def test_every_task_and_dimension_has_its_own_query() -> None:
    queries = {build_query(task, e, "p") for task in Task if task is not Task.TEXT for e in DIMENSIONS[task]}
    assert len(queries) == 9


def test_a_dimension_the_task_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'remove' is not judged by 'structure'.*removal_quality"):
        build_query(Task.REMOVE, Dimension.STRUCTURE, "remove")
