"""What the judge learns from, a pair of images at a time: which pairs, in which order, and as which tensors.

Shape legend: H W pixels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from onereward.augment import jittered, mirrored
from onereward.reward import Comparison
from onereward.seeds import numpy_generator, python_generator
from onereward.store.images import decode_image, image_to_tensor
from onereward.store.rows import Rows
from onereward.terms import DIMENSIONS, Dimension, Preference, Task

_LIGHT = ("task", "dimension", "prompt", "weight", "tie")
_WHOLE_BELOW = 2**16  # bytes of a file that are all looked at to tell it from others; of a larger one the two ends


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two images and all that was voted about them: the first is the winner in row `row`, the second its loser."""

    row: int
    comparisons: tuple[Comparison, ...]


CELLS = tuple(f"{task}/{dimension}" for task in Task for dimension in DIMENSIONS[task])
"""Where a comparison can lie, as `sampling` names it."""


def pairs_of(rows: Rows[Preference], *, ties: bool) -> list[Pair]:
    """The pairs in the order of their first vote that counts, whichever image won; `ties` count if that is true.

    A pair is a triplet's two images, known by their bytes. Raises ValueError if no vote counts.
    """
    found: dict[tuple[str, frozenset[bytes]], tuple[int, bytes, list[Comparison]]] = {}
    columns = rows.columns("triplet_id", "winner", "loser", *_LIGHT)
    for row, (triplet_id, winner, loser, task, dimension, prompt, weight, tie) in enumerate(columns):
        if weight == 0 or (tie and not ties):
            continue
        winner_mark, loser_mark = _mark(winner), _mark(loser)
        key = triplet_id, frozenset((winner_mark, loser_mark))
        _, first, comparisons = found.setdefault(key, (row, winner_mark, []))
        comparisons.append(
            Comparison(
                task=Task(task),
                dimension=Dimension(dimension),
                prompt=prompt,
                first_wins=winner_mark == first,
                weight=weight,
                tie=tie,
            )
        )
    if not found:
        raise ValueError("no vote counts: all are ties, which count with a tie_weight above 0, or have the weight 0")
    return [Pair(row=row, comparisons=tuple(comparisons)) for row, _, comparisons in found.values()]


def _mark(file: memoryview) -> bytes:
    """What tells an encoded image from others."""
    data = memoryview(file)
    ends = [data] if len(data) < _WHOLE_BELOW else [data[: _WHOLE_BELOW // 2], data[-_WHOLE_BELOW // 2 :]]
    digest = hashlib.blake2b(str(len(data)).encode(), digest_size=16)
    for end in ends:
        digest.update(end)
    return digest.digest()


def draw_batch(pairs: Sequence[Pair], sampling: Mapping[str, float], seed: int, batch: int, step: int) -> list[Pair]:
    """The global batch of a step, counted from 1: epoch after epoch, each in an order of its own.

    Where `sampling` does not weigh all cells alike, pairs are drawn one by one instead, each as likely as the mean
    weight of its comparisons.
    """
    positions = range((step - 1) * batch, step * batch)
    if len(set(sampling.values())) > 1:
        weights = _weights(tuple(pairs), tuple(sampling.items()))
        return [python_generator(seed, "draw", at).choices(pairs, cum_weights=weights)[0] for at in positions]
    places = (divmod(position, len(pairs)) for position in positions)
    return [pairs[_order(seed, epoch, len(pairs))[place]] for epoch, place in places]


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    order: list[int] = numpy_generator(seed, "epoch", epoch).permutation(count).tolist()
    return order


@lru_cache(maxsize=1)
def _weights(pairs: tuple[Pair, ...], sampling: tuple[tuple[str, float], ...]) -> list[float]:
    """Running sums of the pairs' weights."""
    of_cell, total, sums = dict(sampling), 0.0, []
    for pair in pairs:
        own = [of_cell[f"{c.task}/{c.dimension}"] for c in pair.comparisons]
        total += sum(own) / len(own)
        sums.append(total)
    if total == 0:
        raise ValueError("sampling gives every pair the weight 0: raise that of a cell that has pairs")
    return sums


def images_of(rows: Rows[Preference], pair: Pair) -> tuple[Tensor, Tensor]:
    """first_3HW and second_3HW in [-1, 1], each of its own size."""
    preference = rows[pair.row]
    first, second = (
        image_to_tensor(decode_image(data, f"the {what} of {preference.triplet_id}"))
        for what, data in (("winner", preference.winner), ("loser", preference.loser))
    )
    return first, second


def augmented(
    first_3HW: Tensor, second_3HW: Tensor, task: Task, key: tuple[int, ...], *, mirror: bool, shift: int, tone: float
) -> tuple[Tensor, Tensor]:
    """The pair as this step's judge sees it; letters are never mirrored. ValueError for a shift of unequal sizes."""
    if not (mirror or shift or tone):
        return first_3HW, second_3HW
    if first_3HW.shape != second_3HW.shape:
        raise ValueError(
            f"a pair of images of {tuple(first_3HW.shape[1:])} and {tuple(second_3HW.shape[1:])} pixels cannot be "
            "moved alike: set mirror=false, shift=0 and tone=0, or bring both images to one size"
        )
    pair = first_3HW[None], second_3HW[None]
    pair = mirrored(*pair, [key], may_flip=[mirror and task is not Task.TEXT])
    first_13HW, second_13HW = jittered(*pair, [key], shift=shift, tone=tone)
    return first_13HW[0], second_13HW[0]
