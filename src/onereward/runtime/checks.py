"""What the numbers of a config must be, checked when it is made."""

from collections.abc import Sequence
from math import isfinite


def require(config: object, *, at_least: float, at_most: float = float("inf"), fields: Sequence[str]) -> None:
    """Raises ValueError, naming the field and its value, for the first of `fields` outside [at_least, at_most]."""
    for field in fields:
        value = getattr(config, field)
        if not (at_least <= value <= at_most and isfinite(value)):
            wanted = f"{at_least} or more" if at_most == float("inf") else f"a number from {at_least} to {at_most}"
            raise ValueError(f"got {field} {value}, expected {wanted}")
