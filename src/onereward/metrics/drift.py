"""Drift: how much an editor changes where it was not asked to."""

import numpy as np
from numpy.typing import NDArray


def drift_outside(source_HW3: NDArray[np.uint8], output_HW3: NDArray[np.uint8], mask_HW: NDArray[np.bool_]) -> float:
    """Mean absolute difference outside the mask before paste-back, in grey levels (0 to 255); 0 if nothing is outside.

    Raises ValueError when the three sizes differ.
    """
    if source_HW3.shape != output_HW3.shape or source_HW3.shape[:2] != mask_HW.shape:
        sizes = f"{source_HW3.shape}, {output_HW3.shape} and {mask_HW.shape}"
        raise ValueError(f"got source, output and mask of shapes {sizes}, expected one height and width")
    if mask_HW.all():
        return 0.0
    return float(np.abs(source_HW3.astype(np.float64) - output_HW3.astype(np.float64))[~mask_HW].mean())
