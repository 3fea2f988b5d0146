"""The pairs to score, from tables that people have: JSONL, CSV, Parquet (with the pictures in it, if they like).

A row says `first` and `second` (paths from the table's folder, or files in the cells), `task`, `dimension` (one or
several, none for all that apply), `prompt` and `id`; other columns are not read.
"""

import errno
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from onereward.edit.judge import asked_dimensions
from onereward.store.tables import held_file, read_table, wrong_rows
from onereward.terms import Dimension, Task, task_named

logger = logging.getLogger(__name__)

_COLUMNS = ("id", "first", "second", "task", "dimension", "prompt")
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a row asks that does not say it itself."""

    task: Task | None = None
    dimensions: tuple[Dimension, ...] = ()
    prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A pair to score; its pictures are paths, or encoded files. `number` counts the table's rows from 1."""

    number: int
    id: str
    task: Task
    dimensions: tuple[Dimension, ...]
    prompt: str
    first: Path | bytes = field(repr=False)
    second: Path | bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table without wrong rows: how many pairs it has, and the SHA-256 of what they say and of their pictures."""

    path: Path
    defaults: Defaults
    pairs: int
    sha256: str


class Rows:
    """The rows of a table, range after range without starting again."""

    def __init__(self, table: Table) -> None:
        folder, defaults = table.path.parent, table.defaults
        self._rows = (_row(values, number, folder, defaults) for number, values in _numbered(table.path))
        self._at = 0

    def take(self, places: range) -> list[Row]:
        """The rows at `places`, which come after all those taken before."""
        taken = list(islice(self._rows, places.start - self._at, places.stop - self._at))
        self._at = places.stop
        return taken


def survey(path: Path, defaults: Defaults = Defaults()) -> Table:
    """Look at every row and every picture's bytes once; a picture that is missing or damaged makes no row wrong.

    Raises FileNotFoundError if there is no table, ValueError that lists the rows which are wrong, or for none at all.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "no such file or directory", str(path))
    wrong: list[str] = []
    row_of: dict[str, int] = {}
    columns: set[str] = set()
    digest, pictures = hashlib.sha256(), _Pictures()
    for number, values in _numbered(path):
        try:
            row = _row(values, number, path.parent, defaults)
            if row.id in row_of:
                raise ValueError(f"row {row_of[row.id]} has its id {row.id!r} already")
        except ValueError as error:
            wrong.append(f"row {number}: {error}")
            continue
        row_of[row.id] = number
        columns.update(values)
        asked = [row.id, row.task, row.dimensions, row.prompt]
        digest.update(json.dumps(asked).encode() + pictures.digest(row.first) + pictures.digest(row.second))
    if wrong:
        raise ValueError(wrong_rows(wrong, path))
    if not row_of:
        raise ValueError(f"{path} holds no pairs: expected rows with first, second and task")
    if unread := columns - set(_COLUMNS):
        logger.warning("%s: columns that are not read: %s", path, ", ".join(sorted(unread)))
    return Table(path=path, defaults=defaults, pairs=len(row_of), sha256=digest.hexdigest())


def file_of(picture: Path | bytes, name: str) -> bytes:
    """The encoded file; ValueError, calling it `name`, if its path leads to none; a sick disk stays an OSError."""
    if isinstance(picture, bytes):
        return picture
    try:
        return picture.read_bytes()
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise ValueError(f"cannot read {name}: {str(error.strerror).lower()}") from error
    except ValueError as error:  # a NUL in the path
        raise ValueError(f"cannot read {name}: {error}") from error


class _Pictures:
    """Digests of pictures, a file's read once."""

    def __init__(self) -> None:
        self._known: dict[Path, bytes] = {}

    def digest(self, picture: Path | bytes) -> bytes:
        if isinstance(picture, bytes):
            return hashlib.sha256(picture).digest()
        if picture not in self._known:
            try:
                self._known[picture] = hashlib.sha256(file_of(picture, "the picture")).digest()
            except ValueError:
                self._known[picture] = b"none"
        return self._known[picture]


def _numbered(path: Path) -> Iterator[tuple[int, Any]]:
    """What the rows that are there hold, each with its number."""
    return ((number, values) for number, values in enumerate(read_table(path), start=1) if values is not None)


def _row(values: Any, number: int, folder: Path, defaults: Defaults) -> Row:
    """Raises ValueError for a row that does not say what it should."""
    if isinstance(values, ValueError):
        raise values
    if not isinstance(values, Mapping):
        raise ValueError(f"got {values!r}, expected an object with first, second and task")
    given = {name: values[name] for name in _COLUMNS if values.get(name) not in (None, "", [])}
    task = given.get("task", defaults.task)
    missing = [name for name in ("first", "second") if name not in given] + (["task"] if task is None else [])
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing: a row has first, second and task")
    prompt = _text("prompt", given.get("prompt", defaults.prompt))
    task = task_named(_text("task", task))
    return Row(
        number=number,
        id=str(given.get("id", f"row-{number}")),
        task=task,
        dimensions=asked_dimensions(task, prompt, _names(given.get("dimension", defaults.dimensions))),
        prompt=prompt,
        first=_picture("first", given["first"], folder),
        second=_picture("second", given["second"], folder),
    )


def _names(cell: object) -> Sequence[str]:
    """One name, several with commas between them, or a list."""
    if isinstance(cell, str):
        return [name.strip() for name in cell.split(",")]
    if not isinstance(cell, list | tuple):
        raise ValueError(f"got dimension {cell!r}, expected names")
    return [_text("dimension", name) for name in cell]


def _picture(name: str, cell: object, folder: Path) -> Path | bytes:
    held = held_file(cell)
    if held is not None:
        return held
    return folder / _text(name, cell.get("path") if isinstance(cell, Mapping) else cell)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"got {name} {value!r}, expected text")
