"""What travels between stages: a folder of Parquet shards and the manifest that commits them.

A record is a frozen dataclass of `onereward.terms`; its fields are the columns, and every `bytes` field is an image in
the form that Hugging Face `datasets` reads and shows. Each shard carries its plan (stage, kind, config, inputs, shard
count) in its Parquet metadata, so a folder without a manifest can be resumed by looking at its shards alone:

    shard under its own name, readable, same plan   kept          (it was renamed into place whole)
    unreadable, or only a .part file                redone        (the writer was stopped)
    same name, another plan                         ValueError    (two settings must not mix in one folder)
    in the manifest, with another hash or missing   ValueError    (the data changed after it was finished)

Nothing that depends on time, place or machine is written: equal inputs and config give equal bytes.
"""

import dataclasses
import hashlib
import json
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import fsspec
import pyarrow
import pyarrow.parquet

from onereward.store.files import write_atomically

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"

Folder = str | os.PathLike[str]
"""A local path or an fsspec URL (`memory://...`, `s3://...`)."""

Record = TypeVar("Record", bound="DataclassInstance")

_PLAN_KEY = b"onereward"
_IMAGE_TYPE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
_SCALAR_TYPES = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides the content of a folder; two folders with equal plans hold equal bytes.

    `config` is the stage's config as JSON values; `inputs` maps a role to the content hash of what was read.
    """

    stage: str
    kind: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    shard_count: int


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file of a folder: its name, the SHA-256 of its bytes and its number of records."""

    name: str
    sha256: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The commit of a stage: the plan and every shard with its hash."""

    schema: int
    plan: Plan
    shards: tuple[Shard, ...]

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


def run_stage(
    output: Folder,
    *,
    kind: type[Record],
    stage: str,
    config: "DataclassInstance",
    inputs: Mapping[str, str],
    shard_count: int,
    make_shard: Callable[[int], list[Record]],
    progress: Callable[[int], None] | None = None,
    executor: Executor | None = None,
) -> Manifest:
    """Fill `output` with `shard_count` shards of `kind`, shard i being `make_shard(i)`; leave a finished folder alone.

    `inputs` are content hashes by role (see `fingerprint`). `progress` is told how many more shards are done. With an
    `executor`, shards are made there (in any order; `make_shard` must not depend on it) and written here.
    Raises ValueError if the folder holds work of another stage, config or input, or was changed after it was finished.
    """
    plan = Plan(
        stage=stage,
        kind=kind.__name__,
        config=json.loads(_to_json(dataclasses.asdict(config))),
        inputs=dict(inputs),
        shard_count=shard_count,
    )
    store = _Store(output)
    advance = progress or (lambda count: None)
    if store.exists(MANIFEST):
        manifest = read_manifest(output)
        _require_same_plan(manifest.plan, plan, output)
        for finished in manifest.shards:
            _read_checked(store, finished)
        advance(shard_count)
        return manifest

    names = [f"shard-{index:05d}.parquet" for index in range(shard_count)]
    shards = {index: shard for index, name in enumerate(names) if (shard := _finished_shard(store, name, plan))}
    advance(len(shards))
    missing = [index for index in range(shard_count) if index not in shards]
    for index, records in _made(missing, make_shard, executor):
        data = _to_parquet(records, kind, plan)
        store.write(names[index], data)
        shards[index] = Shard(name=names[index], sha256=hashlib.sha256(data).hexdigest(), rows=len(records))
        advance(1)
    manifest = Manifest(schema=SCHEMA_VERSION, plan=plan, shards=tuple(shards[index] for index in range(shard_count)))
    store.write(MANIFEST, _to_json(dataclasses.asdict(manifest), indent=1).encode())
    return manifest


def read_manifest(folder: Folder) -> Manifest:
    """The manifest of a finished folder; ValueError if the folder is missing, unfinished or of a newer schema."""
    try:
        content = json.loads(_manifest_bytes(folder))
        schema, plan, shards = content["schema"], content["plan"], content["shards"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{folder}/{MANIFEST} was not written by a stage: pass a folder that one has written"
        ) from error
    if schema > SCHEMA_VERSION:
        raise ValueError(f"{folder} has schema {schema}, this onereward reads up to {SCHEMA_VERSION}: update onereward")
    return Manifest(schema=schema, plan=Plan(**plan), shards=tuple(Shard(**shard) for shard in shards))


def fingerprint(folder: Folder) -> str:
    """SHA-256 of a finished folder's manifest: the content hash of everything in it and of what it was made from."""
    return hashlib.sha256(_manifest_bytes(folder)).hexdigest()


def read_records(folder: Folder, kind: type[Record]) -> Iterator[Record]:
    """The records of a finished folder in order, one shard in memory at a time; ValueError for a changed shard."""
    manifest = read_manifest(folder)
    for index in range(len(manifest.shards)):
        yield from read_shard(folder, kind, manifest, index)


def read_shard(folder: Folder, kind: type[Record], manifest: Manifest, index: int) -> list[Record]:
    """The records of one shard of a finished folder, its hash checked against the manifest."""
    return to_records(read_table(folder, kind, manifest, index), kind)


def read_table(folder: Folder, kind: type[Record], manifest: Manifest, index: int) -> pyarrow.Table:
    """One shard of a finished folder as it lies there, its hash checked against the manifest."""
    if manifest.plan.kind != kind.__name__:
        raise ValueError(
            f"{folder} holds {manifest.plan.kind} records (stage {manifest.plan.stage}), expected {kind.__name__}: "
            "pass the folder of the stage that writes these"
        )
    return pyarrow.parquet.read_table(pyarrow.BufferReader(_read_checked(_Store(folder), manifest.shards[index])))


def to_records(table: pyarrow.Table, kind: type[Record]) -> list[Record]:
    """The records of a table's rows; a column that an older onereward did not write has its field's default."""
    has_default = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    there = [name for name in _types(kind) if name in table.column_names or name not in has_default]
    columns = {name: _to_values(table[name].to_pylist(), _types(kind)[name]) for name in there}
    return [kind(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def shard_ranges(count: int, size: int) -> list[range]:
    """`range(count)` cut into consecutive pieces of `size` (the last may be shorter): what each shard covers."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


class _Store:
    """Whole-file reads and atomic writes in one folder of any fsspec file system."""

    def __init__(self, folder: Folder) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(os.fspath(folder))
        self.folder = folder
        self.is_local = "file" in self.fs.protocol

    def exists(self, name: str = "") -> bool:
        return bool(self.fs.exists(f"{self.root}/{name}" if name else self.root))

    def read(self, name: str) -> bytes:
        data: bytes = self.fs.cat_file(f"{self.root}/{name}")
        return data

    def write(self, name: str, data: bytes) -> None:
        if not self.is_local:
            self.fs.makedirs(self.root, exist_ok=True)
            self.fs.pipe_file(f"{self.root}/{name}", data)  # an upload to an object store appears whole or not at all
            return
        write_atomically(Path(self.root) / name, data)


def _made(
    indices: Sequence[int], make_shard: Callable[[int], list[Record]], executor: Executor | None
) -> Iterator[tuple[int, list[Record]]]:
    if executor is None:
        for index in indices:
            yield index, make_shard(index)
        return
    futures = {executor.submit(make_shard, index): index for index in indices}
    try:
        for future in as_completed(futures):
            yield futures.pop(future), future.result()  # popped so that a written shard's images leave memory
    finally:
        for future in futures:
            future.cancel()


def _finished_shard(store: _Store, name: str, plan: Plan) -> Shard | None:
    """The shard left by an earlier run that was stopped, or None if it must be made (again)."""
    if not store.exists(name):
        return None
    data = store.read(name)
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True).read()
        found = Plan(**json.loads(table.schema.metadata[_PLAN_KEY]))
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None
    _require_same_plan(found, plan, store.folder)
    return Shard(name=name, sha256=hashlib.sha256(data).hexdigest(), rows=table.num_rows)


def _require_same_plan(found: Plan, wanted: Plan, folder: Folder) -> None:
    if found == wanted:
        return
    if found.kind != wanted.kind:
        there, now = (re.sub(r"(?<!^)(?=[A-Z])", " ", plan.kind).lower() for plan in (found, wanted))
        raise ValueError(f"{folder} holds {there}s, not {now}s: choose another --output")
    old, new = _flat(dataclasses.asdict(found)), _flat(dataclasses.asdict(wanted))
    differing = [
        f"{key} (there {old.get(key)!r}, now {new.get(key)!r})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and (key == "stage" or found.stage == wanted.stage)
    ]
    raise ValueError(
        f"{folder} was made with other settings: {', '.join(differing)}; "
        "choose another --output, repeat the old settings, or delete the folder"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def _read_checked(store: _Store, shard: Shard) -> bytes:
    way_out = "copy it again from where it was made, or delete the folder and run its stage again"
    if not store.exists(shard.name):
        raise ValueError(f"{store.folder}/{shard.name} is missing although its stage finished: {way_out}")
    data = store.read(shard.name)
    found = hashlib.sha256(data).hexdigest()
    if found != shard.sha256:
        raise ValueError(
            f"{store.folder}/{shard.name} was changed after it was finished "
            f"(sha256 {found[:12]}, expected {shard.sha256[:12]}): {way_out}"
        )
    return data


def _manifest_bytes(folder: Folder) -> bytes:
    store = _Store(folder)
    if not store.exists():
        raise ValueError(f"no folder {folder}: pass a folder that a stage has written")
    if not store.exists(MANIFEST):
        raise ValueError(f"{folder} has no {MANIFEST}: run the stage that writes it (again) until it finishes")
    return store.read(MANIFEST)


def _to_parquet(records: Sequence[Record], kind: type[Record], plan: Plan) -> bytes:
    schema = _schema(kind, plan)
    columns = [
        pyarrow.array([_to_cell(getattr(record, field.name)) for record in records], type=field.type)
        for field in schema
    ]
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.Table.from_arrays(columns, schema=schema)
    pyarrow.parquet.write_table(table, sink, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _to_cell(value: Any) -> Any:
    return {"bytes": value, "path": None} if isinstance(value, bytes) else value


def _to_values(cells: list[Any], hint: type) -> list[Any]:
    if hint is bytes:
        return [cell["bytes"] for cell in cells]
    if issubclass(hint, StrEnum):
        return [hint(cell) for cell in cells]
    return cells


def _schema(kind: "type[DataclassInstance]", plan: Plan) -> pyarrow.Schema:
    """The Arrow schema of a record, with the metadata from which `datasets` learns that `bytes` fields are images."""
    arrow_types: dict[str, pyarrow.DataType] = {}
    features: dict[str, dict[str, str]] = {}
    for name, hint in _types(kind).items():
        if hint is bytes:
            arrow_types[name], features[name] = _IMAGE_TYPE, {"_type": "Image"}
        else:
            arrow_types[name] = _SCALAR_TYPES[str if issubclass(hint, StrEnum) else hint]
            features[name] = {"dtype": _DATASETS_NAMES[arrow_types[name]], "_type": "Value"}
    metadata = {
        b"huggingface": _to_json({"info": {"features": features}}).encode(),
        _PLAN_KEY: _to_json(dataclasses.asdict(plan)).encode(),
    }
    return pyarrow.schema(list(arrow_types.items()), metadata=metadata)


_DATASETS_NAMES = {
    pyarrow.string(): "string",
    pyarrow.int64(): "int64",
    pyarrow.float64(): "float64",
    pyarrow.bool_(): "bool",
}


def _types(kind: "type[DataclassInstance]") -> dict[str, type]:
    """Field name -> type, `X | None` read as X (every column may hold nulls)."""
    hints = typing.get_type_hints(kind)
    return {field.name: _without_none(hints[field.name]) for field in dataclasses.fields(kind)}


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        (hint,) = (part for part in typing.get_args(hint) if part is not type(None))
    return hint


def _to_json(values: Mapping[str, Any], indent: int | None = None) -> str:
    return json.dumps(values, sort_keys=True, indent=indent, ensure_ascii=False)
