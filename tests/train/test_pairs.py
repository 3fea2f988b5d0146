"""What the judge learns from: votes about one pair together, draws that cover an epoch or follow weights."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onereward.reward import Comparison
from onereward.store.rows import Rows, write_rows
from onereward.store.shards import run_stage
from onereward.terms import Dimension, Preference, Task
from onereward.train.pairs import CELLS, Pair, augmented, draw_batch, images_of, pairs_of
from tests.preferences import Made, bright_preference

ALIKE = dict.fromkeys(CELLS, 1.0)


def _rows(folder: Path, votes: list[Preference]) -> Rows[Preference]:
    run_stage(
        folder / "votes",
        kind=Preference,
        stage="test",
        config=Made(count=len(votes)),
        inputs={},
        shard_count=1,
        make_shard=lambda shard: votes,
    )
    write_rows(folder / "votes", Preference, folder / "rows.arrow")
    return Rows(folder / "rows.arrow", Preference)


def _pair(row: int, dimension: Dimension = Dimension.STRUCTURE) -> Pair:
    return Pair(
        row=row,
        comparisons=(Comparison(task=Task.FILL, dimension=dimension, prompt="a star", first_wins=True),),
    )


def test_votes_about_two_images_are_one_pair_whichever_won(tmp_path: Path) -> None:
    vote = bright_preference(0)
    swapped = replace(vote, winner=vote.loser, loser=vote.winner, dimension=Dimension.AESTHETICS, weight=3.0)
    # Numbered alike, but of another image: no vote about this pair.
    other = replace(vote, loser=bright_preference(4).loser, dimension=Dimension.STRUCTURE)
    tie = replace(vote, dimension=Dimension.CONSISTENCY, tie=True)
    rows = _rows(tmp_path, [vote, swapped, other, tie, bright_preference(1)])
    pairs = pairs_of(rows, ties=True)
    assert [pair.row for pair in pairs] == [0, 2, 4]
    assert [(c.dimension, c.first_wins, c.weight, c.tie) for c in pairs[0].comparisons] == [
        (vote.dimension, True, 1.0, False),
        (Dimension.AESTHETICS, False, 3.0, False),
        (Dimension.CONSISTENCY, True, 1.0, True),
    ]
    assert [len(pair.comparisons) for pair in pairs_of(rows, ties=False)] == [2, 1, 1]
    first, second = images_of(rows, pairs[0])
    assert first.mean() > second.mean()


def test_votes_that_count_for_nothing_are_left_out(tmp_path: Path) -> None:
    ties = [replace(bright_preference(index), tie=True) for index in range(2)]
    silent = replace(bright_preference(2), weight=0.0)
    assert [pair.row for pair in pairs_of(_rows(tmp_path / "some", [silent, *ties]), ties=True)] == [1, 2]
    with pytest.raises(ValueError, match="no vote counts"):
        pairs_of(_rows(tmp_path / "none", [silent, *ties]), ties=False)


def test_an_epoch_shows_every_pair_once_and_the_next_one_in_another_order() -> None:
    pairs = [_pair(row) for row in range(12)]
    first, second = (
        [pair.row for step in steps for pair in draw_batch(pairs, ALIKE, seed=3, batch=6, step=step)]
        for steps in ((1, 2), (3, 4))
    )
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


@given(batch=st.integers(1, 9), seed=st.integers(0, 5))
def test_what_is_drawn_depends_on_the_place_alone(batch: int, seed: int) -> None:
    """A batch of n twice is a batch of 2 n once, weighted or not."""
    pairs = [_pair(row, (Dimension.STRUCTURE, Dimension.AESTHETICS)[row % 2]) for row in range(7)]
    for sampling in (ALIKE, {**ALIKE, "fill/structure": 3.0}):
        halves = [pair for step in (1, 2) for pair in draw_batch(pairs, sampling, seed, batch, step)]
        assert halves == draw_batch(pairs, sampling, seed, 2 * batch, 1)


def test_pairs_are_drawn_as_often_as_their_cells_weigh() -> None:
    """Weights 3 and 1 on equally many pairs: three of four draws; 0 is never drawn."""
    dimensions = (Dimension.STRUCTURE, Dimension.AESTHETICS, Dimension.CONSISTENCY)
    pairs = [_pair(row, dimensions[row % 3]) for row in range(30)]
    sampling = {**ALIKE, "fill/structure": 3.0, "fill/consistency": 0.0}
    drawn = draw_batch(pairs, sampling, seed=0, batch=4000, step=1)
    counts = Counter(pair.comparisons[0].dimension for pair in drawn)
    assert counts[Dimension.CONSISTENCY] == 0
    assert counts[Dimension.STRUCTURE] / 4000 == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="weight 0"):
        draw_batch(pairs, {**dict.fromkeys(CELLS, 0.0), "remove/removal_quality": 1.0}, 0, 4, 1)


def test_letters_are_never_mirrored_and_unequal_sizes_are_not_moved() -> None:
    first, second = torch.rand(2, 3, 8, 8) * 2 - 1
    shown = [augmented(first, second, Task.TEXT, (0, step, 0), mirror=True, shift=0, tone=0.0)[0] for step in range(16)]
    assert all(torch.equal(image, first) for image in shown)
    drawn = [augmented(first, second, Task.FILL, (0, step, 0), mirror=True, shift=0, tone=0.0) for step in range(16)]
    assert {torch.equal(one, first) for one, _ in drawn} == {True, False}
    assert all(torch.equal(one, first) == torch.equal(two, second) for one, two in drawn)
    with pytest.raises(ValueError, match="cannot be moved alike"):
        augmented(first, second[:, :6], Task.FILL, (0, 1, 0), mirror=False, shift=2, tone=0.0)
    assert augmented(first, second[:, :6], Task.FILL, (0, 1, 0), mirror=False, shift=0, tone=0.0)[1].shape == (3, 6, 8)
