"""Rows of the tables that people have: JSONL, CSV and Parquet, a few in memory at a time."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

_ROWS_AT_ONCE = 16
_SHOWN = 5


def read_table(file: Path) -> Iterator[object]:
    """What each row holds, by column; None for no row, a ValueError for one that cannot be read.

    Raises ValueError for a file of another kind than its name says, and for a name that does not end in `TABLES`.
    """
    suffix = file.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"{file} is no table: expected a name ending in {', '.join(TABLES)}")
    kind, rows = TABLES[suffix]
    try:
        yield from rows(file)
    except (UnicodeDecodeError, csv.Error, pyarrow.ArrowException) as error:
        raise ValueError(f"{file} is no {kind}: {error}") from error


def held_file(cell: object) -> bytes | None:
    """The file that a cell holds itself, as bytes, or as bytes and path as `datasets` keeps images; None if none."""
    held = cell.get("bytes") if isinstance(cell, Mapping) else cell
    return held if isinstance(held, bytes) else None


def wrong_rows(wrong: Sequence[str], table: Path) -> str:
    """The sentence about a table's wrong rows: how many, and what is wrong with the first of them."""
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    count = f"{len(wrong)} wrong row{'s' if len(wrong) > 1 else ''}"
    return f"{table} has {count}: {'; '.join(wrong[:_SHOWN])}{more}"


def _in_jsonl(file: Path) -> Iterator[object]:
    with file.open(encoding="utf-8-sig") as lines:
        for line in lines:
            try:
                yield json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                yield ValueError(f"no JSON: {error}")


def _in_csv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        for row in csv.DictReader(opened, restkey="(more cells than the first line has)"):
            yield {name: value or None for name, value in row.items()}


def _in_parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    with pyarrow.parquet.ParquetFile(file) as opened:
        for batch in opened.iter_batches(_ROWS_AT_ONCE):
            yield from batch.to_pylist()


TABLES = {
    ".jsonl": ("text in UTF-8", _in_jsonl),
    ".csv": ("CSV in UTF-8", _in_csv),
    ".parquet": ("Parquet file", _in_parquet),
}
"""Suffix -> what the file should be, and its reader."""
