"""Pictures of noise and masks with one hole, for the tests of editing."""

import numpy
from PIL import Image


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(numpy.random.default_rng(width).integers(0, 2**16, (height, width), dtype=numpy.uint16))
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (height, width) if bands == 1 else (height, width, bands)
    return Image.fromarray(numpy.random.default_rng(width).integers(0, 256, shape, dtype=numpy.uint8), mode)


def hole(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask
