"""The numbers worked by hand on images of a few pixels."""

import pytest
import torch
from torch import Tensor

from onereward.metrics.appearance import Appearance, appearance_drift, appearance_of


def _image(value_HW: list[list[float]]) -> Tensor:
    """A grey image from values in [0, 1], as the editor makes it."""
    return torch.tensor(value_HW).expand(1, 3, -1, -1) * 2 - 1


def test_colour_and_saturation_of_what_is_in_the_mask() -> None:
    image_13HW = torch.tensor([[1.0, -1.0], [0.0, -1.0], [-0.5, -1.0]]).reshape(1, 3, 1, 2)
    (look,) = appearance_of(image_13HW, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2))
    assert (look.red, look.green, look.blue) == (1.0, 0.5, 0.25)
    assert look.saturation == 0.75
    assert look.contrast == 0.0 and look.high_frequencies == 0.0  # one pixel
    (whole,) = appearance_of(image_13HW, torch.ones(1, 1, 1, 2))
    assert whole.red == 0.5 and whole.saturation == 0.375
    # Luma .2126 + .7152 / 2 + .0722 / 4 = .58825 and 0: both lie half of it from their mean.
    assert whole.contrast == pytest.approx(0.58825 / 2)


def test_high_frequencies_are_the_laplacian_where_all_neighbours_are_in_the_mask() -> None:
    image = _image([[0.0, 0.0, 0.0, 1.0], [0.0, 0.5, 0.25, 1.0], [0.0, 0.0, 0.0, 1.0]])
    (whole,) = appearance_of(image, torch.ones(1, 1, 3, 4))
    # |4 * .5 - .25| = 1.75 and |4 * .25 - .5 - 1| = .5; the border has no four neighbours.
    assert whole.high_frequencies == pytest.approx((1.75 + 0.5) / 2)
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]).reshape(1, 1, 3, 4)
    assert appearance_of(image, mask)[0].high_frequencies == pytest.approx(1.75)
    assert appearance_of(_image([[0.3] * 4] * 3), mask)[0].high_frequencies == pytest.approx(0, abs=1e-12)


def test_each_image_of_a_batch_is_looked_at_by_itself() -> None:
    images = torch.cat([_image([[0.0, 1.0]]), _image([[0.5, 0.5]])]).requires_grad_()
    first, second = appearance_of(images, torch.ones(2, 1, 1, 2))
    assert first.contrast == pytest.approx(0.5) and second.contrast == pytest.approx(0.0, abs=1e-12)


def test_drift_is_the_difference_of_the_means() -> None:
    def grey(value: float, saturation: float) -> Appearance:
        return Appearance(
            red=value, green=value, blue=value, saturation=saturation, contrast=0.1, high_frequencies=0.25
        )

    moved = appearance_drift([grey(0.5, 0.2), grey(1.0, 0.4)], [grey(0.25, 0.1)])
    assert (moved.red, moved.contrast, moved.high_frequencies) == (0.5, 0.0, 0.0)
    assert moved.saturation == pytest.approx(0.2)
    with pytest.raises(ValueError, match="got 0 images now"):
        appearance_drift([], [grey(0.5, 0.2)])


def test_masks_must_fit_and_hold_something() -> None:
    with pytest.raises(ValueError, match="one mask for each image"):
        appearance_of(torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 3))
    with pytest.raises(ValueError, match="empty mask"):
        appearance_of(torch.zeros(2, 3, 4, 4), torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)]))
