"""An extend as an edit: the canvas and the mask of what is new."""

from collections.abc import Callable

import numpy
import pytest

from onereward.edit.canvas import Borders, extend_canvas
from tests.pictures import noise


@pytest.mark.parametrize(
    ("size", "borders", "wanted"),
    [
        ((400, 300), Borders.to_ratio((400, 300), (16, 9)), (534, 300)),  # 300 * 16 / 9 = 533.3
        ((300, 400), Borders.to_ratio((300, 400), (16, 9)), (712, 400)),  # 711.1
        ((400, 300), Borders.to_ratio((400, 300), (1, 1)), (400, 400)),
        ((400, 300), Borders.to_size((400, 300), (403, 500)), (403, 500)),
        ((30, 20), Borders(left=3, bottom=7), (33, 27)),
    ],
)
def test_an_extend_has_the_wanted_canvas(size: tuple[int, int], borders: Borders, wanted: tuple[int, int]) -> None:
    image = noise(*size)
    canvas, mask = extend_canvas(image, borders)
    assert canvas.size == mask.size == wanted
    assert abs(borders.left - borders.right) <= 1 or borders == Borders(left=3, bottom=7)
    old = (borders.left, borders.top, borders.left + size[0], borders.top + size[1])
    assert canvas.crop(old).tobytes() == image.tobytes()
    assert mask.crop(old).getextrema() == (0, 0)
    assert int((numpy.asarray(mask) == 255).sum()) == wanted[0] * wanted[1] - size[0] * size[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Borders.to_size((40, 30), (39, 50)), "only adds pixels, got 39x50 for an image of 40x30"),
        (lambda: extend_canvas(noise(4, 4), Borders(left=-1, top=3)), "no side may be negative"),
        (lambda: extend_canvas(noise(4, 4), Borders.to_ratio((4, 4), (2, 2))), "one at least must be above 0"),
    ],
)
def test_an_extend_that_adds_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
