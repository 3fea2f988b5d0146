from collections.abc import Mapping

import pytest

from onereward.metrics.gsb import good_same_bad, normalised, score_rows, score_table
from onereward.metrics.records import Score
from onereward.terms import Dimension, Task


def scores(task: Task, dimension: Dimension, values: Mapping[str, list[float]], band: float = 0.05) -> list[Score]:
    return [
        Score(
            triplet_id=f"{task}-{index}",
            task=task,
            dimension=dimension,
            editor=editor,
            scorer="oracle",
            value=value,
            dead_band=band,
        )
        for editor, of_editor in values.items()
        for index, value in enumerate(of_editor)
    ]


FILL = scores(Task.FILL, Dimension.STRUCTURE, {"base": [0.5, 0.5, 0.5, 0.5], "new": [0.6, 0.54, 0.4, 0.9]}) + scores(
    Task.FILL, Dimension.AESTHETICS, {"base": [0.5, 0.5, 0.5, 0.5], "new": [0.6, 0.6, 0.6, 0.52]}
)


def test_good_same_bad_by_hand() -> None:
    rows = {row.dimension: row for row in good_same_bad(score_table(FILL), "new")}
    structure, aesthetics, everything = rows["structure"], rows["aesthetics"], rows["all"]
    assert (structure.good, structure.same, structure.bad, structure.net, structure.n) == (2, 1, 1, 0.25, 4)
    assert (aesthetics.good, aesthetics.same, aesthetics.bad, aesthetics.net) == (3, 1, 0, 0.75)
    assert (everything.good, everything.same, everything.bad, everything.n) == (5, 2, 1, 4)
    assert everything.net == pytest.approx(0.5)  # triplets: 1, .5, 0, .5
    assert everything.low <= everything.net <= everything.high


def test_a_triplet_without_text_alignment_averages_over_the_dimensions_it_has() -> None:
    with_prompt = scores(Task.EXTEND, Dimension.TEXT_ALIGNMENT, {"base": [0.0], "new": [1.0]})
    both = scores(Task.EXTEND, Dimension.STRUCTURE, {"base": [0.5, 0.5], "new": [0.5, 1.0]})
    row = good_same_bad(score_table(with_prompt + both), "new")[-1]
    assert (row.dimension, row.n) == ("all", 2)
    assert row.net == pytest.approx((0.5 + 1.0) / 2)


def test_a_difference_of_exactly_the_dead_band_is_the_same() -> None:
    table = score_table(scores(Task.REMOVE, Dimension.REMOVAL_QUALITY, {"base": [0.5], "new": [0.75]}, band=0.25))
    assert {row.same for row in good_same_bad(table, "new")} == {1}


def test_the_base_against_itself_is_all_same() -> None:
    assert all((row.good, row.bad, row.net) == (0, 0, 0) for row in good_same_bad(score_table(FILL), "base"))


def test_score_rows_pair_the_triplets() -> None:
    row = score_rows(score_table(FILL), "new")[0]
    assert (row.task, row.dimension, row.n) == ("fill", "structure", 4)
    assert row.mean == pytest.approx(0.61)
    assert row.difference == pytest.approx(0.11)
    assert row.difference_low < row.difference < row.difference_high
    assert row.normalised is None


def test_score_rows_normalise_between_hole_and_ceiling() -> None:
    ends = scores(Task.REMOVE, Dimension.REMOVAL_QUALITY, {"base": [0.7], "hole": [0.1], "ceiling": [0.9]})
    assert score_rows(score_table(ends), "base")[0].normalised == pytest.approx(0.75)
    assert normalised(0.7, 0.1, 0.9) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="above the hole"):
        normalised(0.5, 0.9, 0.9)


def test_unpaired_unknown_and_repeated_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="known editors: base, new"):
        good_same_bad(score_table(FILL), "other")
    with pytest.raises(ValueError, match="different triplets"):
        good_same_bad(score_table(FILL[:-1]), "new")
    with pytest.raises(ValueError, match="two scores"):
        score_table([*FILL, FILL[0]])
