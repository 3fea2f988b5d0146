"""The files that people's tables lie in: their columns, and their rows in order from any one on.

JSONL and CSV are read line by line, Parquet a few rows at a time, though one page of it may be a whole row group. JSON
has to be held whole; it holds paths, not images.
"""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from onereward.readers.cells import Reason, Rejected, Row
from onereward.store.tables import read_table

_ROWS_AT_ONCE = 16
_BUFFER = 1 << 20


class InputFile(ABC):
    """A table in a file; a row that cannot be read is a `Rejected` in its place."""

    starts_anywhere = True
    """Whether `rows` comes to any row without reading those before it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The names of the columns; of JSON those of its first row."""

    @abstractmethod
    def rows(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row | Rejected]:
        """The rows from number `start` (counted from 0) on; of a Parquet file only `columns`, where given, are read."""

    def count(self) -> int:
        return sum(1 for _ in self.rows())


class _ParquetFile(InputFile):
    @cached_property
    def _file(self) -> pyarrow.parquet.ParquetFile:
        try:
            return pyarrow.parquet.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)
        except pyarrow.ArrowException as error:
            raise ValueError(f"{self.path} is no Parquet file: {error}") from error

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._file.schema_arrow.names)

    def rows(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row | Rejected]:
        row = 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if row + count <= start:
                row += count
                continue
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=columns):
                yield from batch.slice(max(0, start - row)).to_pylist()
                row += batch.num_rows

    def count(self) -> int:
        return int(self._file.metadata.num_rows)


class _JsonFile(InputFile):
    """A list of objects; or one object, whose rows are a `name` and its `values` (a list) or `entries` (an object)."""

    @cached_property
    def _rows(self) -> list[Row | Rejected]:
        try:
            content = json.loads(self.path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{self.path} is no JSON: {error}") from error
        if isinstance(content, list):
            return [_as_row(row) for row in content]
        if isinstance(content, dict):
            return [
                {"name": name, "entries" if isinstance(value, Mapping) else "values": value}
                for name, value in content.items()
            ]
        raise ValueError(f"{self.path} holds {type(content).__name__}, expected a list of objects, or an object")

    @property
    def columns(self) -> tuple[str, ...]:
        return _columns_of_first(self._rows)

    def rows(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row | Rejected]:
        return (self._rows[number] for number in range(start, len(self._rows)))


class _JsonLinesFile(InputFile):
    starts_anywhere = False

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return _columns_of_first(self.rows())

    def rows(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row | Rejected]:
        return islice((_as_row(row) for row in read_table(self.path) if row is not None), start, None)


class _CsvFile(InputFile):
    starts_anywhere = False

    @cached_property
    def columns(self) -> tuple[str, ...]:
        with self.path.open(encoding="utf-8-sig", newline="") as opened:
            try:
                return tuple(next(csv.reader(opened), ()))
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(f"{self.path} is no CSV in UTF-8: {error}") from error

    def rows(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row | Rejected]:
        return islice((self._as_row(row) for row in read_table(self.path)), start, None)

    def _as_row(self, row: object) -> Row | Rejected:
        assert isinstance(row, Mapping)
        if row.keys() - set(self.columns):
            return Rejected(Reason.UNREADABLE, f"more cells than the {len(self.columns)} of the first line")
        return row


SUFFIXES: dict[str, type[InputFile]] = {
    ".parquet": _ParquetFile,
    ".jsonl": _JsonLinesFile,
    ".json": _JsonFile,
    ".csv": _CsvFile,
}


def open_input(path: Path) -> InputFile:
    """The table in a file; ValueError for an unknown suffix, FileNotFoundError if there is nothing."""
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is no table: expected a name ending in {', '.join(SUFFIXES)}")
    return SUFFIXES[path.suffix.lower()](path)


def input_files(paths: Sequence[Path]) -> dict[str, Path]:
    """Name -> file of what the user named: files, and the tables that lie in folders (of one suffix), in order.

    Raises ValueError for a folder without tables, or with several kinds of them, and for two files of one name.
    """
    files: dict[str, Path] = {}
    for path in paths:
        for file in _tables_in(path) if path.is_dir() else [path]:
            if file.name in files:
                raise ValueError(
                    f"got two files named {file.name} ({files[file.name]}, {file}): give each its own name"
                )
            files[file.name] = file
    return files


def _tables_in(folder: Path) -> list[Path]:
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    kinds = sorted({path.suffix.lower() for path in tables})
    if len(kinds) != 1:
        found = f"tables of several kinds ({', '.join(kinds)})" if kinds else "no table"
        raise ValueError(f"{folder} holds {found}: name the files to read, ending in {', '.join(SUFFIXES)}")
    return tables


class Cursor:
    """Rows of a file by number: quick for those that come one after the other, right for any."""

    def __init__(self, file: InputFile, columns: Sequence[str]) -> None:
        self._file, self._columns = file, columns
        self._rows: Iterator[Row | Rejected] = iter(())
        self._next: int | None = None

    def row(self, number: int) -> Row | Rejected:
        """The row of this number, counted from 0."""
        if self._next is None or number < self._next or (number > self._next and self._file.starts_anywhere):
            self._rows, self._next = self._file.rows(number, self._columns), number
        row = next(islice(self._rows, number - self._next, None))
        self._next = number + 1
        return row


def _as_row(row: object) -> Row | Rejected:
    if isinstance(row, Mapping):
        return row
    return Rejected(Reason.UNREADABLE, str(row) if isinstance(row, ValueError) else f"{row!r} is no object"[:200])


def _columns_of_first(rows: Any) -> tuple[str, ...]:
    return next((tuple(row) for row in rows if isinstance(row, Mapping)), ())
