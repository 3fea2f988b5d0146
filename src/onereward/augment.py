"""Small random changes to the two images that a judge compares, the same for every batch layout.

A small judge otherwise rewards what is no quality: a pattern on the grid of its own patches, or a picture a little
brighter than the other. A policy that climbs its gradient finds such a reward within a hundred steps (docs/log.md).

Shape legend: B pairs, H W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from onereward.seeds import python_generator, torch_generator

Keys = Sequence[tuple[int | str, ...]]
"""One a pair: what its draws are made from."""


def mirrored(first_B3HW: Tensor, second_B3HW: Tensor, keys: Keys, *, may_flip: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Half of the pairs that may be, left-right mirrored, both images alike."""
    drawn = [python_generator(*key, "mirror").random() < 0.5 for key in keys]
    flipped_B = torch.tensor([may and flip for may, flip in zip(may_flip, drawn, strict=True)])
    flipped_B111 = flipped_B.to(first_B3HW.device)[:, None, None, None]
    first_B3HW = torch.where(flipped_B111, first_B3HW.flip(-1), first_B3HW)
    return first_B3HW, torch.where(flipped_B111, second_B3HW.flip(-1), second_B3HW)


def jittered(first_B3HW: Tensor, second_B3HW: Tensor, keys: Keys, *, shift: int, tone: float) -> tuple[Tensor, Tensor]:
    """Both images of a pair moved alike by up to `shift` pixels, then each given a tone of its own; differentiable.

    What moves in at an edge is the image reflected. A tone is a gain of 1 +- `tone` and an offset of +- `tone` a
    channel, on values in [-1, 1], over the whole image: how an edit fits its surroundings stays, how bright one image
    is beside the other does not. 0 turns either off. Raises ValueError for a shift that is no part of the image.
    """
    if shift and not 0 < shift < min(first_B3HW.shape[-2:]):
        raise ValueError(f"got shift {shift}, expected pixels from 0 to below the image's shorter side")
    if shift:
        pairs = zip(first_B3HW, second_B3HW, keys, strict=True)
        moved = torch.stack([_moved(torch.stack([first, second]), key, shift) for first, second, key in pairs])
        first_B3HW, second_B3HW = moved.unbind(1)
    if tone:
        first_B3HW, second_B3HW = _toned(first_B3HW, keys, tone, "first"), _toned(second_B3HW, keys, tone, "second")
    return first_B3HW, second_B3HW


def _moved(pair_23HW: Tensor, key: tuple[int | str, ...], shift: int) -> Tensor:
    random = python_generator(*key, "shift")
    top, left = random.randrange(2 * shift + 1), random.randrange(2 * shift + 1)
    height, width = pair_23HW.shape[-2:]
    padded = functional.pad(pair_23HW, (shift,) * 4, mode="reflect")
    return padded[..., top : top + height, left : left + width]


def _toned(image_B3HW: Tensor, keys: Keys, tone: float, which: str) -> Tensor:
    drawn_B23 = torch.stack([torch.rand(2, 3, generator=torch_generator(*key, "tone", which)) for key in keys])
    change_B23 = tone * (2 * drawn_B23 - 1).to(image_B3HW)
    gain_B3, offset_B3 = change_B23.unbind(1)
    return image_B3HW * (1 + gain_B3[..., None, None]) + offset_B3[..., None, None]
