"""All queries about one pair of images in one sequence: P ++ s1 ++ ... ++ sK, the common prefix P computed once.

A query's own tokens see P and themselves, at the positions they would have alone, so every answer is the one that a
separate forward would give. Samples of a batch may differ in the number and the length of their queries, and in the
sizes of their images.

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
Grid = tuple[int, int]
"""Rows and columns of the language model's tokens for one image."""

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


def pack(
    queries: Sequence[Sequence[Sequence[int]]], grids: Sequence[Sequence[Grid]], *, image_token: int, pad: int
) -> Pack:
    """Packs `queries[b][k]`, each one query's whole token sequence with the images' placeholders expanded.

    `grids[b]` are those of sample b's images, in the order in which its text shows them.
    """
    samples = [
        _pack_sample([np.asarray(ids) for ids in sample], image_token, own)
        for sample, own in zip(queries, grids, strict=True)
    ]
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


def _pack_sample(queries: Sequence[Ints], image_token: int, grids: Sequence[Grid]) -> tuple[Ints, Ints, Ints, Ints]:
    """ids_L, segment_L, positions_3L and last_K of one sample."""
    prefix = common_prefix(queries)
    parts = [queries[0][:prefix], *(ids[prefix:] for ids in queries)]
    lengths = [len(part) for part in parts]
    positions = [rope_positions(ids, image_token, grids) for ids in queries]
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


def rope_positions(ids_L: Ints, image_token: int, grids: Sequence[Grid]) -> Ints:
    """M-RoPE positions_3L (time, row, column) of a text whose images take `grids` rows x columns of tokens.

    Text counts up; an image's tokens lie at (0, row, column) from its start, and the count goes on after the longer
    side (transformers' `get_rope_index`, which needs a batch and token types and loops over tokens).
    """
    step = np.ones(len(ids_L), np.int64)
    offset = np.zeros((3, len(ids_L)), np.int64)
    is_image = ids_L == image_token
    places = [np.indices(grid).reshape(2, -1) for grid in grids]
    offset[1:, is_image] = np.concatenate(places, axis=1) if places else 0
    step[is_image] = np.concatenate([_steps_of(grid) for grid in grids]) if places else 0
    positions: Ints = np.cumsum(step) - step + offset
    return positions


def _steps_of(grid: Grid) -> Ints:
    """The count stands still over an image and jumps by its longer side at its last token."""
    step = np.zeros(grid[0] * grid[1], np.int64)
    step[-1] = max(grid)
    return step
