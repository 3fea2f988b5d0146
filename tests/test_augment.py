"""What the judge is shown: moved, toned and mirrored, the same in every batch layout."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from onereward.augment import jittered, mirrored

KEYS = [(7, step, slot) for step in range(4) for slot in range(4)]


def images(seed: int, size: int = 12) -> Tensor:
    return torch.rand(len(KEYS), 3, size, size + 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_nothing_asked_changes_nothing() -> None:
    first, second = images(0), images(1)
    shown = jittered(first, second, KEYS, shift=0, tone=0.0)
    assert torch.equal(shown[0], first) and torch.equal(shown[1], second)


def test_a_pair_moves_together_by_at_most_the_shift_each_way() -> None:
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    where = torch.stack([rows, columns, rows]).expand(len(KEYS), -1, -1, -1)
    first, second = jittered(where, where + 100, KEYS, shift=3, tone=0.0)
    assert torch.equal(first + 100, second)
    moves = {(int(image[0, 5, 5]) - 5, int(image[1, 5, 5]) - 5) for image in first}
    assert len(moves) > 8
    assert {abs(step) for move in moves for step in move} == {0, 1, 2, 3}
    for image in first:  # inside, every neighbour is still a neighbour
        assert torch.equal(image[0, 4:8, 5].diff(), torch.ones(3))


def test_tone_is_one_gain_and_offset_a_channel_of_each_image() -> None:
    first, second = images(0), images(1)
    toned = jittered(first, second, KEYS, shift=0, tone=0.1)
    gains = []
    for before, after in zip((first, second), toned, strict=True):
        centred = before - before.mean((2, 3), keepdim=True)
        gain = (centred * after).sum((2, 3)) / centred.square().sum((2, 3))
        offset = (after - gain[..., None, None] * before).mean((2, 3))
        assert torch.allclose(after, gain[..., None, None] * before + offset[..., None, None], atol=1e-5)
        assert (gain - 1).abs().max() <= 0.1 + 1e-5 and offset.abs().max() <= 0.1 + 1e-5
        assert (gain - 1).abs().max() > 0.05 and offset.abs().max() > 0.05
        gains.append(gain)
    assert not torch.allclose(gains[0], gains[1], atol=0.01)


@given(st.integers(1, 5), st.floats(0.0, 0.5), st.permutations(range(len(KEYS))))
def test_the_batch_layout_changes_no_pixel(shift: int, tone: float, order: list[int]) -> None:
    first, second = images(0), images(1)
    whole = jittered(first, second, KEYS, shift=shift, tone=tone)
    turned = jittered(first[order], second[order], [KEYS[slot] for slot in order], shift=shift, tone=tone)
    assert torch.equal(whole[0][order], turned[0]) and torch.equal(whole[1][order], turned[1])


def test_gradient_reaches_the_image_that_was_moved() -> None:
    first: Any = images(0).requires_grad_(True)
    jittered(first, images(1), KEYS, shift=2, tone=0.1)[0].sum().backward()
    # every pixel is seen, or its mirror image at an edge is seen twice: none has a gradient of 0 in all pairs
    assert (first.grad.abs().sum((0, 1)) > 0).all()


def test_both_images_are_mirrored_and_never_where_they_may_not_be() -> None:
    first, second = images(0), images(1)
    may_flip = [slot % 4 != 0 for slot in range(len(KEYS))]
    seen, other = mirrored(first, second, KEYS, may_flip=may_flip)
    flips = [torch.equal(image, before.flip(-1)) for image, before in zip(seen, first, strict=True)]
    assert flips == [torch.equal(image, before.flip(-1)) for image, before in zip(other, second, strict=True)]
    assert 2 < sum(flips) < 10
    assert not any(flip for flip, may in zip(flips, may_flip, strict=True) if not may)
    kept = [torch.equal(image, before) for image, before in zip(seen, first, strict=True)]
    assert [flip != keep for flip, keep in zip(flips, kept, strict=True)] == [True] * len(KEYS)


@pytest.mark.parametrize("shift", [-1, 12])
def test_a_shift_beyond_the_image_is_refused(shift: int) -> None:
    with pytest.raises(ValueError, match=f"got shift {shift}, expected pixels"):
        jittered(images(0), images(1), KEYS, shift=shift, tone=0.0)
