"""Random access to a folder's records: one memory-mapped file, so that a training draws any of millions of images."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import repeat
from pathlib import Path
from typing import Any, Generic, overload

import pyarrow
import pyarrow.ipc

from onereward.store.files import PART
from onereward.store.shards import Folder, Record, fingerprint, read_manifest, read_table, to_records

_CHUNK = 64  # records that lie together in the file
_KEY = b"onereward-fingerprint"


class Rows(Sequence[Record], Generic[Record]):
    """The records of `write_rows`' file; only those asked for are read."""

    def __init__(self, file: Path, kind: type[Record]) -> None:
        self._table = pyarrow.ipc.open_file(pyarrow.memory_map(str(file))).read_all()
        self._kind = kind

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> "list[Record]": ...

    def __getitem__(self, index: int | slice) -> "Record | list[Record]":
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return to_records(self._table.slice(place, 1), self._kind)[0]

    def columns(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """The values of some columns, row after row; those that hold images come as buffers that are not read yet."""
        return zip(*map(self._column, names), strict=True)

    def _column(self, name: str) -> Iterator[Any]:
        if name in self._table.column_names:
            return _values(self._table[name])
        (default,) = (field.default for field in fields(self._kind) if field.name == name)
        return repeat(default, len(self))


def _values(column: pyarrow.ChunkedArray) -> Iterator[Any]:
    for chunk in column.chunks:
        if pyarrow.types.is_struct(chunk.type):
            yield from (cell.as_buffer() for cell in chunk.field("bytes"))
        else:
            yield from chunk.to_pylist()


def write_rows(folder: Folder, kind: type[Record], file: Path) -> None:
    """Copy a finished folder into `file`, unless that holds it already; ValueError as `read_records`."""
    manifest, content = read_manifest(folder), fingerprint(folder).encode()
    if file.exists() and _content_of(file) == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + PART)
    writer = None
    for index in range(len(manifest.shards)):
        table = read_table(folder, kind, manifest, index)
        schema = table.schema.with_metadata({_KEY: content})
        writer = writer or pyarrow.ipc.new_file(str(part), schema)
        writer.write_table(table.replace_schema_metadata(schema.metadata), max_chunksize=_CHUNK)
    if writer is None:
        raise ValueError(f"{folder} holds no record")
    writer.close()
    part.replace(file)


def _content_of(file: Path) -> bytes | None:
    with pyarrow.memory_map(str(file)) as source:
        metadata: dict[bytes, bytes] = pyarrow.ipc.open_file(source).schema.metadata or {}
    return metadata.get(_KEY)
