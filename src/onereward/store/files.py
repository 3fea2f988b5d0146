"""Files and folders that appear whole or not at all, also over a crash or a power cut."""

import os
import shutil
from pathlib import Path

PART = ".part"
"""What the names of unfinished files and folders end with; a stopped process may leave one, the next removes it."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a local file under another name and rename it when it is whole; a failed write leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def fresh_part(folder: Path) -> Path:
    """An empty folder in which to write what `publish` then puts in the place of `folder`."""
    part = folder.with_name(folder.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def publish(part: Path, folder: Path) -> None:
    """Bring everything in `part` to the disk and rename it to `folder`, which must not be there."""
    for path in [*part.rglob("*"), part]:
        _sync(path)
    part.rename(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's list of names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
