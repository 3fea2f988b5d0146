"""An extend as an edit: a larger canvas with the picture on it, and the mask of what is new."""

from dataclasses import dataclass
from math import ceil

import numpy
from PIL import Image

from onereward.edit.pictures import editable, upright


@dataclass(frozen=True, kw_only=True)
class Borders:
    """How many pixels an extend adds on each side."""

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    @staticmethod
    def to_size(size: tuple[int, int], wanted: tuple[int, int]) -> "Borders":
        """What makes an image of `size` (width, height) the wanted size, the image in the middle.

        Raises ValueError if the wanted size is smaller than the image.
        """
        wider, higher = wanted[0] - size[0], wanted[1] - size[1]
        if wider < 0 or higher < 0:
            got = f"{wanted[0]}x{wanted[1]} for an image of {size[0]}x{size[1]}"
            raise ValueError(f"an extend only adds pixels, got {got}: ask for a larger size or crop the image first")
        return Borders(left=wider // 2, right=wider - wider // 2, top=higher // 2, bottom=higher - higher // 2)

    @staticmethod
    def to_ratio(size: tuple[int, int], ratio: tuple[int, int]) -> "Borders":
        """The least that gives an image of `size` the ratio width : height (rounded up), the image in the middle."""
        (width, height), (wide, high) = size, ratio
        return Borders.to_size(size, (max(width, ceil(height * wide / high)), max(height, ceil(width * high / wide))))


def extend_canvas(image: Image.Image, borders: Borders) -> tuple[Image.Image, Image.Image]:
    """The larger canvas with the (upright) image on it, and the mask of what is new, for an edit with task `extend`.

    What is new shows the nearest pixel of the image: an editor does not see it, a feathered edge fades into it.
    Raises ValueError if a border is negative or all are 0, and if the canvas would be too large for a picture.
    """
    sides = (borders.left, borders.right, borders.top, borders.bottom)
    if min(sides) < 0 or max(sides) == 0:
        raise ValueError(f"got {borders}: no side may be negative and one at least must be above 0")
    image = editable(upright(image, "the image"))
    width, height = image.width + borders.left + borders.right, image.height + borders.top + borders.bottom
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"an extend to {width}x{height} is too large: at most {Image.MAX_IMAGE_PIXELS:,} pixels")
    new = ((borders.top, borders.bottom), (borders.left, borders.right))
    pixels = numpy.asarray(image)
    canvas = Image.fromarray(numpy.pad(pixels, (*new, (0, 0))[: pixels.ndim], mode="edge"))
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, (borders.left, borders.top, borders.left + image.width, borders.top + image.height))
    canvas.info = dict(image.info)
    return canvas, mask
