import numpy as np
import pytest

from onereward.metrics.drift import drift_outside


def test_drift_counts_only_outside_the_mask() -> None:
    source = np.full((2, 2, 3), 100, dtype=np.uint8)
    output = source.copy()
    output[0, 0] = 255  # inside the mask
    output[1, 1] = 94  # outside: 6 levels in one of three pixels
    mask = np.array([[True, False], [False, False]])
    assert drift_outside(source, output, mask) == 2.0
    assert drift_outside(source, output, np.ones((2, 2), dtype=bool)) == 0.0


def test_sizes_must_agree() -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="one height and width"):
        drift_outside(image, image, np.zeros((3, 2), dtype=bool))
