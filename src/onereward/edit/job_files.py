"""Rows of edits from what people have: JSONL, CSV, Parquet, a folder of pictures with masks, a folder of triplets."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet

from onereward.edit.jobs import EditJob
from onereward.edit.pictures import FORMATS
from onereward.store.shards import MANIFEST, read_records
from onereward.terms import Triplet

_SUFFIXES = (".jsonl", ".csv", ".parquet")
_MASKS = (".mask", "_mask")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """A job of a batch: `name` is the stem of its files, `images` how many to make, by seeds from the job's own on."""

    name: str
    job: EditJob
    images: int


def read_rows(source: Path, defaults: Mapping[str, Any], *, images: int = 1) -> list[Row]:
    """The rows of a jobs file or a folder, in order; `defaults` are fields that a row may leave out.

    Paths count from the file's folder. A row may have, beside the fields of an EditJob, `name` and `images`. Raises
    ValueError that lists the rows which are none, FileNotFoundError if there is nothing at `source`.
    """
    if not source.exists():
        raise FileNotFoundError(2, "no such file or folder", str(source))
    rows, wrong = [], []
    for number, values in enumerate(_values_in(source), start=1):
        try:
            rows.append(_row(values, defaults, source if source.is_dir() else source.parent, number, images))
        except ValueError as error:
            wrong.append(f"row {number}: {error}")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(f"{source} has {len(wrong)} wrong rows: {'; '.join(wrong[:_SHOWN])}{more}")
    if not rows:
        raise ValueError(f"{source} holds no jobs: expected rows, or pictures with a mask NAME.mask.png beside each")
    return _with_own_names(rows)


def _values_in(source: Path) -> Iterator[Mapping[str, Any]]:
    if source.is_dir():
        return _in_triplets(source) if (source / MANIFEST).exists() else _in_folder(source)
    suffix = source.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{source} is no jobs file: expected a folder or a name ending in {', '.join(_SUFFIXES)}")
    return {".jsonl": _in_jsonl, ".csv": _in_csv, ".parquet": _in_parquet}[suffix](source)


def _in_jsonl(file: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{file}, line {number}, is no JSON: {error}") from error


def _in_csv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        for row in csv.DictReader(opened):
            yield {name: value or None for name, value in row.items()}


def _in_parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        yield from pyarrow.parquet.read_table(file).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{file} is no Parquet file: {error}") from error


def _in_triplets(folder: Path) -> Iterator[Mapping[str, Any]]:
    for triplet in read_records(folder, Triplet):
        values = asdict(triplet)
        yield {"name": values.pop("id"), **values}


def _in_folder(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Each picture with its mask, if it has one, and its prompt from NAME.txt, if there is one."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS)
    masks = {path.stem: path for path in pictures if path.stem.endswith(_MASKS)}
    for path in pictures:
        if path.stem not in masks:
            mask = next((masks[path.stem + end] for end in _MASKS if path.stem + end in masks), None)
            prompt = path.with_suffix(".txt")
            yield {
                "image": path.name,
                "mask": mask.name if mask else None,
                "prompt": prompt.read_text(encoding="utf-8").strip() if prompt.exists() else None,
            }


def _row(values: object, defaults: Mapping[str, Any], folder: Path, number: int, images: int) -> Row:
    if not isinstance(values, Mapping):
        raise ValueError(f"got {values!r}, expected an object with an image and a task")
    given = {name: value for name, value in values.items() if value is not None}
    name, count = given.pop("name", None), given.pop("images", images)
    if not str(count).isdecimal() or int(count) < 1:
        raise ValueError(f"got images {count!r}, expected a whole number from 1 up")
    job = EditJob.of({**defaults, **given}).from_folder(folder)
    if name is None:
        name = f"row-{number}" if job.image.startswith("data:") else Path(job.image).stem
    return Row(name=re.sub(r"[^\w.-]+", "-", str(name)).strip(".-") or f"row-{number}", job=job, images=int(count))


def _with_own_names(rows: Iterable[Row]) -> list[Row]:
    """Names that are there twice get their row's number; raises ValueError if that makes no difference."""
    rows = list(rows)
    often = Counter(row.name for row in rows)
    named = [
        row if often[row.name] == 1 else Row(name=f"{row.name}-row{number}", job=row.job, images=row.images)
        for number, row in enumerate(rows, start=1)
    ]
    stems = Counter(stem for row in named for stem in stems_of(row))
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
        raise ValueError(f"several rows would write {twice[0]}.png: give them other names")
    return named


def stems_of(row: Row) -> list[str]:
    """The names of a row's images without their suffix: its own, or NAME-0, NAME-1, ... of several."""
    return [row.name] if row.images == 1 else [f"{row.name}-{index}" for index in range(row.images)]
