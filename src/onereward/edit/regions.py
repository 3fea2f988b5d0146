"""What of a picture the editor is shown, and at which size: small editors see one square, FLUX multiples of 16."""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil, sqrt

import numpy
from numpy.typing import NDArray
from PIL import Image

from onereward.models.contract import Contract

_CONTEXT = 1.75
"""How much an editor is shown at least if the image has it, in multiples of the hole's sides."""


class Fit(StrEnum):
    """How a picture of any size becomes one that the editor takes; what it made is resized back and pasted in the mask.

    `crop` shows the part around the mask, at its own resolution if the editor can take that; `pad` the whole picture,
    mirrored beyond its edges up to the next size; `snap` the whole picture, resized to the nearest size.
    """

    CROP = "crop"
    PAD = "pad"
    SNAP = "snap"


@dataclass(frozen=True, kw_only=True)
class Region:
    """What the editor is shown: a box of the image, which may stick out of it, and the size it is shown at."""

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        # Around a long strip a square is far larger than the picture.
        if Image.MAX_IMAGE_PIXELS is not None and self.width * self.height > 2 * Image.MAX_IMAGE_PIXELS:
            shown = f"{self.width}x{self.height} pixels, most of them mirrored"
            raise ValueError(f"of this picture the editor would be shown {shown}: crop the picture around the mask")

    @staticmethod
    def of(mask: Image.Image, contract: Contract, fit: Fit = Fit.CROP) -> "Region":
        """The box that the fit takes of a picture with this (not empty) mask, at a size that the contract allows."""
        hole = mask.getbbox()
        assert hole is not None
        return Region.around(hole, mask.size, contract, fit)

    @staticmethod
    def around(
        hole: tuple[int, int, int, int], of_size: tuple[int, int], contract: Contract, fit: Fit = Fit.CROP
    ) -> "Region":
        """The same for a mask known by its size (width, height) and the box of what is white in it."""
        if fit is Fit.CROP:
            return _around_the_hole(hole, of_size, contract)
        width, height = of_size
        multiple, shrink = contract.size_multiple, max(1.0, sqrt(width * height / contract.max_pixels))
        if fit is Fit.SNAP:
            side = contract.native_size
            size = (side, side) if side else (_nearest(width / shrink, multiple), _nearest(height / shrink, multiple))
            return Region(left=0, top=0, width=width, height=height, size=size)
        if contract.native_size is not None:
            wide = high = max(width, height, contract.native_size)
            size = contract.native_size, contract.native_size
        else:
            wide, high = (ceil(length / multiple) * multiple for length in (width, height))
            size = _at_most(wide / shrink, multiple), _at_most(high / shrink, multiple)
        return Region(left=(width - wide) // 2, top=(height - high) // 2, width=wide, height=high, size=size)

    def show(self, image: Image.Image) -> Image.Image:
        """The box of an RGB image at the editor's size.

        Each pixel goes into one box: a wider filter would draw colours of the hole into pixels that are not masked.
        """
        return self._cut(image).resize(self.size, Image.Resampling.BOX)

    def show_mask(self, mask: Image.Image) -> Image.Image:
        """The box of the mask at the editor's size, white where any white pixel falls."""
        share = numpy.asarray(self._cut(mask).convert("F").resize(self.size, Image.Resampling.BOX))
        return Image.fromarray((share > 0).astype(numpy.uint8) * 255)

    def put_back(self, shown: Image.Image, size: tuple[int, int]) -> Image.Image:
        """An RGB image of the picture's (width, height) with `shown`, the editor's view, where it belongs."""
        box = (self.width, self.height)
        layer = Image.new("RGB", size)
        layer.paste(shown if shown.size == box else shown.resize(box, Image.Resampling.LANCZOS), (self.left, self.top))
        return layer

    def _cut(self, image: Image.Image) -> Image.Image:
        """The box, at its own size; beyond the edges the image is mirrored."""
        rows = _mirrored(self.top, self.height, image.height)
        columns = _mirrored(self.left, self.width, image.width)
        return Image.fromarray(numpy.asarray(image)[rows][:, columns])


def _around_the_hole(hole: tuple[int, int, int, int], of_size: tuple[int, int], contract: Contract) -> Region:
    """The hole with context: a square at the editor's native size, or all that `max_pixels` can hold."""
    width, height = of_size
    across, down = hole[2] - hole[0], hole[3] - hole[1]
    if contract.native_size is not None:
        wide = high = max(contract.native_size, min(ceil(_CONTEXT * max(across, down)), max(width, height)))
        size = contract.native_size, contract.native_size
    else:
        multiple, full = contract.size_multiple, sqrt(width * height / contract.max_pixels)
        part = min(1.0, max(1 / full, _CONTEXT * across / width, _CONTEXT * down / height))
        shrink = max(1.0, round(part * full, 6))  # rounded, so that 1 is 1
        wide, high = (ceil(part * length / multiple) * multiple for length in (width, height))
        size = _at_most(wide / shrink, multiple), _at_most(high / shrink, multiple)
    left, top = _start(hole[0], hole[2], wide, width), _start(hole[1], hole[3], high, height)
    return Region(left=left, top=top, width=wide, height=high, size=size)


def _start(low: int, high: int, side: int, length: int) -> int:
    """Where a stretch of `side` begins that has [low, high) in its middle and, if it fits, stays within the image."""
    if side > length:
        return (length - side) // 2
    return min(max((low + high - side) // 2, 0), length - side)


def _at_most(length: float, multiple: int) -> int:
    """The largest positive multiple up to `length`, or one `multiple`."""
    return max(multiple, int(length) // multiple * multiple)


def _nearest(length: float, multiple: int) -> int:
    """The positive multiple nearest to `length`."""
    return max(multiple, round(length / multiple) * multiple)


def _mirrored(start: int, count: int, length: int) -> NDArray[numpy.int_]:
    """Indices start .. start + count - 1 into `length` pixels, folded back at both ends."""
    folded = numpy.arange(start, start + count) % (2 * length)
    return numpy.where(folded < length, folded, 2 * length - 1 - folded)
