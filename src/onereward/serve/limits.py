"""What a server takes and keeps, so that its memory is bounded whatever it is sent."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What any server takes: `upload` bytes a request, `pixels` a picture or canvas, `waiting` requests in line."""

    upload: int = 32 * 2**20
    pixels: int = 2**25
    waiting: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"got a limit of {value} for {name}, expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class Limits(Taken):
    """Of a server of edits; `kept` finished ones in memory.

    `kept_bytes` bounds what those finished hold (what was sent and what was made); the last one is always kept.
    """

    kept: int = 64
    kept_bytes: int = 2**29
