"""What edits look like in the mask, in a few plain numbers: reward hacking shows there first, as colour or as texture.

Shape legend: B images, C 3 channels, H W pixels. All numbers are of sRGB values in [0, 1], not of light.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from einops import rearrange
from torch import Tensor

_LUMA_3 = (0.2126, 0.7152, 0.0722)  # Rec. 709


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """Of one image, a mean of several, or a difference of two means.

    On photographs of 512 pixels (scikit-image's), half as much colour again adds .07 to .19 to `saturation`, a contrast
    raised by 30 % adds .03 to .06 to `contrast`, and a blur of one pixel takes .03 to .05 from `high_frequencies`.
    """

    red: float  # mean
    green: float
    blue: float
    saturation: float  # mean distance between the largest and the smallest channel
    contrast: float  # standard deviation of luma
    high_frequencies: float  # mean |4 y - its four neighbours' y| of luma y


def appearance_of(image_BCHW: Tensor, mask_B1HW: Tensor) -> list[Appearance]:
    """Of each image inside its mask (1 where new); images in [-1, 1].

    `high_frequencies` counts the pixels whose four neighbours are in the mask too, so that the mask's edge is not taken
    for detail; 0 where there is none. Raises ValueError for a mask of another size and for an empty one.
    """
    if image_BCHW.shape[0] != mask_B1HW.shape[0] or image_BCHW.shape[2:] != mask_B1HW.shape[2:]:
        shapes = f"{tuple(image_BCHW.shape)} and masks {tuple(mask_B1HW.shape)}"
        raise ValueError(f"got images {shapes}, expected one mask for each image, of its size")
    inside_BHW = rearrange(mask_B1HW > 0.5, "B 1 H W -> B H W")
    if not inside_BHW.flatten(1).any(1).all():
        raise ValueError("got an empty mask, expected some pixels to look at in each")
    image_BCHW = (image_BCHW.detach().to(torch.float64).clamp(-1, 1) + 1) / 2
    return [_of_one(image_CHW, inside_HW) for image_CHW, inside_HW in zip(image_BCHW, inside_BHW, strict=True)]


def _of_one(image_CHW: Tensor, inside_HW: Tensor) -> Appearance:
    pixels_CN = image_CHW[:, inside_HW]
    luma_HW = torch.einsum("chw,c->hw", image_CHW, image_CHW.new_tensor(_LUMA_3))
    edges_HW = torch.zeros_like(luma_HW)
    before, middle, after = slice(None, -2), slice(1, -1), slice(2, None)
    neighbours = [(before, middle), (after, middle), (middle, before), (middle, after)]
    edges_HW[middle, middle] = 4 * luma_HW[middle, middle] - sum(luma_HW[place] for place in neighbours)
    surrounded_HW = torch.zeros_like(inside_HW)
    surrounded_HW[middle, middle] = inside_HW[middle, middle]
    for place in neighbours:
        surrounded_HW[middle, middle] &= inside_HW[place]
    red, green, blue = pixels_CN.mean(1).tolist()
    return Appearance(
        red=red,
        green=green,
        blue=blue,
        saturation=float((pixels_CN.amax(0) - pixels_CN.amin(0)).mean()),
        contrast=float(luma_HW[inside_HW].std(correction=0)),
        high_frequencies=float(edges_HW[surrounded_HW].abs().mean()) if surrounded_HW.any() else 0.0,
    )


def appearance_drift(now: Sequence[Appearance], start: Sequence[Appearance]) -> Appearance:
    """The mean over `now` less that over `start`, number by number; raises ValueError if either is empty."""
    if not now or not start:
        raise ValueError(f"got {len(now)} images now and {len(start)} of the start, expected one or more of each")
    return Appearance(**{field.name: _mean(now, field.name) - _mean(start, field.name) for field in fields(Appearance)})


def _mean(looks: Sequence[Appearance], name: str) -> float:
    return float(sum(getattr(look, name) for look in looks)) / len(looks)
