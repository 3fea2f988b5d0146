"""What a cell of somebody's table holds (words, numbers, an image), and what makes a row corrupt."""

import errno
import hashlib
import math
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from onereward.store.images import decode_image
from onereward.store.tables import held_file

Row = Mapping[str, Any]
"""The cells of one row by the names that a layout gives them; a name that is not there is an empty cell."""

_LONGEST_SHOWN = 60


class Reason(StrEnum):
    """Why a row gives no preference."""

    UNREADABLE = "unreadable row"
    MISSING_VALUE = "missing value"
    UNKNOWN_LABEL = "unknown label"
    MISSING_FILE = "missing image file"
    EMPTY_IMAGE = "empty image"
    BROKEN_IMAGE = "image does not decode"
    UNLABELLED = "no label"


class Rejected(Exception):
    """A row that gives no preference: the reason by which it is counted, and the detail that finds the fault.

    All reasons but UNLABELLED, which a set may have on purpose, mean that the row is corrupt.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def text(row: Row, name: str) -> str:
    """The words in a cell; rejects an empty one."""
    return str(value(row, name))


def optional_text(row: Row, name: str, default: str = "") -> str:
    """The words in a cell, `default` for an empty one."""
    cell = row.get(name)
    return default if is_empty(cell) else str(cell)


def value(row: Row, name: str) -> Any:
    """A cell as it is; rejects an empty one."""
    cell = row.get(name)
    if is_empty(cell):
        raise Rejected(Reason.MISSING_VALUE, name)
    return cell


def numbers(row: Row, name: str) -> tuple[float, ...]:
    """The number in a cell, or those in its list, also written as words; rejects an empty cell and any other thing."""
    return tuple(_number(cell, name) for cell in items(row, name))


def items(row: Row, name: str) -> tuple[Any, ...]:
    """What the list in a cell holds, or the cell's only content; rejects an empty one."""
    cell = value(row, name)
    return tuple(cell) if isinstance(cell, list) else (cell,)


def _number(cell: object, name: str) -> float:
    if is_empty(cell):
        raise Rejected(Reason.MISSING_VALUE, name)
    try:
        if isinstance(cell, str | int | float) and math.isfinite(found := float(cell)):
            return found
    except ValueError:
        pass
    raise Rejected(Reason.UNKNOWN_LABEL, f"{name} is {_shown(cell)}, expected a number")


def label(
    row: Row, name: str, meanings: Mapping[str, tuple[float, ...]], default: str | None = None
) -> tuple[float, ...]:
    """What the word in a cell means, by `meanings`; rejects an unknown word and, without a default, an empty cell."""
    word = (text(row, name) if default is None else optional_text(row, name, default)).strip().lower()
    if word not in meanings:
        raise Rejected(Reason.UNKNOWN_LABEL, f"{name} is {_shown(word)}, expected {', '.join(meanings)}")
    return meanings[word]


def is_empty(cell: object) -> bool:
    """Whether a cell says nothing: null, no word at all, or the not-a-number that tables write for null."""
    return (
        cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and math.isnan(cell))
    )


def image_file(cell: object, folder: Path) -> bytes:
    """The encoded image that a cell holds, or that the path in it leads to from `folder`; rejects what gives none."""
    held = held_file(cell)
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    if held is None and is_empty(path):
        raise Rejected(Reason.MISSING_VALUE, "an image")
    if held is None and not isinstance(path, str):
        raise Rejected(Reason.UNKNOWN_LABEL, f"an image is {_shown(path)}, expected its bytes or its path")
    data = _read(folder, str(path)) if held is None else held
    if not data:
        raise Rejected(Reason.EMPTY_IMAGE, f"{path} has 0 bytes" if isinstance(path, str) else "0 bytes")
    return data


def _read(folder: Path, path: str) -> bytes:
    try:
        return (folder / path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:  # ValueError: a null in it
        raise Rejected(Reason.MISSING_FILE, path) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Rejected(Reason.MISSING_FILE, _shown(path)) from error
        raise  # the machine's fault, not the row's


def require_image(data: bytes, name: str) -> None:
    """Reject, calling it `name`, a file that does not decode to the last pixel, and an image without pixels."""
    try:
        size = decode_image(data).size
    except ValueError as error:
        cause = re.sub(r" <.*>", "", str(error.__cause__))  # Pillow tells where in memory the file lay
        raise Rejected(Reason.BROKEN_IMAGE, f"{name} ({len(data)} bytes): {cause}") from error
    if 0 in size:
        raise Rejected(Reason.EMPTY_IMAGE, f"{name} has {size[0]}x{size[1]} pixels")


def _shown(cell: object) -> str:
    text = repr(cell)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def short_hash(*parts: str | bytes) -> str:
    """16 hexadecimal digits that name the parts by content."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
