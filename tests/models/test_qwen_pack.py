"""One packed sequence for all queries of a pair: layout, positions and visibility, by hand and against the library."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLConfig, Qwen2_5_VLModel

from onereward.models.qwen_pack import PADDING, PREFIX, Grid, common_prefix, pack, rope_positions

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


# Against the library: `get_rope_index` of each query's whole sequence, alone.

Stock = Qwen2_5_VLModel | Qwen3VLModel
Sample = tuple[list[Grid], list[list[int]]]
"""Grids of two images, and the whole token sequence of each query."""


@pytest.fixture(scope="module", params=["qwen2.5", "qwen3"])
def stock(request: pytest.FixtureRequest) -> Stock:
    """A model without weights: positions take none."""
    tower = {"depth": 1, "hidden_size": 32, "num_heads": 1, "intermediate_size": 32, "out_hidden_size": 32}
    text = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 32,
        "vocab_size": 9,
    }
    with torch.device("meta"):
        if request.param == "qwen3":
            tower["deepstack_visual_indexes"] = [0]  # type: ignore[assignment]
            return Qwen3VLModel(Qwen3VLConfig(vision_config=tower, text_config=text))
        text["num_key_value_heads"] = 1
        return Qwen2_5_VLModel(Qwen2_5_VLConfig(vision_config=tower, text_config=text))


def _alone(stock: Stock, ids: Sequence[int], grids: Sequence[Grid]) -> Tensor:
    """positions_3L of one sequence; grids of patches have twice as many rows and columns."""
    merge = stock.config.vision_config.spatial_merge_size
    ids_1L = torch.tensor([ids])
    thw = torch.tensor([[1, rows * merge, columns * merge] for rows, columns in grids])
    positions_31L, _ = stock.get_rope_index(ids_1L, mm_token_type_ids=(ids_1L == IMAGE).int(), image_grid_thw=thw)
    return positions_31L[:, 0]


words = st.integers(0, 8)
grid = st.tuples(st.integers(1, 7), st.integers(1, 7))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Text, image, text, image, text: shared, and then one to five endings that may begin alike."""
    grids = [draw(grid), draw(grid)]
    shared: list[int] = []
    for rows, columns in grids:
        shared += [*draw(st.lists(words, min_size=1, max_size=6)), *[IMAGE] * (rows * columns)]
    shared += draw(st.lists(words, min_size=1, max_size=6))
    endings = draw(st.lists(st.lists(words, min_size=1, max_size=6), min_size=1, max_size=5))
    return grids, [[*shared, *ending] for ending in endings]


@given(st.lists(samples(), min_size=1, max_size=3))
def test_a_pack_is_its_queries_each_as_the_library_would_have_it(stock: Stock, batch: list[Sample]) -> None:
    """What a query sees is its own sequence, causally, at the positions that the library gives to that alone."""
    packed = pack([queries for _, queries in batch], [grids for grids, _ in batch], image_token=IMAGE, pad=0)
    visible_BLL = packed.visible()[:, 0]
    for b, (grids, queries) in enumerate(batch):
        assert packed.asked_BK[b].sum() == len(queries)
        for k, ids in enumerate(queries):
            seen_L = visible_BLL[b, packed.last_BK[b, k]]
            assert packed.ids_BL[b, seen_L].tolist() == ids
            rows = visible_BLL[b, seen_L]
            assert torch.equal(rows[:, seen_L], torch.ones(len(ids), len(ids), dtype=torch.bool).tril())
            assert not rows[:, ~seen_L].any()
            assert torch.equal(packed.positions_3BL[:, b, seen_L], _alone(stock, ids, grids))
        prefix = (packed.segment_BL[b] == PREFIX).sum()
        assert prefix == len(queries[0]) - 1 if len(queries) == 1 else prefix >= sum(map(_tokens, grids))


def _tokens(grid: Grid) -> int:
    return grid[0] * grid[1]


def test_the_prefix_is_computed_once() -> None:
    """Four dimensions about two images of 256 tokens: little more than one."""
    shared = [1] * 20 + [IMAGE] * 256 + [2] + [IMAGE] * 256 + [3] * 60
    queries = [[*shared, 4 + k, *[8] * 9] for k in range(4)]
    packed = pack([queries], [[(16, 16), (16, 16)]], image_token=IMAGE, pad=0)
    assert packed.ids_BL.shape[1] == len(shared) + 4 * 10
