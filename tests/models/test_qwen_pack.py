"""One packed sequence for all queries of a pair: layout, positions and visibility, worked by hand."""

import numpy as np
import torch

from onereward.models.qwen_pack import PADDING, common_prefix, pack, rope_positions

IMAGE = 9


def test_rope_positions_by_hand() -> None:
    """Text, a 2x3 image, text: the image starts at 2 and the text after it at 2 + max(2, 3)."""
    ids = np.array([1, 2, *[IMAGE] * 6, 3, 4])
    expected = [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    assert rope_positions(ids, IMAGE, [(2, 3)]).tolist() == expected


def test_common_prefix_leaves_every_query_a_token() -> None:
    same = np.array([1, 2, 3])
    assert common_prefix([same, same]) == 2
    assert common_prefix([same]) == 2
    assert common_prefix([np.array([1, 2, 3, 4]), np.array([1, 2, 5])]) == 2
    assert common_prefix([np.array([1, 2]), np.array([3, 2])]) == 0


def test_pack_of_a_ragged_batch_by_hand() -> None:
    batch = pack([[[1, 2, 3], [1, 2, 4, 5]], [[6, 7]]], [[], []], image_token=IMAGE, pad=0)
    assert batch.ids_BL.tolist() == [[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]]
    assert batch.segment_BL.tolist() == [[0, 0, 1, 2, 2], [0, 1, PADDING, PADDING, PADDING]]
    assert batch.positions_3BL[0].tolist() == [[0, 1, 2, 2, 3], [0, 1, 0, 0, 0]]
    assert batch.last_BK.tolist() == [[2, 4], [1, 0]]
    assert batch.asked_BK.tolist() == [[True, True], [True, False]]


def test_a_query_sees_the_prefix_and_itself() -> None:
    batch = pack([[[1, 2, 3], [1, 2, 4, 5]], [[6, 7]]], [[], []], image_token=IMAGE, pad=0)
    expected = torch.tensor(
        [
            [1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 0, 1, 0],
            [1, 1, 0, 1, 1],
        ]
    )
    assert torch.equal(batch.visible()[0, 0].long(), expected)
    assert batch.visible().any(-1).all(), "a row that sees nothing would turn into NaN"
    assert not batch.visible()[1, 0, :2, 2:].any(), "a real token saw padding"
