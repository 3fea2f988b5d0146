"""All queries about one pair of images in one sequence: P ++ s1 ++ ... ++ sK, the common prefix P computed once.

A query's own tokens see P and themselves, at the positions they would have alone, so every answer is the one that a
separate forward would give. Samples of a batch may differ in the number and the length of their queries.

Shape legend: B batch, L tokens of the packed sequence (padded on the right), K queries of a sample (the most).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]

PREFIX, PADDING = 0, -1


@dataclass(frozen=True, kw_only=True)
class Pack:
    """`segment_BL` is PREFIX, the query's number from 1, or PADDING; `last_BK` is where a query's answer is read."""

    ids_BL: Tensor
    segment_BL: Tensor
    positions_3BL: Tensor
    last_BK: Tensor
    asked_BK: Tensor

    def visible(self) -> Tensor:
        """`visible_B1LL`: token i sees token j if j is not later and lies in the prefix or in i's own segment."""
        query, key = self.segment_BL[:, :, None], self.segment_BL[:, None, :]
        length = self.segment_BL.shape[1]
        earlier_LL = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        return (((key == PREFIX) | (key == query)) & earlier_LL)[:, None]

    def to(self, device: torch.device) -> "Pack":
        return Pack(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def pack(queries: Sequence[Sequence[Sequence[int]]], *, image_token: int, grid: tuple[int, int], pad: int) -> Pack:
    """Packs `queries[b][k]`, each one query's whole token sequence with the images' placeholders expanded."""
    samples = [_pack_sample([np.asarray(ids) for ids in sample], image_token, grid) for sample in queries]
    size, most = len(samples), max(len(last) for *_, last in samples)
    length = max(len(ids) for ids, *_ in samples)
    ids_BL = np.full((size, length), pad)
    segment_BL = np.full((size, length), PADDING)
    positions_3BL = np.zeros((3, size, length), np.int64)
    last_BK = np.zeros((size, most), np.int64)
    asked_BK = np.zeros((size, most), bool)
    for row, (ids, segment, positions, last) in enumerate(samples):
        ids_BL[row, : len(ids)] = ids
        segment_BL[row, : len(ids)] = segment
        positions_3BL[:, row, : len(ids)] = positions
        last_BK[row, : len(last)] = last
        asked_BK[row, : len(last)] = True
    arrays = (ids_BL, segment_BL, positions_3BL, last_BK, asked_BK)
    names = ("ids_BL", "segment_BL", "positions_3BL", "last_BK", "asked_BK")
    return Pack(**{name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)})


def _pack_sample(queries: Sequence[Ints], image_token: int, grid: tuple[int, int]) -> tuple[Ints, Ints, Ints, Ints]:
    """ids_L, segment_L, positions_3L and last_K of one sample."""
    prefix = common_prefix(queries)
    parts = [queries[0][:prefix], *(ids[prefix:] for ids in queries)]
    lengths = [len(part) for part in parts]
    positions = [rope_positions(ids, image_token, grid) for ids in queries]
    return (
        np.concatenate(parts),
        np.repeat(np.arange(len(parts)), lengths),
        np.concatenate([positions[0][:, :prefix], *(own[:, prefix:] for own in positions)], axis=1),
        np.cumsum(lengths)[1:] - 1,
    )


def common_prefix(queries: Sequence[Ints]) -> int:
    """How many leading tokens all queries share, at least one token being left to each."""
    shortest = min(len(ids) for ids in queries) - 1
    stacked = np.stack([ids[:shortest] for ids in queries])
    return sum(1 for _ in takewhile(bool, (stacked == stacked[0]).all(0)))


def rope_positions(ids_L: Ints, image_token: int, grid: tuple[int, int]) -> Ints:
    """M-RoPE positions_3L (time, row, column) of a text with images that take `grid` rows x columns of tokens each.

    Text counts up; an image's tokens lie at (0, row, column) from its start, and the count goes on after the longer
    side (transformers' `get_rope_index`, which needs a batch and token types and loops over tokens).
    """
    rows, columns = grid
    is_image = ids_L == image_token
    place = (np.cumsum(is_image) - 1) % (rows * columns)
    step = np.where(is_image, np.where(place == rows * columns - 1, max(rows, columns), 0), 1)
    offset = np.stack([np.zeros_like(place), place // columns, place % columns]) * is_image
    positions: Ints = np.cumsum(step) - step + offset
    return positions
